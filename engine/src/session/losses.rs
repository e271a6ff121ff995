//! Which pictures of a run may show that samples are damaged or missing, where the decoder does not say so.
//!
//! The decoders of H.265, H.264 and VP9 mark what refers to damaged pictures themselves (`ffi/shim/inspect.c`). But of samples
//! that could not be read they do not know, and dav1d, which decodes AV1, reports errors alone.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::bitstream::av1_refs::Tracker;
use crate::container::Track;
use crate::decode::{Lease, Walk};
use crate::session::video::Shared;
use crate::source::Source;

/// Samples of a GOP that a decoder may reject before what follows counts as damaged without a look.
const REJECTIONS: usize = 8;

/// The samples since a key frame.
#[derive(Default)]
struct Gop {
    /// Which slots are right is not known any more.
    is_adrift: bool,
    accepted: Vec<u32>,
    rejections: usize,
}

impl Gop {
    /// A decoder that has rejected a sample is of no use any more: it begins anew, with what it had accepted.
    fn accepts(&mut self, run: &Walk<'_>, lease: &mut Lease, sample: u32) -> bool {
        if run.accepts(lease, sample) {
            self.accepted.push(sample);
            return true;
        }
        self.rejections += 1;
        self.is_adrift |= self.rejections > REJECTIONS;
        lease.decoder().flush();
        for &earlier in &self.accepted {
            let _ = run.accepts(lease, earlier);
        }
        false
    }
}

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

    /// Follows the references of AV1 samples `entry..=last`, and sends those that no damage has touched to a strict decoder.
    pub(crate) fn of_av1(run: &Walk<'_>, lease: &mut Lease, entry: u32, last: u32) -> Losses {
        let mut tracker = Tracker::new(run.track.parameters.extradata());
        let mut gop = Gop::default();
        let mut tainted = BTreeSet::new();
        for sample in entry..=last {
            let data = run.track.read(run.source, sample, false);
            let unit = data.ok().and_then(|data| tracker.take(sample, data.data()));
            let is_key = unit.as_ref().is_some_and(|unit| unit.is_key);
            if is_key {
                gop = Gop::default();
                lease.decoder().flush();
            }
            gop.is_adrift |= unit.is_none() || tracker.follows_loss();
            let refs = unit.iter().filter(|_| !is_key).flat_map(|unit| &unit.refs);
            if gop.is_adrift
                || refs.into_iter().any(|reference| tainted.contains(reference))
                || !gop.accepts(run, lease, sample)
            {
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
