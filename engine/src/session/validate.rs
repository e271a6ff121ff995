//! The one place that decides whether a picture may be shown.
//!
//! Every decode run, planned or over all samples, on the processor or on a device, for single frames, batches or playback, hands
//! its events to a [`Validator`]. A *strict* one lets out pictures that nothing speaks against, and gives the run up at the first
//! sign of damage. A *lenient* one is for the last resort, a sequential decode: it lets out what such a decode shows, flagged where
//! it may show damage.

use ffi::{AvError, Frame};

use crate::decode::Event;
use crate::device::Decoded;
use crate::error::{Error, ErrorKind, Result};
use crate::session::frame::DecodedFrame;
use crate::session::losses::Losses;
use crate::session::shared::VideoState;

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// The picture of this sample may be shown.
    Show(u32, Frame),
    /// This sample could not be read: that is the answer for it.
    Unreadable(u32, Error),
    /// Nothing can be said of any sample.
    Nothing,
    /// Nothing that this run gives out is to be believed any more.
    Abandon,
}

/// What spoke against the pictures of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    is_lenient: bool,
    damage: Option<AvError>,
    /// The first sample that could not be read, for messages.
    unreadable: Option<String>,
    /// The last sample that is in the file and could not be read all the same. Where a file ends early, a sequential decode
    /// goes on without what is missing, and what it shows is right; a disk or a server that fails tells nothing about it.
    lost: Option<u32>,
    /// Samples that came to nothing.
    losses: Losses,
    /// A size that is not allowed.
    too_large: Option<(usize, usize)>,
}

impl Validator {
    /// One that gives a run up at the first sign of damage.
    pub(crate) fn strict() -> Validator {
        Validator::default()
    }

    /// One for the last resort, with what is known of samples that are missing.
    pub(crate) fn lenient(losses: Losses) -> Validator {
        Validator { is_lenient: true, losses, ..Validator::default() }
    }

    /// Decides on an event.
    pub(crate) fn rule(&mut self, video: &VideoState, event: Event) -> Ruling {
        match event {
            Event::Damage(_, error) => self.damaged(error),
            Event::Unreadable(sample, error) => {
                self.losses.add(sample);
                if !matches!(error.kind(), ErrorKind::PastEnd { .. }) {
                    self.lost = Some(sample);
                }
                self.unreadable.get_or_insert_with(|| format!("{} (sample {sample})", error.message()));
                Ruling::Unreadable(sample, error)
            }
            Event::Picture(_, picture) if picture.is_corrupt() && !self.is_lenient => {
                self.damaged(AvError::INVALID_DATA)
            }
            Event::Picture(..) if self.has_fault() && !self.is_lenient => Ruling::Nothing,
            Event::Picture(sample, mut picture) => {
                if self.lost.is_some_and(|lost| video.may_need(sample, lost)) {
                    return Ruling::Nothing;
                }
                if self.losses.may_show_in(sample, video) {
                    picture.set_corrupt();
                }
                Ruling::Show(sample, picture)
            }
        }
    }

    fn damaged(&mut self, error: AvError) -> Ruling {
        self.damage = self.damage.or(Some(error));
        if self.is_lenient { Ruling::Nothing } else { Ruling::Abandon }
    }

    /// Was there anything wrong with the samples of the run?
    pub(crate) fn has_fault(&self) -> bool {
        self.damage.is_some() || self.unreadable.is_some()
    }

    /// What the decoder complained of first.
    pub(crate) fn damage(&self) -> Option<AvError> {
        self.damage
    }

    /// Takes note of the size that the stream claims at the end of a run.
    pub(crate) fn claims(&mut self, (width, height): (usize, usize), limit: u64) {
        if self.has_fault() && width as u64 * height as u64 > limit {
            self.too_large = Some((width, height));
        }
    }

    /// Why the run has no picture of frame `index`, which is that of `sample`.
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
        // A source that changed explains a missing picture better than anything else.
        source.check().err().map_or(error, |changed| changed.at_frame(index))
    }
}

/// Lets a picture out that a [`Validator`] has shown: if the source is still what was opened, and damage is not refused.
///
/// # Errors
/// `Changed` and `Corrupt`, with the frame's number.
pub(crate) fn let_out(video: &VideoState, index: u32, sample: u32, picture: Decoded) -> Result<DecodedFrame> {
    video.source.check().map_err(|error| error.at_frame(index))?;
    match DecodedFrame::of(&video.track, index, sample, picture) {
        DecodedFrame::Host(frame) => {
            let frame = frame.unless_refused(video.engine.on_damage);
            frame.map(DecodedFrame::Host).map_err(|error| error.of(video.source.name()))
        }
        // A strict validator has seen it: it is not damaged.
        frame @ DecodedFrame::Device(_) => Ok(frame),
    }
}
