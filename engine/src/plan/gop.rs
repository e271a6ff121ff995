//! The reference graph of one GOP, built picture by picture in decode order from slice headers.
//!
//! It follows the contents of the decoded picture buffer by the reference picture sets (H.265 8.3.2): a picture that a
//! sequential decode would lack is not in the graph. Reading samples is left to `references`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bitstream::hevc_slice::{PictureKind, PocState, SliceHeader};
pub use crate::bitstream::references::Picture;

/// The state at the end of a GOP that the next GOP needs if it begins with a CRA.
#[derive(Debug, Default)]
pub(super) struct GopTail {
    /// prevTid0Pic, relative to the GOP's own origin.
    pub(super) poc: PocState,
    /// The samples of its last coded video sequence, by picture order count.
    by_poc: HashMap<i32, u32>,
    /// Picture order counts of the reference pictures in the buffer.
    buffered: Vec<i32>,
    /// The samples of RASL pictures.
    rasl: Vec<u32>,
}

/// The references of a RASL picture to the preceding GOP, as picture order counts relative to its own GOP's origin.
pub(super) type OuterReferences = (u32, Vec<i32>);

/// The state between two pictures of a GOP.
#[derive(Debug, Default)]
pub(super) struct GopLearner {
    first: Option<(u32, PictureKind)>,
    irap: u32,
    state: GopTail,
    /// In the order of samples.
    pub(super) outer: Vec<OuterReferences>,
    /// A long-term reference has only the low bits of its picture order count.
    has_partial_poc: bool,
}

/// An element of a reference picture set: picture order count, and whether the current picture may refer to it.
type RpsEntry = (i32, bool);

impl GopLearner {
    /// Adds the next picture of the GOP. `None` if its references are not certain: it and all later pictures are
    /// unknown then, and the learner must not be called again.
    pub(super) fn learn(&mut self, sample: u32, header: &SliceHeader, has_sets: bool) -> Option<Picture> {
        self.begin(sample, header)?;
        let poc = self.state.poc.next(header, self.is_first(sample))?;
        let entries = self.entries(header, poc)?;
        let refs = if header.kind.is_irap() { Vec::new() } else { self.resolve(sample, header.kind, &entries)? };
        // Two pictures with one count: it is ambiguous which of them a reference means.
        let is_taken = self.state.buffered.contains(&poc) || self.state.by_poc.insert(poc, sample).is_some();
        if is_taken {
            return None;
        }
        self.update_buffer(sample, &entries);
        self.state.buffered.push(poc);
        if header.kind == PictureKind::Rasl {
            self.state.rasl.push(sample);
        }
        Some(Picture {
            refs: refs.into(),
            poc,
            irap: self.irap,
            kind: header.kind,
            log2_max_poc_lsb: header.log2_max_poc_lsb as u8,
            is_tid0: header.is_tid0(),
            is_output: header.pic_output,
            has_sets,
        })
    }

    fn is_first(&self, sample: u32) -> bool {
        self.first.is_some_and(|(first, _)| first == sample)
    }

    /// A GOP begins with an IRAP; an IDR inside of it begins a coded video sequence.
    fn begin(&mut self, sample: u32, header: &SliceHeader) -> Option<()> {
        if !header.kind.is_irap() {
            return self.first.map(|_| ());
        }
        if header.temporal_id != 0 {
            return None;
        }
        match (self.first, header.kind) {
            (None, kind) => self.first = Some((sample, kind)),
            (Some(_), PictureKind::Idr) => {
                self.state.by_poc.clear();
                self.state.buffered.clear();
            }
            // The references of its leading pictures, and the pictures of the old sequence that remain, are not
            // modelled.
            (Some(_), PictureKind::Bla) => return None,
            (Some(_), _) => {}
        }
        self.irap = sample;
        Some(())
    }

    /// The picture's reference picture set, as picture order counts (8-5).
    fn entries(&mut self, header: &SliceHeader, poc: i32) -> Option<Vec<RpsEntry>> {
        let short = header.short_term.iter();
        let mut entries: Vec<RpsEntry> =
            short.map(|entry| Some((poc.checked_add(entry.delta_poc)?, entry.used))).collect::<Option<_>>()?;
        for entry in &header.long_term {
            match entry.msb_cycle {
                Some(cycle) => {
                    let base = i64::from(poc) - i64::from(header.poc_lsb) + i64::from(entry.poc_lsb);
                    let poc = base - (i64::from(cycle) << header.log2_max_poc_lsb);
                    entries.push((i32::try_from(poc).ok()?, entry.used));
                }
                None => {
                    self.has_partial_poc = true;
                    entries.extend(self.by_low_bits(entry.poc_lsb, header.log2_max_poc_lsb, entry.used)?);
                }
            }
        }
        Some(entries)
    }

    /// A picture by the low bits of its count. They must be unique even among pictures that the buffer no longer holds:
    /// if pictures are left out, it may hold them longer.
    fn by_low_bits(&self, low: u32, bits: u32, used: bool) -> Option<Option<RpsEntry>> {
        let mask = (1_i32 << bits) - 1;
        let mut same = self.state.by_poc.keys().filter(|&&poc| (poc & mask) as u32 == low);
        match (same.next(), same.next()) {
            (Some(&poc), None) => Some(Some((poc, used))),
            (None, _) if !used => Some(None),
            _ => None,
        }
    }

    /// The samples of the used elements. References to the preceding GOP are added to `outer`.
    fn resolve(&mut self, sample: u32, kind: PictureKind, entries: &[RpsEntry]) -> Option<Vec<u32>> {
        let begins_here = self.is_first(self.irap);
        let (mut refs, mut outer) = (Vec::new(), Vec::new());
        for &(poc, _) in entries.iter().filter(|(_, used)| *used) {
            if !self.state.buffered.contains(&poc) {
                return None;
            }
            match self.state.by_poc.get(&poc) {
                // A run that begins at the IRAP has no RASL pictures: no other picture may need them.
                Some(reference) if kind != PictureKind::Rasl && self.state.rasl.contains(reference) => return None,
                Some(&reference) => refs.push(reference),
                None if kind == PictureKind::Rasl && begins_here => outer.push(poc),
                None => return None,
            }
        }
        if !outer.is_empty() {
            self.outer.push((sample, outer));
        }
        refs.sort_unstable();
        refs.dedup();
        Some(refs)
    }

    /// A picture in the buffer stays if it is in the set. The pictures in the set of a GOP's first picture count as
    /// present.
    fn update_buffer(&mut self, sample: u32, entries: &[RpsEntry]) {
        let is_first = self.is_first(sample);
        let held = std::mem::take(&mut self.state.buffered);
        let kept = entries.iter().map(|&(poc, _)| poc).filter(|poc| is_first || held.contains(poc));
        self.state.buffered = kept.collect();
    }

    /// The state after the GOP's last picture, for the next GOP.
    pub(super) fn finish(&mut self) -> GopTail {
        std::mem::take(&mut self.state)
    }
}

/// A GOP that begins with a CRA, decoded after the preceding one: its RASL pictures have all references.
#[derive(Debug, Default)]
pub(super) struct ContinuedGop {
    pub(super) pictures: Arc<Vec<Picture>>,
    /// The pictures from here on are unknown.
    is_broken: bool,
}

impl ContinuedGop {
    /// Adds the new ones of `pictures`. `shift` is the amount by which picture order counts are higher relative to the
    /// origin of the preceding GOP, `first` the first sample.
    pub(super) fn extend(
        &mut self,
        first: u32,
        pictures: &[Picture],
        learner: &GopLearner,
        tail: &GopTail,
        shift: i32,
    ) {
        let known = self.pictures.len();
        if self.is_broken || known >= pictures.len() {
            return;
        }
        let joined = Arc::make_mut(&mut self.pictures);
        for (sample, picture) in (first..).zip(pictures).skip(known) {
            match join(sample, picture, learner, tail, shift) {
                Some(picture) => joined.push(picture),
                None => {
                    self.is_broken = true;
                    break;
                }
            }
        }
    }
}

fn join(sample: u32, picture: &Picture, learner: &GopLearner, tail: &GopTail, shift: i32) -> Option<Picture> {
    // After an IDR inside of the GOP earlier pictures do not matter, and counts may repeat.
    let is_same_sequence = picture.irap == learner.first?.0;
    let shifted = |poc: i32| poc.checked_add(shift);
    if is_same_sequence && (learner.has_partial_poc || tail.by_poc.contains_key(&shifted(picture.poc)?)) {
        return None;
    }
    let mut joined = picture.clone();
    if let Ok(at) = learner.outer.binary_search_by_key(&sample, |(sample, _)| *sample) {
        let mut refs = joined.refs.into_vec();
        for &poc in &learner.outer[at].1 {
            let poc = shifted(poc)?;
            let reference = *tail.by_poc.get(&poc).filter(|_| tail.buffered.contains(&poc))?;
            if tail.rasl.contains(&reference) {
                return None;
            }
            refs.push(reference);
        }
        refs.sort_unstable();
        refs.dedup();
        joined.refs = refs.into();
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::{ContinuedGop, GopLearner, GopTail, Picture};
    use crate::bitstream::hevc_sets::ShortTerm;
    use crate::bitstream::hevc_slice::{LongTerm, PictureKind, SliceHeader};

    const IDR: u8 = 19;
    const CRA: u8 = 21;
    const RASL: u8 = 9;
    const TRAIL: u8 = 1;

    /// Deltas of the used pictures, and of those that the decoder only keeps for later pictures.
    fn header(nal_unit_type: u8, poc_lsb: u32, used: &[i32], kept: &[i32]) -> SliceHeader {
        let entry = |used| move |&delta_poc: &i32| ShortTerm { delta_poc, used };
        SliceHeader {
            nal_unit_type,
            kind: PictureKind::of(nal_unit_type).expect("a slice"),
            temporal_id: 0,
            no_output_of_prior_pics: false,
            pic_output: true,
            poc_lsb,
            log2_max_poc_lsb: 8,
            short_term: used.iter().map(entry(true)).chain(kept.iter().map(entry(false))).collect(),
            long_term: Vec::new(),
        }
    }

    fn learn(first: u32, headers: &[SliceHeader]) -> (GopLearner, Vec<Option<Picture>>) {
        let mut learner = GopLearner::default();
        let pictures = (first..).zip(headers).map(|(sample, header)| learner.learn(sample, header, false)).collect();
        (learner, pictures)
    }

    fn refs(pictures: &[Option<Picture>]) -> Vec<Option<&[u32]>> {
        pictures.iter().map(|picture| picture.as_ref().map(|picture| &picture.refs[..])).collect()
    }

    #[test]
    fn references_are_what_the_buffer_holds() {
        let (_, pictures) = learn(
            5,
            &[
                header(IDR, 0, &[], &[]),
                header(TRAIL, 4, &[-4], &[]),
                header(TRAIL, 2, &[-2, 2], &[]),
                header(TRAIL, 8, &[-4], &[]),
                // The picture before has released 0.
                header(TRAIL, 9, &[-9], &[]),
            ],
        );
        assert_eq!(refs(&pictures), [Some(&[][..]), Some(&[5]), Some(&[5, 6]), Some(&[6]), None]);
    }

    #[test]
    fn a_repeated_count_and_a_gop_without_irap_are_unknown() {
        let (_, pictures) = learn(0, &[header(IDR, 0, &[], &[]), header(TRAIL, 0, &[], &[])]);
        assert_eq!(refs(&pictures), [Some(&[][..]), None]);
        assert_eq!(learn(0, &[header(TRAIL, 0, &[], &[])]).1, [None]);
        let (_, pictures) =
            learn(0, &[header(IDR, 0, &[], &[]), header(IDR, 0, &[], &[]), header(TRAIL, 1, &[-1], &[])]);
        assert_eq!(refs(&pictures), [Some(&[][..]), Some(&[]), Some(&[1])], "an IDR within");
    }

    #[test]
    fn long_term_references_with_and_without_high_bits() {
        let long = |poc_lsb, msb_cycle| vec![LongTerm { poc_lsb, msb_cycle, used: true }];
        let mut pictures = [
            header(IDR, 0, &[], &[]),
            header(TRAIL, 100, &[-100], &[]),
            header(TRAIL, 200, &[-100], &[]),
            header(TRAIL, 44, &[-100], &[]),
            header(TRAIL, 45, &[], &[]),
            header(TRAIL, 0, &[45], &[]),
            header(TRAIL, 1, &[], &[]),
        ];
        pictures[2].long_term = long(0, None);
        // The count is 300: 300 - 44 + 0 - 256 is 0.
        pictures[3].long_term = long(0, Some(1));
        pictures[4].long_term = long(44, None);
        // 0 and 256 have the low bits 0.
        pictures[6].long_term = long(0, None);
        let (learner, learned) = learn(0, &pictures);
        assert_eq!(refs(&learned)[2..], [Some(&[0, 1][..]), Some(&[0, 2]), Some(&[3]), Some(&[4]), None]);
        assert!(learner.has_partial_poc);
    }

    #[test]
    fn joined_pictures_have_all_references() {
        let (mut before, _) =
            learn(0, &[header(IDR, 0, &[], &[]), header(TRAIL, 100, &[-100], &[]), header(TRAIL, 200, &[-100], &[])]);
        let tail = before.finish();
        let gop = [header(CRA, 4, &[], &[-60, -160]), header(RASL, 2, &[-58, 2], &[]), header(TRAIL, 8, &[-4], &[])];
        let (learner, pictures) = learn(3, &gop);
        let pictures: Vec<Picture> = pictures.into_iter().flatten().collect();
        let shift = tail.poc.nearest(4, 8).expect("a count") - 4;
        assert_eq!(shift, 256);
        let mut joined = ContinuedGop::default();
        joined.extend(3, &pictures[..1], &learner, &tail, shift);
        assert_eq!(joined.pictures.len(), 1);
        joined.extend(3, &pictures, &learner, &tail, shift);
        let refs: Vec<&[u32]> = joined.pictures.iter().map(|picture| &picture.refs[..]).collect();
        assert_eq!(refs, [&[][..], &[2, 3], &[3]]);
        // Without the preceding GOP's tail nothing is known.
        let mut lost = ContinuedGop::default();
        lost.extend(3, &pictures, &learner, &GopTail::default(), shift);
        assert_eq!(lost.pictures.len(), 1);
    }
}
