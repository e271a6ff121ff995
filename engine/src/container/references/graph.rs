//! H.265: the reference graph of a track, GOP by GOP.
//!
//! Adding a picture fails if its headers could not have these values: references outside of the GOP and the preceding
//! one, picture order counts that a decoder would not derive, incompatible kinds of pictures.

use std::collections::HashSet;

use super::MOST;
use crate::bitstream::hevc_slice::{PictureKind, PocState};
use crate::bitstream::references::Picture;

/// A GOP of the graph: from a sync sample that is an IRAP picture to the next one, or as far as pictures are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexedGop {
    /// First sample.
    pub(crate) first: u32,
    /// Number of known pictures.
    pub(crate) pictures: u32,
    /// Set if it begins with a CRA picture, directly after a GOP that is completely known.
    pub(crate) continuation: Option<Continuation>,
    /// Index of its first row.
    row: u32,
}

/// A GOP as decoded after the preceding one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Continuation {
    /// Added to picture order counts in this case.
    pub(crate) shift: i32,
    /// Number of pictures whose references are all known in this case.
    pub(crate) pictures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PictureRow {
    poc: i32,
    kind: PictureKind,
    log2_max_poc_lsb: u8,
    is_tid0: bool,
    is_output: bool,
    has_sets: bool,
    /// End of its references; they begin at the end of the preceding row's.
    end: u32,
}

/// All known GOPs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReferenceGraph {
    gops: Vec<IndexedGop>,
    rows: Vec<PictureRow>,
    /// Samples, row after row.
    refs: Vec<u32>,
}

impl ReferenceGraph {
    /// In decode order.
    pub(crate) fn gops(&self) -> &[IndexedGop] {
        &self.gops
    }

    /// The GOP that begins at a sample.
    pub(crate) fn gop(&self, first: u32) -> Option<&IndexedGop> {
        self.gops.binary_search_by_key(&first, |gop| gop.first).ok().map(|at| &self.gops[at])
    }

    /// Its pictures; with `is_continued`, as decoded after the preceding GOP, if that is possible.
    pub(crate) fn pictures(&self, gop: &IndexedGop, is_continued: bool) -> Vec<Picture> {
        let continuation = gop.continuation.filter(|_| is_continued);
        let known = continuation.map_or(gop.pictures, |continuation| continuation.pictures);
        let mut irap = gop.first;
        let picture = |sample: u32| {
            let (row, refs) = self.row(gop, sample);
            if row.kind.is_irap() {
                irap = sample;
            }
            // A decode that begins at the GOP lacks the references before it.
            let outside = if continuation.is_some() { 0 } else { refs.partition_point(|&of| of < gop.first) };
            Picture {
                refs: refs[outside..].into(),
                poc: row.poc,
                irap,
                kind: row.kind,
                log2_max_poc_lsb: row.log2_max_poc_lsb,
                is_tid0: row.is_tid0,
                is_output: row.is_output,
                has_sets: row.has_sets,
            }
        };
        (gop.first..gop.first + known).map(picture).collect()
    }

    /// All references of a picture of the GOP, including those into the preceding GOP; ascending.
    pub(crate) fn refs(&self, gop: &IndexedGop, sample: u32) -> &[u32] {
        self.row(gop, sample).1
    }

    fn row(&self, gop: &IndexedGop, sample: u32) -> (&PictureRow, &[u32]) {
        let at = (gop.row + (sample - gop.first)) as usize;
        let begin = at.checked_sub(1).map_or(0, |before| self.rows[before].end);
        (&self.rows[at], &self.refs[begin as usize..self.rows[at].end as usize])
    }

    fn row_of(&self, sample: u32) -> Option<&PictureRow> {
        let at = self.gops.partition_point(|gop| gop.first <= sample).checked_sub(1)?;
        let gop = self.gops.get(at).filter(|gop| sample - gop.first < gop.pictures)?;
        Some(self.row(gop, sample).0)
    }

    /// The kind of a known picture.
    pub(crate) fn kind(&self, sample: u32) -> Option<PictureKind> {
        self.row_of(sample).map(|row| row.kind)
    }

    /// True if a known picture has parameter sets; `None` for an unknown one.
    pub(crate) fn has_sets(&self, sample: u32) -> Option<bool> {
        self.row_of(sample).map(|row| row.has_sets)
    }
}

/// The state against which the pictures of a GOP are checked.
#[derive(Debug, Default)]
struct GopProgress {
    first: u32,
    /// One past its last picture.
    end: u32,
    irap: u32,
    /// First sample of its last coded video sequence.
    sequence_start: u32,
    poc: PocState,
    /// Picture order counts since then.
    counts: HashSet<i32>,
}

/// Builds a [`ReferenceGraph`] from pictures in decode order.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    graph: ReferenceGraph,
    previous: GopProgress,
    current: GopProgress,
}

impl ReferenceGraph {
    pub(crate) fn builder() -> GraphBuilder {
        GraphBuilder::default()
    }
}

/// Fails with `why` unless the condition holds.
fn ensure(condition: bool, why: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(why) }
}

impl GraphBuilder {
    /// Begins a GOP with this first sample.
    pub(crate) fn begin(&mut self, first: u32) -> Result<(), &'static str> {
        ensure(
            self.graph.gops.is_empty() || first > self.current.first && first >= self.current.end,
            "GOPs are not in order",
        )?;
        let now = GopProgress { first, end: first, irap: first, sequence_start: first, ..GopProgress::default() };
        self.previous = std::mem::replace(&mut self.current, now);
        let row = self.graph.rows.len() as u32;
        self.graph.gops.push(IndexedGop { first, pictures: 0, continuation: None, row });
        Ok(())
    }

    /// Adds the next picture of the GOP; its `irap` is ignored. With `is_joined`, this and all earlier pictures of the
    /// GOP are also known as decoded after the preceding GOP, if that is possible, and `refs` includes references to
    /// it.
    ///
    /// A refused picture is not added.
    pub(crate) fn picture(&mut self, picture: &Picture, is_joined: bool) -> Result<(), &'static str> {
        let sample = self.current.end;
        self.check_fields(picture)?;
        let continuation = self.continuation(picture, is_joined)?;
        let irap = if picture.kind.is_irap() { sample } else { self.current.irap };
        self.check_refs(picture, sample, irap)?;
        if continuation.is_some_and(|continuation| {
            is_joined && irap == self.current.first && self.is_counted(continuation, picture.poc)
        }) {
            return Err("two pictures have the same picture order count");
        }
        self.count(picture, sample)?;
        let Some(gop) = self.graph.gops.last_mut() else { return Err("a picture has no GOP") };
        gop.continuation = continuation.map(|continuation| Continuation {
            pictures: continuation.pictures + u32::from(is_joined),
            ..continuation
        });
        gop.pictures += 1;
        (self.current.end, self.current.irap) = (sample + 1, irap);
        self.graph.refs.extend(&picture.refs);
        self.graph.rows.push(PictureRow {
            poc: picture.poc,
            kind: picture.kind,
            log2_max_poc_lsb: picture.log2_max_poc_lsb,
            is_tid0: picture.is_tid0,
            is_output: picture.is_output,
            has_sets: picture.has_sets,
            end: self.graph.refs.len() as u32,
        });
        Ok(())
    }

    /// The finished graph.
    pub(crate) fn finish(self) -> ReferenceGraph {
        self.graph
    }

    /// Checks the picture's own fields.
    fn check_fields(&self, picture: &Picture) -> Result<(), &'static str> {
        let is_first = self.current.end == self.current.first;
        ensure((4..=16).contains(&picture.log2_max_poc_lsb), "picture order counts have an impossible number of bits")?;
        ensure(picture.kind.is_irap() || !is_first, "a GOP does not begin with a random access point")?;
        ensure(picture.kind != PictureKind::Bla || is_first, "a broken link lies within a GOP")?;
        ensure(picture.kind != PictureKind::Idr || picture.poc == 0, "an IDR picture has a picture order count")?;
        let is_leading = matches!(picture.kind, PictureKind::Rasl | PictureKind::Radl);
        ensure(!(is_leading && picture.is_tid0), "a leading picture cannot be prevTid0Pic")?;
        ensure(!picture.kind.is_irap() || picture.is_tid0, "a random access point is of a higher layer")
    }

    /// How the GOP decodes after the preceding one, from its first picture.
    fn continuation(&self, picture: &Picture, is_joined: bool) -> Result<Option<Continuation>, &'static str> {
        let Some((gop, earlier)) = self.graph.gops.split_last() else { return Ok(None) };
        if gop.pictures > 0 {
            let is_next =
                gop.continuation.is_none_or(|continuation| !is_joined || continuation.pictures == gop.pictures);
            return ensure(is_next, "a known picture follows an unknown one").map(|()| gop.continuation);
        }
        if picture.kind != PictureKind::Cra || earlier.is_empty() || self.previous.end != gop.first {
            return Ok(None);
        }
        let poc = self.previous.poc.nearest(picture.poc as u32, u32::from(picture.log2_max_poc_lsb));
        match poc.and_then(|poc| poc.checked_sub(picture.poc)) {
            Some(shift) => Ok(Some(Continuation { shift, pictures: 0 })),
            None => ensure(!is_joined, "picture order counts exceed 32 bits")
                .map(|()| Some(Continuation { shift: 0, pictures: 0 })),
        }
    }

    /// True if the preceding GOP has a picture with this count.
    fn is_counted(&self, continuation: Continuation, poc: i32) -> bool {
        poc.checked_add(continuation.shift).is_none_or(|poc| self.previous.counts.contains(&poc))
    }

    fn check_refs(&self, picture: &Picture, sample: u32, irap: u32) -> Result<(), &'static str> {
        let refs = &picture.refs;
        ensure(
            refs.len() <= MOST && (refs.is_empty() || !picture.kind.is_irap()),
            "a picture has too many references",
        )?;
        ensure(refs.windows(2).all(|pair| pair[0] < pair[1]), "references are not in order")?;
        let reaches_out = picture.kind == PictureKind::Rasl && irap == self.current.first && self.is_joinable();
        for &of in refs {
            let is_within = (self.current.sequence_start..sample).contains(&of);
            let is_before = reaches_out && (self.previous.sequence_start..self.previous.end).contains(&of);
            ensure(is_within || is_before, "a picture refers to one that it cannot refer to")?;
            // The rows of a GOP and of the preceding one, to which it may refer, are adjacent.
            let row = self.graph.rows.len().checked_sub((sample - of) as usize);
            let is_rasl = row.is_some_and(|row| self.graph.rows[row].kind == PictureKind::Rasl);
            ensure(
                !is_rasl || is_within && picture.kind == PictureKind::Rasl,
                "a picture refers to one that may be skipped",
            )?;
        }
        Ok(())
    }

    fn is_joinable(&self) -> bool {
        self.graph.gops.last().is_some_and(|gop| gop.continuation.is_some())
    }

    /// Checks that a decoder would derive this picture order count, and that it is unused.
    fn count(&mut self, picture: &Picture, sample: u32) -> Result<(), &'static str> {
        let (now, bits) = (&mut self.current, u32::from(picture.log2_max_poc_lsb));
        let low = picture.poc & ((1 << bits) - 1);
        let begins = sample == now.first || picture.kind == PictureKind::Idr;
        let derived = if begins { Some(low) } else { now.poc.nearest(low as u32, bits) };
        ensure(derived == Some(picture.poc), "a picture order count differs from the one that a decoder derives")?;
        if begins {
            now.counts.clear();
            now.sequence_start = sample;
        }
        ensure(now.counts.insert(picture.poc), "two pictures have the same picture order count")?;
        if picture.is_tid0 {
            now.poc = PocState::after(picture.poc);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{GraphBuilder, Picture, PictureKind, ReferenceGraph};

    fn picture(kind: PictureKind, poc: i32, refs: &[u32]) -> Picture {
        let is_tid0 = !matches!(kind, PictureKind::Rasl | PictureKind::Radl);
        let refs = refs.into();
        Picture { refs, poc, irap: 0, kind, log2_max_poc_lsb: 4, is_tid0, is_output: true, has_sets: false }
    }

    /// An IDR picture, two pictures, an open GOP of a CRA, a RASL picture and a trailing one.
    fn graph() -> GraphBuilder {
        let mut graph = ReferenceGraph::builder();
        graph.begin(0).expect("a GOP");
        for picture in [
            picture(PictureKind::Idr, 0, &[]),
            picture(PictureKind::Trailing, 4, &[0]),
            picture(PictureKind::Trailing, 8, &[1]),
        ] {
            graph.picture(&picture, true).expect("a picture");
        }
        graph.begin(3).expect("a GOP");
        for picture in [
            picture(PictureKind::Cra, 0, &[]),
            picture(PictureKind::Rasl, -1, &[2, 3]),
            picture(PictureKind::Trailing, 3, &[3]),
        ] {
            graph.picture(&picture, true).expect("a picture");
        }
        graph
    }

    #[test]
    fn an_open_gop_is_seen_alone_and_behind_another() {
        let graph = graph().finish();
        let gop = *graph.gop(3).expect("a GOP");
        assert_eq!(gop.continuation.map(|continuation| (continuation.shift, continuation.pictures)), Some((16, 3)));
        let refs = |is_behind| {
            graph.pictures(&gop, is_behind).into_iter().map(|picture| picture.refs.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(refs(true), [vec![], vec![2, 3], vec![3]]);
        assert_eq!(refs(false), [vec![], vec![3], vec![3]]);
        assert!(graph.pictures(&gop, true).iter().all(|picture| picture.irap == 3));
        assert_eq!((graph.kind(4), graph.kind(6)), (Some(PictureKind::Rasl), None));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (wrong, why) in [
            (picture(PictureKind::Trailing, 5, &[2]), "cannot refer"),
            (picture(PictureKind::Trailing, 5, &[6]), "cannot refer"),
            (picture(PictureKind::Trailing, 5, &[5, 3]), "in order"),
            (picture(PictureKind::Trailing, 5, &[4]), "skipped"),
            (picture(PictureKind::Trailing, 3, &[3]), "same"),
            (picture(PictureKind::Trailing, 100, &[3]), "derives"),
            (picture(PictureKind::Bla, 0, &[]), "broken link"),
            (picture(PictureKind::Idr, 1, &[]), "IDR"),
            (picture(PictureKind::Cra, 5, &[3]), "references"),
            (picture(PictureKind::Rasl, 5, &[0, 1, 2, 7]), "cannot refer"),
            (Picture { log2_max_poc_lsb: 17, ..picture(PictureKind::Trailing, 5, &[3]) }, "bits"),
            (Picture { is_tid0: true, ..picture(PictureKind::Radl, 5, &[3]) }, "leading"),
        ] {
            let mut graph = graph();
            let refused = graph.picture(&wrong, true).expect_err(why);
            assert!(refused.contains(why), "{refused}: not {why}");
        }
        let mut graph = graph();
        assert!(graph.begin(5).is_err() && graph.begin(6).is_ok());
        assert!(graph.picture(&picture(PictureKind::Trailing, 5, &[]), true).is_err(), "no random access point");
    }
}
