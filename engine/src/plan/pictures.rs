//! A run of H.265 pictures with their references, and the pictures that a decoder must be given for some of them.
//!
//! Learning the references is left to `references`.

use std::sync::Arc;

use super::gop::Picture;
use crate::bitstream::hevc_slice::{PictureKind, PocState};

/// The pictures of samples `first..=last`, from one random access point on. Cheap to clone; its contents do not change.
#[derive(Debug, Clone)]
pub struct Pictures {
    pub(super) first: u32,
    pub(super) last: u32,
    /// In the order of their first samples, without gaps.
    pub(super) segments: Vec<Segment>,
}

/// The pictures of a GOP.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) pictures: Arc<Vec<Picture>>,
    /// The amount by which picture order counts are higher relative to the origin of the preceding GOP; `None` where a
    /// coded video sequence begins.
    pub(super) shift: Option<i32>,
}

impl Pictures {
    /// Number of the first sample, in decode order.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Number of the last sample, in decode order.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// The picture of a sample; `None` outside of the run.
    ///
    /// A RASL picture that [is skipped](Pictures::is_skipped) has only the references within its GOP.
    pub fn get(&self, sample: u32) -> Option<&Picture> {
        if !(self.first..=self.last).contains(&sample) {
            return None;
        }
        let segment = self.segment(sample)?;
        segment.pictures.get((sample - segment.first) as usize)
    }

    fn segment(&self, sample: u32) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.first <= sample);
        self.segments.get(at.checked_sub(1)?)
    }

    /// True if a decoder that begins at the first sample skips this one: it is a RASL picture of that sample, or of a
    /// BLA.
    pub fn is_skipped(&self, sample: u32) -> bool {
        let is_rasl = |picture: &&Picture| picture.kind == PictureKind::Rasl;
        let has_lost =
            |irap: u32| irap == self.first || self.get(irap).is_some_and(|picture| picture.kind == PictureKind::Bla);
        self.get(sample).filter(is_rasl).is_some_and(|picture| has_lost(picture.irap))
    }

    /// The picture order count of a CRA that begins a GOP within the run, relative to the origin of the preceding GOP.
    /// `None` for all other samples.
    pub fn poc_in_gop_before(&self, sample: u32) -> Option<i32> {
        let segment = self.segment(sample).filter(|segment| segment.first == sample)?;
        self.get(sample)?.poc.checked_add(segment.shift?)
    }

    /// The targets and all pictures that they refer to directly or indirectly: samples, ascending. Targets outside of
    /// the run are left out.
    pub fn closure(&self, targets: &[u32]) -> Vec<u32> {
        let mut is_needed = vec![false; (self.last - self.first) as usize + 1];
        let place = |sample: u32| sample.checked_sub(self.first).map_or(usize::MAX, |place| place as usize);
        targets.iter().for_each(|&target| _ = is_needed.get_mut(place(target)).map(|needed| *needed = true));
        // References precede the pictures that refer to them: one pass from the end finds all.
        for sample in (self.first..=self.last).rev().filter(|_| !targets.is_empty()) {
            if let Some(picture) = self.get(sample).filter(|_| is_needed[place(sample)]) {
                picture.refs.iter().for_each(|&of| _ = is_needed.get_mut(place(of)).map(|needed| *needed = true));
            }
        }
        (self.first..=self.last).filter(|&sample| is_needed[place(sample)]).collect()
    }

    /// The first picture that a decoder would misidentify if it got only these (samples, ascending, the run's first
    /// among them). That is a picture after an omitted beginning of a coded video sequence; one without its IRAP (a
    /// RASL picture might be skipped); or one with a wrong derived picture order count (8.3.1), since too many pictures
    /// before it are left out.
    pub fn misplaced(&self, kept: &[u32]) -> Option<u32> {
        let is_kept = |sample: u32| kept.binary_search(&sample).is_ok();
        let mut beginnings = self.beginnings(*kept.last()?).peekable();
        let mut segments = self.segments.iter().peekable();
        let (mut origin, mut state) = (0_i32, PocState::default());
        for &sample in kept {
            while beginnings.next_if(|&begins| begins < sample && is_kept(begins)).is_some() {}
            let Some(picture) = self.get(sample) else { return Some(sample) };
            if beginnings.peek().is_some_and(|&begins| begins < sample) || !is_kept(picture.irap) {
                return Some(sample);
            }
            while let Some(segment) = segments.next_if(|segment| segment.first <= sample) {
                let shift = segment.shift.filter(|_| segment.first != self.first);
                origin = shift.map_or(0, |shift| origin.saturating_add(shift));
            }
            let begins = sample == self.first || begins_sequence(picture);
            origin = if begins { 0 } else { origin };
            let derived = derive(picture, state, begins);
            if derived.is_none() || derived != picture.poc.checked_add(origin) {
                return Some(sample);
            }
            if picture.is_tid0 {
                state = PocState::after(picture.poc.saturating_add(origin));
            }
        }
        None
    }

    /// The first picture with a wrong derived picture order count, for a decoder in whose state prevTid0Pic is the
    /// picture of sample `tid0` and that gets only these pictures (samples, ascending, all within the run and its coded
    /// video sequence).
    pub fn misplaced_after(&self, tid0: u32, samples: &[u32]) -> Option<u32> {
        let Some(mut state) = self.poc(tid0).map(PocState::after) else { return samples.first().copied() };
        for &sample in samples {
            let (Some(picture), Some(poc)) = (self.get(sample), self.poc(sample)) else { return Some(sample) };
            if begins_sequence(picture) || derive(picture, state, false) != Some(poc) {
                return Some(sample);
            }
            if picture.is_tid0 {
                state = PocState::after(poc);
            }
        }
        None
    }

    /// Picture order count relative to the origin of the run's first sample; `None` after the beginning of another
    /// coded video sequence.
    fn poc(&self, sample: u32) -> Option<i32> {
        let mut origin = 0_i32;
        for segment in self.segments.iter().skip(1).take_while(|segment| segment.first <= sample) {
            origin = origin.checked_add(segment.shift?)?;
        }
        self.get(sample)?.poc.checked_add(origin)
    }

    /// The beginnings of coded video sequences, up to sample `last`.
    fn beginnings(&self, last: u32) -> impl Iterator<Item = u32> {
        (self.first..=last.min(self.last)).filter(|&sample| self.get(sample).is_some_and(begins_sequence))
    }

    /// The samples that a decoder needs for the targets (samples, ascending): their closure, the first sample, the IRAP
    /// of each picture, every IDR and BLA between them, and bridges that keep picture order counts right
    /// ([`Pictures::misplaced`]). Ascending. `None` if bridges do not help: then no sample may be left out.
    pub fn to_decode(&self, targets: &[u32]) -> Option<Vec<u32>> {
        let mut required: Vec<u32> = [&[self.first], targets].concat();
        required.extend(self.beginnings(*targets.last()?));
        loop {
            let mut kept = self.closure(&required);
            kept.extend(kept.clone().into_iter().filter_map(|sample| Some(self.get(sample)?.irap)));
            kept.sort_unstable();
            kept.dedup();
            let Some(misplaced) = self.misplaced(&kept) else { return Some(kept) };
            let bridge = self.bridge(&kept, misplaced)?;
            required = kept;
            required.push(bridge);
        }
    }

    /// A further picture for the decoder, so that it derives the count of `misplaced` correctly: the last one before it
    /// with a correct count of its own, so that few are needed.
    fn bridge(&self, kept: &[u32], misplaced: u32) -> Option<u32> {
        let is_tid0 = |sample: &u32| self.get(*sample).is_some_and(|picture| picture.is_tid0);
        let left_out = (self.first..misplaced).rev().filter(|sample| kept.binary_search(sample).is_err());
        let mut bridges = left_out.filter(is_tid0);
        let is_found = |&bridge: &u32| {
            let mut with = kept.to_vec();
            with.insert(kept.partition_point(|&sample| sample < bridge), bridge);
            self.misplaced(&with).is_none_or(|misplaced| misplaced > bridge)
        };
        bridges.clone().find(is_found).or_else(|| bridges.next())
    }
}

fn begins_sequence(picture: &Picture) -> bool {
    matches!(picture.kind, PictureKind::Idr | PictureKind::Bla)
}

/// The picture order count that a decoder derives in this state.
fn derive(picture: &Picture, state: PocState, begins: bool) -> Option<i32> {
    let bits = u32::from(picture.log2_max_poc_lsb);
    let low = picture.poc & ((1 << bits) - 1);
    if begins { Some(low) } else { state.nearest(low as u32, bits) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Picture, PictureKind, Pictures, Segment};

    /// Counts of 4 bits, one for each sample.
    fn picture(kind: PictureKind, irap: u32, poc: i32, refs: &[u32]) -> Picture {
        let is_tid0 = !matches!(kind, PictureKind::Rasl | PictureKind::Radl);
        let refs = refs.into();
        Picture { refs, poc, irap, kind, log2_max_poc_lsb: 4, is_tid0, is_output: true, has_sets: false }
    }

    /// An IDR and 23 pictures that refer to it alone; then a CRA, a RASL picture, and one after.
    fn run() -> Pictures {
        let mut first = vec![picture(PictureKind::Idr, 0, 0, &[])];
        first.extend((1..24).map(|poc| picture(PictureKind::Trailing, 0, poc, &[0])));
        let second = vec![
            picture(PictureKind::Cra, 24, 9, &[]),
            picture(PictureKind::Rasl, 24, 8, &[23, 24]),
            picture(PictureKind::Trailing, 24, 10, &[24]),
        ];
        let segment = |first, pictures, shift| Segment { first, pictures: Arc::new(pictures), shift };
        Pictures { first: 0, last: 26, segments: vec![segment(0, first, None), segment(24, second, Some(16))] }
    }

    #[test]
    fn what_is_not_referred_to_can_be_left_out_but_for_bridges() {
        let run = run();
        assert_eq!(run.closure(&[5]), [0, 5]);
        assert_eq!(run.to_decode(&[5]), Some(vec![0, 5]));
        // 8 is half of the range of the low bits: 20 would be taken for 4.
        assert_eq!((run.closure(&[20]), run.misplaced(&[0, 20])), (vec![0, 20], Some(20)));
        let kept = run.to_decode(&[20]).expect("bridges");
        assert!(kept.len() < 6 && run.misplaced(&kept).is_none(), "{kept:?}");
        assert_eq!(run.misplaced(&(0..27).collect::<Vec<_>>()), None);
    }

    #[test]
    fn a_rasl_picture_needs_its_cra_and_one_before() {
        let run = run();
        assert_eq!((run.poc_in_gop_before(24), run.poc_in_gop_before(0)), (Some(25), None));
        assert_eq!(run.closure(&[25]), [0, 23, 24, 25]);
        let kept = run.to_decode(&[25]).expect("bridges");
        assert!(kept.ends_with(&[23, 24, 25]) && run.misplaced(&kept).is_none());
        assert!(!run.is_skipped(25));
        let alone = Pictures { first: 24, segments: run.segments[1..].to_vec(), ..run.clone() };
        assert!(alone.is_skipped(25) && !alone.is_skipped(26) && alone.get(23).is_none());
        assert_eq!(alone.to_decode(&[26]), Some(vec![24, 26]));
        assert_eq!(run.misplaced(&[0, 7, 14, 21, 26]), Some(26), "without its CRA");
    }
}
