//! Playback: all frames as a sequential decode shows them, pulled by the caller.
//!
//! At the first sign of damage all samples are decoded again by a decoder that outputs damaged pictures; the damage
//! does not affect the frames that were shown before. A pass that needs more memory than it reserved begins again with
//! more. The decision on each picture is left to [`validate`].

use crate::decode::{DecodeRun, Lease};
use crate::device::DecodedPicture;
use crate::error::{ErrorKind, Result};
use crate::picture_memory::{Pause, Reservation, ReservationKind, ReservationRefusal};
use crate::process::ProcessBound;
use crate::session::frame::{DecodedFrame, OmittedFrames, VideoFrame};
use crate::session::shared::VideoState;
use crate::session::validate::{self, PictureDecision, Validator};

/// The frames of a video in the order of a sequential decode. It owns its state: the video stays open as long as the
/// iterator exists. It decodes on the caller's thread and the threads of one decoder.
#[derive(Debug)]
pub struct Sequence {
    /// Dropped before the video: a decoder that returns to the pool after the video is closed would stay there for
    /// ever.
    pass: Option<Pass>,
    video: ProcessBound<VideoState>,
    /// For each frame, whether it was shown.
    shown: Vec<bool>,
    /// Damaged pictures are shown, flagged. Set when the first frame is pulled, which may read all samples.
    is_lenient: Option<bool>,
    /// The expected bytes of a pass's pictures.
    bytes: u64,
    omitted: OmittedFrames,
    is_over: bool,
}

/// One run over all samples. The decoder is dropped before the reservation that its pictures are charged to.
#[derive(Debug)]
struct Pass {
    run: DecodeRun<'static>,
    lease: Lease,
    validator: Validator,
    /// Held while the caller has a frame.
    pause: Option<Pause>,
    memory: Reservation,
}

impl Sequence {
    pub(crate) fn of(video: ProcessBound<VideoState>) -> Sequence {
        let bytes = video.picture_bytes_of_run(video.engine.sequential_threads);
        let shown = vec![false; video.track.frames.len()];
        Sequence {
            pass: None,
            video,
            shown,
            is_lenient: None,
            bytes,
            omitted: OmittedFrames::default(),
            is_over: false,
        }
    }

    /// The frames that were omitted so far; if not all frames were pulled, these are all frames that were not shown.
    pub fn into_omitted(mut self) -> OmittedFrames {
        self.omitted.frames = (0..).zip(&self.shown).filter(|(_, shown)| !**shown).map(|(index, _)| index).collect();
        std::mem::take(&mut self.omitted)
    }

    fn begin(&mut self) -> Result<()> {
        let video = &self.video;
        let last = video.track.samples.len() as u32 - 1;
        let is_lenient = *self.is_lenient.get_or_insert_with(|| video.may_lack_samples());
        let memory = video.engine.pictures.reserve(ReservationKind::Run, self.bytes);
        let lease = video.sequential_lease(is_lenient, Some(&memory))?;
        let validator =
            if is_lenient { Validator::lenient(video.losses(0, last, Some(&memory))) } else { Validator::strict() };
        self.omitted = OmittedFrames::default();
        self.pass = Some(Pass { run: DecodeRun::over(0, last), lease, validator, pause: None, memory });
        Ok(())
    }

    /// The next frame of the pass; `None` at its end.
    fn pull(&mut self) -> Result<Option<VideoFrame>> {
        let Some(pass) = &mut self.pass else { return Ok(None) };
        let (video, is_lenient) = (&*self.video, self.is_lenient == Some(true));
        while let Some(event) = pass.run.next(&video.reader(is_lenient), &mut pass.lease)? {
            match pass.validator.decide(video, event) {
                PictureDecision::Show(sample, picture) => {
                    let Some(index) = video.planner.frame_of(sample) else { continue };
                    if self.shown[index as usize] {
                        continue;
                    }
                    match validate::release_frame(video, index, sample, DecodedPicture::Host(picture))
                        .and_then(DecodedFrame::into_host)
                    {
                        Ok(frame) => {
                            self.shown[index as usize] = true;
                            return Ok(Some(frame));
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::Corrupt) => self.omitted.refused.push(error),
                        Err(error) => return Err(error),
                    }
                }
                PictureDecision::Unreadable(_, error) => {
                    self.omitted.unreadable.push(error);
                    if !is_lenient {
                        break;
                    }
                }
                PictureDecision::Nothing => {}
                PictureDecision::Abandon => break,
            }
        }
        Ok(None)
    }

    /// Ends a pass. True if another one is necessary.
    fn end_pass(&mut self) -> Result<bool> {
        let Some(mut pass) = self.pass.take() else { return Ok(false) };
        let (video, engine) = (&*self.video, &self.video.engine);
        video.learn_slice_ends(pass.lease.decoder().damage_sign(), Some(&pass.memory));
        video.record_peak(engine.sequential_threads, &pass.memory);
        self.omitted.damage = pass.validator.damage();
        match pass.memory.refusal() {
            Some(ReservationRefusal::Permanent { needed }) => {
                return Err(engine.pictures.too_much(needed).of(video.source.name()));
            }
            Some(ReservationRefusal::Temporary { needed }) => {
                self.bytes = needed;
                return Ok(true);
            }
            None => {}
        }
        if pass.validator.has_fault() && self.is_lenient != Some(true) {
            self.is_lenient = Some(true);
            self.bytes = video.picture_bytes_of_run(engine.sequential_threads);
            return Ok(true);
        }
        video.source.check()?;
        Ok(false)
    }

    fn advance(&mut self) -> Result<Option<VideoFrame>> {
        self.video.check().map_err(|error| error.of(self.video.source.name()))?;
        loop {
            match &mut self.pass {
                Some(pass) => pass.pause = None,
                None => self.begin()?,
            }
            if let Some(frame) = self.pull()? {
                if let Some(pass) = &mut self.pass {
                    pass.pause = Some(pass.memory.pause());
                }
                return Ok(Some(frame));
            }
            if !self.end_pass()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Sequence {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Result<VideoFrame>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        if self.is_over && self.video.is_current() {
            self.pass = None;
        }
        next
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if !self.video.is_current() {
            // Its decoder would wait for threads of another process.
            std::mem::forget(self.pass.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Engine;

    #[test]
    fn a_sequence_that_outlives_its_video_leaves_no_decoder_in_the_pool() {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hevc_closed_gop.mp4");
        let engine = Engine::new(Some(1));
        let idle_bytes = || engine.shared.pool.idle_bytes();
        let video = engine.open_path(&clip).unwrap();
        let begun = || {
            let mut sequence = video.sequence();
            sequence.next().unwrap().unwrap();
            sequence
        };
        drop(begun());
        assert!(idle_bytes() > 0, "the pool has the decoder as long as the video is open");
        let sequence = begun();
        drop(video);
        drop(sequence);
        assert_eq!(idle_bytes(), 0);
    }
}
