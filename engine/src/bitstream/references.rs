//! The samples that a sample needs: the references of an H.265 picture, and the part that AV1 and VP9 have in common.
//!
//! AV1 and VP9 keep decoded frames in eight slots, and every frame header says which slots the frame reads and writes.
//! The trackers of `av1_refs` and `vp9_refs` turn slots into samples; [`needed`] computes the closure. Reading headers
//! is left to them.
//!
//! Proof that this is exact: let a set of samples contain, for each of its samples, the last writer of every state that
//! the sample reads. Take the first slot (or other state) that a sample of the set reads. Its last writer is in the
//! set, and no omitted sample between the two writes it, or that would be the last writer. So the sample reads the same
//! state as in a sequential decode, and writes the same; by induction this holds up to the target. No sample of the set
//! reads a state that an omitted sample would have written. The trackers must name every state that a sample reads.

use super::hevc_slice::PictureKind;

/// An H.265 picture in the reference graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Samples that this picture may refer to, ascending: the elements of its reference picture set with UsedByCurrPic
    /// (8.3.2).
    pub refs: Box<[u32]>,
    /// Picture order count, relative to the GOP's own origin: the high bits of its first picture's count are 0.
    pub poc: i32,
    /// The sample of its associated IRAP picture; its own for an IRAP.
    pub irap: u32,
    /// The kind of its NAL unit type.
    pub kind: PictureKind,
    /// `log2_max_pic_order_cnt_lsb_minus4` + 4: the number of low bits of the count in its header.
    pub log2_max_poc_lsb: u8,
    /// It becomes prevTid0Pic for the picture order counts of later pictures (8.3.1).
    pub is_tid0: bool,
    /// `pic_output_flag`.
    pub is_output: bool,
    /// The sample has NAL units that must reach the decoder even if its slices are left out: parameter sets, persistent
    /// SEI messages ([`super::hevc::outlives_its_picture`]).
    pub has_sets: bool,
}

/// The references and effects of one AV1 or VP9 sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleReferences {
    /// Samples of the state that its frames read, ascending, without duplicates and without itself. They do not include
    /// the random access point, which [`needed`] adds.
    pub refs: Vec<u32>,
    /// It begins with a key frame that resets all state: no earlier sample affects it or later samples.
    pub is_key: bool,
    /// Its frames write slots: later samples may refer to it.
    pub refreshes: bool,
    /// It shows a picture, its own or an earlier one.
    pub shows: bool,
}

/// The samples that must be decoded for `target`, ascending, itself the last; `units[0]` is that of sample `first`. The
/// nearest random access point before the target is always included, since it sets the state of the whole sequence. If
/// a unit is unknown (`None`), the result is all samples from the random access point on. `None` if there is no random
/// access point.
pub fn needed(first: u32, units: &[Option<SampleReferences>], target: u32) -> Option<Vec<u32>> {
    let last = usize::try_from(target.checked_sub(first)?).ok()?;
    let until = units.get(..=last)?;
    let is_start = |unit: &Option<SampleReferences>| unit.as_ref().is_some_and(|unit| unit.is_key);
    let start = until.iter().rposition(is_start)?;
    let mut required = vec![false; last + 1 - start];
    (required[0], required[last - start]) = (true, true);
    // References only go backwards, so one pass from the target to the random access point visits each sample before
    // its references.
    for at in (start..=last).rev().filter(|&at| at > start) {
        if !required[at - start] {
            continue;
        }
        let Some(unit) = &until[at] else {
            required[..=at - start].fill(true);
            continue;
        };
        for &sample in &unit.refs {
            let place = sample.checked_sub(first).and_then(|sample| usize::try_from(sample).ok()?.checked_sub(start));
            *required.get_mut(place?)? = true;
        }
    }
    let base = first.checked_add(u32::try_from(start).ok()?)?;
    Some((base..).zip(required).filter_map(|(sample, wanted)| wanted.then_some(sample)).collect())
}

/// As [`needed`], for a decoder that has decoded `position` last: the samples after it. `holds` says whether the decoder
/// has decoded a sample and still has what that sample wrote; it is asked about the last writers of the state that the
/// result reads. `None` if one of these is missing, or if the result would begin at a random access point after
/// `position`: then a decode from there takes no more samples.
///
/// This is exact for codecs whose state lies in slots (AV1): no sample after the last writer of a slot has written to
/// it, neither in a sequential decode nor, therefore, in one that left samples out. So the slot holds what it holds in a
/// sequential decode.
pub fn needed_after(
    first: u32,
    units: &[Option<SampleReferences>],
    target: u32,
    position: u32,
    holds: impl Fn(u32) -> bool,
) -> Option<Vec<u32>> {
    let mut all = needed(first, units, target)?;
    let after = all.partition_point(|&sample| sample <= position);
    if after == 0 {
        return None;
    }
    let samples = all.split_off(after);
    let is_complete = |sample: &u32| match units.get((sample - first) as usize) {
        Some(Some(unit)) => unit.refs.iter().all(|&of| of > position || holds(of)),
        // Unknown: it may read everything.
        _ => all.iter().all(|&of| holds(of)),
    };
    samples.iter().all(is_complete).then_some(samples)
}

/// Sorted, without duplicates and without the sample itself.
pub(super) fn tidy(mut refs: Vec<u32>, sample: u32) -> Vec<u32> {
    refs.sort_unstable();
    refs.dedup();
    refs.retain(|&other| other != sample);
    refs
}

#[cfg(test)]
mod tests {
    use super::{SampleReferences, needed, needed_after};

    fn unit(refs: &[u32]) -> Option<SampleReferences> {
        Some(SampleReferences { refs: refs.into(), is_key: refs.is_empty(), refreshes: true, shows: true })
    }

    #[test]
    fn a_pyramid_needs_its_spine() {
        let units = [unit(&[]), unit(&[10]), unit(&[10, 11]), unit(&[11, 12]), unit(&[11]), unit(&[10])];
        assert_eq!(needed(10, &units, 10), Some(vec![10]));
        assert_eq!(needed(10, &units, 13), Some(vec![10, 11, 12, 13]));
        assert_eq!(needed(10, &units, 14), Some(vec![10, 11, 14]));
        assert_eq!(needed(10, &units, 15), Some(vec![10, 15]));
        assert_eq!((needed(10, &units, 9), needed(10, &units, 16)), (None, None));
    }

    #[test]
    fn after_a_checkpoint_only_the_rest_is_needed_if_its_references_are_held() {
        let units = [unit(&[]), unit(&[10]), unit(&[10, 11]), unit(&[11, 12]), unit(&[11]), unit(&[10])];
        let after = |position: u32, held: &[u32], target: u32| {
            needed_after(10, &units, target, position, |sample| held.contains(&sample))
        };
        assert_eq!(after(11, &[10, 11], 13), Some(vec![12, 13]));
        assert_eq!(after(12, &[11], 14), Some(vec![14]));
        assert_eq!(after(12, &[10, 12], 14), None, "11 is missing");
        assert_eq!(after(12, &[11], 15), None, "10 is missing");
        assert_eq!(after(13, &[10], 13), Some(vec![]), "the target itself is behind");
        let keys = [unit(&[]), unit(&[0]), unit(&[]), unit(&[2])];
        assert_eq!(needed_after(0, &keys, 3, 1, |_| true), None, "from the nearer random access point");
        let unknown = [unit(&[]), unit(&[0]), None, unit(&[2])];
        assert_eq!(needed_after(0, &unknown, 3, 1, |_| true), Some(vec![2, 3]));
        assert_eq!(needed_after(0, &unknown, 3, 1, |sample| sample == 1), None, "an unknown sample may read all");
    }

    #[test]
    fn nothing_before_a_random_access_point_and_all_samples_after_it_where_one_is_unknown() {
        let units = [unit(&[]), unit(&[0]), unit(&[]), unit(&[2]), None, unit(&[2]), unit(&[4])];
        assert_eq!(needed(0, &units, 5), Some(vec![2, 5]));
        assert_eq!(needed(0, &units, 4), Some(vec![2, 3, 4]));
        assert_eq!(needed(0, &units, 6), Some(vec![2, 3, 4, 6]));
        assert_eq!(needed(0, &[None, unit(&[0])], 1), None, "no entry");
        assert_eq!(needed(0, &[unit(&[]), unit(&[7])], 1), None, "a reference to a later sample is invalid");
    }
}
