//! Which pictures of a run may show that samples are damaged or missing, where the decoder does not say so.
//!
//! The decoders of H.265, H.264 and VP9 mark what refers to damaged pictures themselves (`ffi/shim/inspect.c`). But of samples
//! that could not be read they do not know, and dav1d, which decodes AV1, reports errors alone.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ffi::Threads;

use crate::bitstream::Codec;
use crate::bitstream::av1_refs::Tracker;
use crate::container::Track;
use crate::decode::{Lease, SampleReader};
use crate::picture_memory::Reservation;
use crate::plan::Depth;
use crate::session::shared::VideoState;
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
    fn accepts(&mut self, run: &SampleReader<'_>, lease: &mut Lease, sample: u32) -> bool {
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
    pub(crate) fn may_show_in(&self, sample: u32, video: &VideoState) -> bool {
        self.tainted.contains(&sample) || self.unread.borrow().iter().any(|&lost| video.may_need(sample, lost))
    }

    /// Follows the references of AV1 samples `entry..=last`, and sends those that no damage has touched to a strict decoder.
    pub(crate) fn of_av1(run: &SampleReader<'_>, lease: &mut Lease, entry: u32, last: u32) -> Losses {
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

impl VideoState {
    /// What is damaged among samples `entry..=last` and a lenient decoder does not mark: dav1d looks at the ends of tiles only
    /// where it may reject the frame for them, and at order hints not at all.
    pub(crate) fn losses(&self, entry: u32, last: u32, memory: Option<&Reservation>) -> Losses {
        if self.track.codec != Codec::Av1 {
            return Losses::default();
        }
        match self.strict_lease(self.key(Threads::One).check_ends, memory) {
            Ok(mut lease) => Losses::of_av1(&self.reader(true), &mut lease, entry, last),
            Err(_) => Losses::default(),
        }
    }

    /// Do samples say that others are missing, in a codec whose decoder does not notice?
    pub(crate) fn may_lack_samples(&self) -> bool {
        let last = self.track.samples.len() as u32 - 1;
        // Behind a network that would fetch all of them before the first is shown.
        self.track.codec == Codec::Av1
            && !self.source.is_remote()
            && Losses::has_gaps(&self.track, &*self.source, 0, last)
    }

    /// Could `sample` show anything of `lost`, which was sent before it or should have been?
    pub(crate) fn may_need(&self, sample: u32, lost: u32) -> bool {
        let (track, source, planner) = (&self.track, &*self.source, &self.planner);
        // Its second field may be a sample of its own.
        let last = if track.codec == Codec::H264 { planner.last_for(track, source, sample) } else { sample };
        let (entry, is_self_contained) = planner.entry_for(track, source, sample, Depth::Nearest);
        lost <= last && !(is_self_contained && lost < entry)
    }
}
