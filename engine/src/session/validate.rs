//! The only module that decides whether a picture may be shown.
//!
//! Every decode run passes its events to a [`Validator`]: planned or over all samples, on the processor or on a device,
//! for single frames, batches or playback. A *strict* validator shows pictures without any sign of damage, and abandons
//! the run at the first sign. A *lenient* one is for the last resort, a sequential decode: it shows what such a decode
//! shows, flagged where it may show damage.

use ffi::{AvError, Frame};

use crate::decode::Event;
use crate::device::DecodedPicture;
use crate::error::{Error, ErrorKind, Result};
use crate::session::frame::DecodedFrame;
use crate::session::losses::Losses;
use crate::session::shared::VideoState;

/// The decision on an event.
#[derive(Debug)]
pub(crate) enum PictureDecision {
    /// The picture of this sample may be shown.
    Show(u32, Frame),
    /// This sample could not be read: the error is its answer.
    Unreadable(u32, Error),
    /// The event answers no sample.
    Nothing,
    /// No further picture of this run is trusted.
    Abandon,
}

/// The signs of damage in a run so far.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    is_lenient: bool,
    damage: Option<AvError>,
    /// The first sample that could not be read, and why; for messages.
    unreadable: Option<String>,
    /// The last sample that is in the file and could not be read. Where a file ends early, a sequential decode
    /// continues without the rest, and its pictures are right. The failure of a disk or a server says nothing about the
    /// contents.
    lost: Option<u32>,
    /// Samples without a picture.
    losses: Losses,
    /// A size that exceeds the limit.
    too_large: Option<(usize, usize)>,
}

impl Validator {
    /// Abandons a run at the first sign of damage.
    pub(crate) fn strict() -> Validator {
        Validator::default()
    }

    /// For the last resort, with the known losses.
    pub(crate) fn lenient(losses: Losses) -> Validator {
        Validator { is_lenient: true, losses, ..Validator::default() }
    }

    /// Decides whether the event's picture may be shown.
    pub(crate) fn decide(&mut self, video: &VideoState, event: Event) -> PictureDecision {
        match event {
            Event::Damage(_, error) => self.record_damage(error),
            Event::Unreadable(sample, error) => {
                self.losses.add(sample);
                if !matches!(error.kind(), ErrorKind::PastEnd { .. }) {
                    self.lost = Some(sample);
                }
                self.unreadable.get_or_insert_with(|| format!("{} (sample {sample})", error.message()));
                PictureDecision::Unreadable(sample, error)
            }
            Event::Picture(_, picture) if picture.is_corrupt() && !self.is_lenient => {
                self.record_damage(AvError::INVALID_DATA)
            }
            Event::Picture(..) if self.has_fault() && !self.is_lenient => PictureDecision::Nothing,
            Event::Picture(sample, mut picture) => {
                if self.lost.is_some_and(|lost| video.may_need(sample, lost)) {
                    return PictureDecision::Nothing;
                }
                if self.losses.may_show_in(sample, video) {
                    picture.set_corrupt();
                }
                PictureDecision::Show(sample, picture)
            }
        }
    }

    fn record_damage(&mut self, error: AvError) -> PictureDecision {
        self.damage = self.damage.or(Some(error));
        if self.is_lenient { PictureDecision::Nothing } else { PictureDecision::Abandon }
    }

    /// True if a sample of the run was damaged or could not be read.
    pub(crate) fn has_fault(&self) -> bool {
        self.damage.is_some() || self.unreadable.is_some()
    }

    /// The decoder's first error.
    pub(crate) fn damage(&self) -> Option<AvError> {
        self.damage
    }

    /// Records the size that the stream claims, at the end of a run, if it exceeds the limit and something was wrong.
    pub(crate) fn check_claimed_size(&mut self, (width, height): (usize, usize), limit: u64) {
        if self.has_fault() && width as u64 * height as u64 > limit {
            self.too_large = Some((width, height));
        }
    }

    /// The reason why the run has no picture of frame `index`, which is the picture of `sample`.
    pub(crate) fn missing(&self, video: &VideoState, index: u32, sample: u32) -> Error {
        let limit = video.engine.max_pixels;
        let kind = match (&self.unreadable, self.damage, self.too_large) {
            (_, _, Some((width, height))) => ErrorKind::TooManyPixels { width, height, limit },
            (Some(why), ..) => ErrorKind::NeedsUnreadable(why.clone()),
            (None, Some(error), _) => ErrorKind::Damaged(error),
            (None, None, _) => ErrorKind::NotShown,
        };
        let (track, source) = (&video.track, &video.source);
        let offset = track.samples[sample as usize].offset;
        let error = Error::from(kind).at_frame(index).at_sample(sample, Some(offset)).of(source.name());
        // A changed source explains a missing picture better than any other reason.
        source.check().err().map_or(error, |changed| changed.at_frame(index))
    }
}

/// A frame of a picture that a [`Validator`] has shown. Fails if the source has changed, and for a damaged frame if the
/// engine refuses damage.
///
/// # Errors
/// `Changed` and `Corrupt`, with the frame's number.
pub(crate) fn release_frame(
    video: &VideoState,
    index: u32,
    sample: u32,
    picture: DecodedPicture,
) -> Result<DecodedFrame> {
    video.source.check().map_err(|error| error.at_frame(index))?;
    match DecodedFrame::of(&video.track, index, sample, picture) {
        DecodedFrame::Host(frame) => {
            let frame = frame.unless_refused(video.engine.on_damage);
            frame.map(DecodedFrame::Host).map_err(|error| error.of(video.source.name()))
        }
        // A frame on a device comes from a strict validator: the picture is not damaged.
        frame @ DecodedFrame::Device(_) => Ok(frame),
    }
}
