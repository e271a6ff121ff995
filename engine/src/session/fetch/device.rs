//! Groups on a GPU: which ones go there, and a walk whose pictures are decoded there.
//!
//! What goes there is planned as everything else, from entries on, since there are no checkpoints. It is the first try
//! only: whatever does not come of it as it should, the processor decodes, and decides what a damaged frame is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ffi::{AvError, Frame, GpuError};

use super::{End, Group, near, pictures};
use crate::bitstream::Codec;
use crate::decode::judge::{Kind, Offer, Place};
use crate::decode::on_device::OnDevice;
use crate::decode::{Event, Keeper};
use crate::error::{ErrorKind, Result};
use crate::plan::route::{Leg, Target};
use crate::session::request::Stay;
use crate::session::video::Shared;

/// Where a group should be decoded.
pub(super) fn place_for(video: &Shared, stay: Stay, group: &[Target]) -> Place {
    let Some(device) = &video.engine.device else { return Place::Processor };
    if stay == Stay::Must {
        return Place::Device;
    }
    if video.is_refused.load(Relaxed) || video.engine.from_entry || device.rests() {
        return Place::Processor;
    }
    let processor = Offer { pictures: pictures_from_checkpoints(video, group), load: video.engine.workers.load() };
    let on_device = Offer { pictures: pictures(group), load: device.workers.load() };
    // Of these codecs the driver does not tell whether a picture is damaged: they go there only by order.
    if !device.is_forced() && matches!(video.track.codec, Codec::Vp9 | Codec::Av1) {
        return Place::Processor;
    }
    device.choose(kind_of(video), processor, on_device)
}

/// About how many pictures a group takes with the checkpoints that there are.
fn pictures_from_checkpoints(video: &Shared, group: &[Target]) -> u64 {
    let mut decoded_to = None;
    let mut sum = 0;
    for target in group {
        let held = near(video, *target);
        let before = held.iter().rev().map(|kept| kept.state.position).find(|&position| position <= target.sample);
        let from = before.into_iter().chain(decoded_to).max().unwrap_or(target.entry).max(target.entry);
        sum += u64::from(target.sample.saturating_sub(from));
        decoded_to = Some(target.sample);
    }
    sum.max(1)
}

fn kind_of(video: &Shared) -> Kind {
    Kind { codec: video.track.codec, size: video.track.parameters.size() }
}

/// What a walk on a device came to.
struct Walked {
    end: End,
    /// Why it ended early, if it did.
    fault: Option<GpuError>,
    /// How long it has waited for whoever wants the frames.
    waited: Duration,
}

/// Something about the stream, as libavcodec or the card sees it: the processor will see.
fn of_stream() -> GpuError {
    let why = "a picture that is damaged, or refers to what is not there".to_owned();
    GpuError { code: AvError::INVALID_DATA, why }
}

impl<T: Send + 'static> Group<T> {
    /// Makes one leg on the processor, and learns from it what that takes.
    pub(super) fn leg_learned(&self, leg: &Leg, keeper: &Keeper<'_>, pending: &mut BTreeMap<u32, u32>) -> Result<End> {
        let (since, before) = (Instant::now(), pending.len());
        let end = self.leg(leg, keeper, pending)?;
        if let Some(device) = &self.video.engine.device
            && end == End::Over
            && before - pending.len() == leg.targets.len()
        {
            device.learn(kind_of(&self.video), Place::Processor, leg.samples.len() as u64, since.elapsed());
        }
        Ok(end)
    }

    /// Makes one leg on the GPU. Where that cannot be, its targets are left in `pending`.
    pub(super) fn leg_on_device(
        &self,
        leg: &Leg,
        keeper: &Keeper<'_>,
        pending: &mut BTreeMap<u32, u32>,
    ) -> Result<End> {
        let video = &*self.video;
        let Some(device) = &video.engine.device else { return Ok(End::Over) };
        if video.is_refused.load(Relaxed) || device.gpu.is_lost() {
            return Ok(End::Over);
        }
        GpuError::forget();
        let since = Instant::now();
        let Walked { end, fault, waited } = self.walk_on_device(leg, keeper, pending)?;
        match fault {
            None if end == End::Over => {
                let time = since.elapsed().saturating_sub(waited);
                device.learn(kind_of(video), Place::Device, leg.samples.len() as u64, time);
            }
            None => {}
            Some(error) => self.take_note(device, &error),
        }
        Ok(end)
    }

    fn take_note(&self, device: &OnDevice, error: &GpuError) {
        if error.is_for_good() {
            self.video.is_refused.store(true, Relaxed);
        } else if error.code == AvError::NO_MEMORY {
            device.rest();
        }
        device.note(self.video.source.name(), error);
    }

    fn walk_on_device(&self, leg: &Leg, keeper: &Keeper<'_>, pending: &mut BTreeMap<u32, u32>) -> Result<Walked> {
        let mut walked = Walked { end: End::Over, fault: None, waited: Duration::ZERO };
        let mut lease = match self.video.lease_on_device() {
            Ok(lease) => lease,
            Err(error) => {
                walked.fault = Some(GpuError { code: AvError::NOT_SUPPORTED, why: error.message() });
                return Ok(walked);
            }
        };
        let mut left = leg.targets.len();
        let _ = self.video.walk(false).run_leg(&mut lease, leg, keeper, &mut |event| {
            let Event::Picture(sample, surface) = event else {
                walked.fault.get_or_insert_with(|| GpuError::last().unwrap_or_else(of_stream));
                return ControlFlow::Break(());
            };
            let is_wanted = leg.targets.binary_search(&sample).is_ok() && pending.contains_key(&sample);
            if is_wanted && walked.fault.is_none() && !surface.is_corrupt() {
                match self.fetch(&surface) {
                    Ok(picture) => {
                        left -= 1;
                        self.video.engine.counters.device_frame();
                        let since = Instant::now();
                        if self.let_out(sample, picture, pending).is_break() {
                            walked.end = End::Stopped;
                        }
                        walked.waited += since.elapsed();
                    }
                    Err(error) => walked.fault = Some(error),
                }
            }
            if self.request.is_cancelled() {
                walked.end = End::Stopped;
            }
            let is_over = left == 0 || walked.end == End::Stopped || walked.fault.is_some();
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(walked)
    }

    fn fetch(&self, surface: &Frame) -> std::result::Result<Frame, GpuError> {
        if self.request.stay() != Stay::No {
            return surface.keep_on_device();
        }
        surface.download(&self.video.track.parameters)
    }

    /// What is left was asked for in the GPU's memory, and is not to be had there.
    pub(super) fn refuse(&self, pending: &mut BTreeMap<u32, u32>) -> End {
        let source = self.video.source.name();
        for (_, index) in std::mem::take(pending) {
            let error = crate::Error::from(ErrorKind::NotOnDevice).at_frame(index).of(source);
            self.request.give(index, Err(error), Duration::ZERO);
        }
        End::Over
    }
}
