//! Checkpoints: the reference state of a decoder, saved just after a picture, and restored into decoders of the same
//! stream any number of times. Pictures are shared by reference count, never copied. Storing checkpoints is left to the
//! engine.

use std::ptr::NonNull;

use crate::decoder::Decoder;
use crate::demux::CropRectangle;
use crate::error::AvError;
use crate::frame::Frame;
use crate::sys;

/// A picture that a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPicture {
    /// The tag of its packet; `None` for pictures that the decoder generated for missing references.
    pub tag: Option<u32>,
    /// Equal for the same picture in different checkpoints, as long as one of them exists.
    pub identity: u64,
    /// Its bytes, with the decoder's tables for it.
    pub bytes: u64,
    /// True if [`Checkpoint::picture`] can return it.
    pub is_whole: bool,
}

/// The state of a decoder just after a picture.
#[derive(Debug)]
pub struct Checkpoint {
    raw: NonNull<sys::BsCheckpoint>,
    /// The codec of the state.
    codec: u32,
    crop: Option<CropRectangle>,
}

// SAFETY: plain memory and atomic reference counts; nothing in it is tied to a thread.
unsafe impl Send for Checkpoint {}
// SAFETY: shared access only reads and takes references: bs_checkpoint_restore(), _pictures() and _picture() take it
// const.
unsafe impl Sync for Checkpoint {}

/// More pictures than any decoder holds.
const MOST_PICTURES: usize = 72;

impl Checkpoint {
    /// The pictures that it holds.
    pub fn pictures(&self) -> Vec<CheckpointPicture> {
        let empty = sys::BsPicture { identity: 0, bytes: 0, tag: -1, flags: 0, frame: std::ptr::null() };
        let mut raw = [empty; MOST_PICTURES];
        // SAFETY: valid from construction to drop; the array has the given capacity.
        let count = unsafe { sys::bs_checkpoint_pictures(self.raw.as_ptr(), raw.as_mut_ptr(), MOST_PICTURES as i32) };
        let held = |picture: &sys::BsPicture| CheckpointPicture {
            tag: u32::try_from(picture.tag)
                .ok()
                .filter(|_| picture.flags & sys::BsPictureFlags::BS_PICTURE_OTHER_LAYER == 0),
            identity: picture.identity,
            bytes: picture.bytes,
            is_whole: picture.flags == 0,
        };
        raw[..count.max(0) as usize].iter().map(held).collect()
    }

    /// The picture with a tag, cropped as [`Decoder::receive`] crops; `None` if the checkpoint does not hold it, or not
    /// in a form that can be shown.
    pub fn picture(&self, tag: u32) -> Option<Frame> {
        let mut frame = Frame::empty().ok()?;
        // SAFETY: both are valid; the frame is empty.
        AvError::check(unsafe { sys::bs_checkpoint_picture(self.raw.as_ptr(), tag, frame.get()) }).ok()?;
        frame.crop(self.crop).ok()?;
        Some(frame)
    }

    /// Releases all pictures: ready for [`Decoder::save`].
    pub fn clear(&mut self) {
        // SAFETY: valid, and borrowed mutably.
        unsafe { sys::bs_checkpoint_clear(self.raw.as_ptr()) };
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { sys::bs_checkpoint_free(self.raw.as_ptr()) };
    }
}

impl Decoder {
    /// True if [`Decoder::save`] and [`Decoder::restore`] work for this decoder: H.265, H.264, VP9 and AV1, with any
    /// kind of threads.
    pub fn can_fork(&self) -> bool {
        // SAFETY: the context is open.
        unsafe { sys::bs_fork_is_supported(self.as_raw()) != 0 }
    }

    /// Samples that may still be decoding when the next one is sent: with frame threads one fewer than threads, in AV1
    /// as many as frames can be in work, otherwise 0. Of the sample before those the state is available.
    pub fn lag(&self) -> usize {
        // SAFETY: the context is open.
        usize::try_from(unsafe { sys::bs_decoder_lag(self.as_raw()) }).unwrap_or(0)
    }

    /// Saves the state just after the picture with a tag. On a single thread that is the last picture; with frame
    /// threads it is one that was waited for, if its thread has had no other packet since. `None` if the state is not
    /// available. `spare` is reused if it has the same codec.
    pub fn save(&mut self, tag: u32, spare: Option<Checkpoint>) -> Option<Checkpoint> {
        if !self.can_fork() {
            return None;
        }
        // SAFETY: the context is open.
        let codec = unsafe { (*self.as_raw()).codec_id };
        let crop = self.container_crop();
        let checkpoint = match spare.filter(|spare| spare.codec == codec) {
            Some(mut spare) => {
                spare.clear();
                spare.crop = crop;
                spare
            }
            None => {
                // SAFETY: the context is open; null means no memory.
                let raw = NonNull::new(unsafe { sys::bs_checkpoint_alloc(self.as_raw()) })?;
                Checkpoint { raw, codec, crop }
            }
        };
        // SAFETY: both are valid and ours alone.
        let saved = unsafe { sys::bs_checkpoint_save(checkpoint.raw.as_ptr(), self.as_raw(), tag) };
        AvError::check(saved).ok()?;
        // SAFETY: both are valid and ours alone.
        unsafe { sys::bs_checkpoint_share(checkpoint.raw.as_ptr(), self.as_raw()) };
        Some(checkpoint)
    }

    /// Restores a checkpoint of the same stream. The decoder is flushed first.
    ///
    /// # Errors
    /// [`AvError`]: no memory, or a decoder without support for checkpoints. It is flushed then.
    pub fn restore(&mut self, from: &Checkpoint) -> Result<(), AvError> {
        self.flush();
        if !self.can_fork() {
            return Err(AvError::INVALID_ARGUMENT);
        }
        self.fill();
        // SAFETY: the decoder is ours alone and was flushed, so that its threads wait; the checkpoint is only read.
        match AvError::check(unsafe { sys::bs_checkpoint_restore(from.raw.as_ptr(), self.as_raw()) }) {
            Ok(_) => {
                // SAFETY: both are valid; only atomic counts of the checkpoint change.
                unsafe { sys::bs_checkpoint_share(from.raw.as_ptr(), self.as_raw()) };
                Ok(())
            }
            Err(error) => {
                self.flush();
                Err(error)
            }
        }
    }

    /// The picture with a tag, if it was decoded last (as for [`Decoder::save`]), ahead of its output order and without
    /// draining the decoder. `None` if it cannot be shown, or this codec's decoder outputs pictures at once.
    pub fn picture(&mut self, tag: u32) -> Option<Frame> {
        let mut frame = Frame::empty().ok()?;
        // SAFETY: both are valid; the frame is empty.
        AvError::check(unsafe { sys::bs_decoder_picture(self.as_raw(), tag, frame.get()) }).ok()?;
        self.finish(frame).ok()
    }

    /// False if the picture with a tag, decoded last (as for [`Decoder::save`]), or a picture held with it, is known to
    /// be damaged. H.264 only: with frame threads a picture may come out before libavcodec knows.
    pub fn is_clean(&mut self, tag: u32) -> bool {
        // SAFETY: the context is open.
        unsafe { sys::bs_decoder_is_clean(self.as_raw(), tag) != 0 }
    }
}
