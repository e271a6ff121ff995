//! Which pictures of a run may show that samples are damaged or missing, where the decoder does not say so.
//!
//! The decoders of H.265, H.264 and VP9 mark what refers to damaged pictures themselves (`ffi/shim/inspect.c`). But of samples
//! that could not be read they do not know, and dav1d, which decodes AV1, reports errors alone.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::bitstream::av1_refs::Tracker;
use crate::container::Track;
use crate::source::Source;
use crate::video::Shared;

/// What is known of the losses in a run.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Samples that were not sent: what may need them may show it.
    unread: RefCell<Vec<u32>>,
    /// Samples whose pictures damage has touched, directly or through a reference.
    tainted: BTreeSet<u32>,
}

impl Losses {
    /// The sample was not sent.
    pub(crate) fn add(&self, sample: u32) {
        self.unread.borrow_mut().push(sample);
    }

    /// Could the picture of `sample` show damage?
    pub(crate) fn may_show_in(&self, sample: u32, video: &Shared) -> bool {
        self.tainted.contains(&sample) || self.unread.borrow().iter().any(|&lost| video.may_need(sample, lost))
    }

    /// Follows the references of AV1 samples `entry..=last`, of which a strict decoder has rejected some.
    pub(crate) fn of_av1(
        track: &Track,
        source: &dyn Source,
        rejected: &BTreeSet<u32>,
        entry: u32,
        last: u32,
    ) -> Losses {
        let mut tracker = Tracker::new(track.parameters.extradata());
        let mut tainted = BTreeSet::new();
        // Which slots are right is not known any more, until a key frame writes all of them.
        let mut is_adrift = false;
        for sample in entry..=last {
            let unit = track.read(source, sample, false).ok().and_then(|data| tracker.take(sample, data.data()));
            let is_key = unit.as_ref().is_some_and(|unit| unit.is_key);
            is_adrift = !is_key && (is_adrift || unit.is_none() || tracker.follows_loss());
            let has_tainted = |unit: &crate::bitstream::references::Unit| {
                !unit.is_key && unit.refs.iter().any(|reference| tainted.contains(reference))
            };
            // A decoder that has rejected a sample rejects all that refer to it: what is a loss of its own is not known, so
            // a key frame alone counts as one for sure.
            if is_adrift || rejected.contains(&sample) || unit.as_ref().is_some_and(has_tainted) {
                tainted.insert(sample);
            }
        }
        Losses { tainted, ..Losses::default() }
    }

    /// Do AV1 samples `entry..=last` say that there were others between them?
    pub(crate) fn has_gaps(track: &Track, source: &dyn Source, entry: u32, last: u32) -> bool {
        let mut tracker = Tracker::new(track.parameters.extradata());
        (entry..=last).any(|sample| {
            let data = track.read(source, sample, false);
            data.is_ok_and(|data| tracker.take(sample, data.data()).is_some()) && tracker.follows_loss()
        })
    }
}
