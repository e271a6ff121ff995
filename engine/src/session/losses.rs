//! Losses: pictures of a run that may show damaged or missing samples without the decoder reporting it.
//!
//! The decoders of H.265, H.264 and VP9 mark pictures that refer to damaged ones (`ffi/shim/inspect.c`). But they do
//! not detect samples that could not be read, and dav1d, which decodes AV1, reports errors only. The decision whether
//! such a picture is shown is left to [`validate`](super::validate).

use std::cell::RefCell;
use std::collections::BTreeSet;

use ffi::Threads;

use crate::bitstream::Codec;
use crate::bitstream::av1_refs::Av1Tracker;
use crate::container::Track;
use crate::decode::{Lease, SampleReader};
use crate::picture_memory::Reservation;
use crate::plan::Depth;
use crate::session::shared::VideoState;
use crate::source::Source;

/// After this many rejected samples of a GOP, the rest of the GOP counts as damaged without a check.
const REJECTIONS: usize = 8;

/// The samples since a key frame.
#[derive(Default)]
struct GopCheck {
    /// The contents of the slots are unknown from here on.
    is_unreliable: bool,
    accepted: Vec<u32>,
    rejections: usize,
}

impl GopCheck {
    /// Sends a sample to the decoder. After a rejection the decoder is unusable: it is flushed and gets the accepted
    /// samples again.
    fn accepts(&mut self, run: &SampleReader<'_>, lease: &mut Lease, sample: u32) -> bool {
        if run.accepts(lease, sample) {
            self.accepted.push(sample);
            return true;
        }
        self.rejections += 1;
        self.is_unreliable |= self.rejections > REJECTIONS;
        lease.decoder().flush();
        for &earlier in &self.accepted {
            let _ = run.accepts(lease, earlier);
        }
        false
    }
}

/// The known losses of a run.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Samples that were not sent: a picture that may refer to one of them may show the loss.
    unread: RefCell<Vec<u32>>,
    /// Samples with damaged pictures or references.
    damaged: BTreeSet<u32>,
}

impl Losses {
    /// Records a sample that was not sent.
    pub(crate) fn add(&self, sample: u32) {
        self.unread.borrow_mut().push(sample);
    }

    /// True if the picture of `sample` may show damage.
    pub(crate) fn may_show_in(&self, sample: u32, video: &VideoState) -> bool {
        self.damaged.contains(&sample) || self.unread.borrow().iter().any(|&lost| video.may_need(sample, lost))
    }

    /// Follows the references of AV1 samples `entry..=last`, and sends those without damaged references to a strict
    /// decoder.
    pub(crate) fn of_av1(run: &SampleReader<'_>, lease: &mut Lease, start: u32, last: u32) -> Losses {
        let mut tracker = Av1Tracker::new(run.track.parameters.extradata());
        let mut gop = GopCheck::default();
        let mut damaged = BTreeSet::new();
        for sample in start..=last {
            let data = run.track.read(run.source, sample, false);
            let unit = data.ok().and_then(|data| tracker.take(sample, data.data()));
            let is_key = unit.as_ref().is_some_and(|unit| unit.is_key);
            if is_key {
                gop = GopCheck::default();
                lease.decoder().flush();
            }
            gop.is_unreliable |= unit.is_none() || tracker.follows_loss();
            let refs = unit.iter().filter(|_| !is_key).flat_map(|unit| &unit.refs);
            if gop.is_unreliable
                || refs.into_iter().any(|reference| damaged.contains(reference))
                || !gop.accepts(run, lease, sample)
            {
                damaged.insert(sample);
            }
        }
        Losses { damaged, ..Losses::default() }
    }

    /// True if AV1 samples `entry..=last` indicate that others between them are missing.
    pub(crate) fn has_gaps(track: &Track, source: &dyn Source, start: u32, last: u32) -> bool {
        let mut tracker = Av1Tracker::new(track.parameters.extradata());
        (start..=last).any(|sample| {
            let data = track.read(source, sample, false);
            data.is_ok_and(|data| tracker.take(sample, data.data()).is_some()) && tracker.follows_loss()
        })
    }
}

impl VideoState {
    /// The damage among samples `entry..=last` that a lenient decoder does not mark: dav1d checks the ends of tiles
    /// only where it may reject the frame, and order hints not at all.
    pub(crate) fn losses(&self, start: u32, last: u32, memory: Option<&Reservation>) -> Losses {
        if self.track.codec != Codec::Av1 {
            return Losses::default();
        }
        match self.strict_lease(self.key(Threads::One).check_ends, memory) {
            Ok(mut lease) => Losses::of_av1(&self.reader(true), &mut lease, start, last),
            Err(_) => Losses::default(),
        }
    }

    /// True if the samples may indicate missing ones that the codec's decoder does not detect.
    pub(crate) fn may_lack_samples(&self) -> bool {
        let last = self.track.samples.len() as u32 - 1;
        // Over a network the check would fetch all samples before the first frame is shown.
        self.track.codec == Codec::Av1
            && !self.source.is_remote()
            && Losses::has_gaps(&self.track, &*self.source, 0, last)
    }

    /// True if the picture of `sample` may refer to `lost`, which precedes it in decode order.
    pub(crate) fn may_need(&self, sample: u32, lost: u32) -> bool {
        let (track, source, planner) = (&self.track, &*self.source, &self.planner);
        // Its second field may be a sample of its own.
        let last = if track.codec == Codec::H264 { planner.last_for(track, source, sample) } else { sample };
        let (start, is_self_contained) = planner.start_for(track, source, sample, Depth::Nearest);
        lost <= last && !(is_self_contained && lost < start)
    }
}
