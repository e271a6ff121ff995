//! Decoders of libavcodec. The choice of packets is left to the engine.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::affinity::while_unbound;
use crate::codec_parameters::CodecParameters;
use crate::demux::CropRectangle;
use crate::error::AvError;
use crate::frame::Frame;
use crate::gpu::Gpu;
use crate::packet::Packet;
use crate::{log, static_name, sys};

/// How a decoder uses threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Threads {
    /// One thread, the caller's.
    One,
    /// Several pictures at once: highest throughput in a run, but more delay and memory.
    Frame(usize),
    /// Parts of one picture at once, if the stream has slices, tiles or wavefronts.
    Slice(usize),
}

/// The result of [`Decoder::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// The decoder has the packet.
    Accepted,
    /// The caller must take pictures out first, then send the same packet again.
    Full,
}

/// The result of [`Decoder::receive`].
#[derive(Debug)]
pub enum DecoderOutput {
    /// A picture.
    Picture(Frame),
    /// No picture until more is sent.
    NeedsMore,
    /// All pictures in the decoder have come out.
    End,
}

/// A flush frees a decoder's unused tables after this many packets since it last did: allocating them again is quick,
/// but not free.
const TRIM_EVERY: u32 = 32;

/// Tables of larger pictures are freed with every flush.
const TRIM_FROM_BYTES: u64 = 8 << 20;

/// The damage settings of a decoder, and the video that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamageOptions {
    /// A number that no other video of the process has, not 0: memory with pictures of one video is cleared before
    /// another one gets it.
    pub owner: u64,
    /// Damaged pictures come out, flagged as corrupt, and so do pictures that refer to them; on one thread, with the
    /// same pixels each time. Otherwise damage is an error.
    pub lenient: bool,
    /// Compares H.265 pictures with the hashes in the stream, if it has some (decoded picture hash SEI message, H.265
    /// D.3.19).
    pub check_hashes: bool,
    /// Data that end early or late in a slice or tile count as damage as well. Not all encoders follow the standard
    /// there.
    pub check_ends: bool,
    /// The largest picture in pixels, as coded.
    pub max_pixels: u64,
}

/// The signs of damage in the pictures of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageSign {
    /// No damage.
    Nothing,
    /// Only data of a slice or tile that do not end with its last block ([`DamageOptions::check_ends`]).
    End,
    /// A defect that no intact stream has.
    Damage,
}

/// An open `AVCodecContext`. It may move between threads; one thread at a time uses it.
#[derive(Debug)]
pub struct Decoder {
    raw: NonNull<sys::AVCodecContext>,
    crop: Option<CropRectangle>,
    is_uncropped: bool,
    /// Nothing was sent since it was opened or flushed.
    is_flushed: bool,
    /// Packets since its tables were last freed.
    untrimmed: u32,
    /// The GPU that decodes its pictures; it must be dropped after the context.
    pub(crate) gpu: Option<Gpu>,
}

// SAFETY: any thread may use a codec context, one at a time: `&mut self` guarantees that.
unsafe impl Send for Decoder {}

/// The settings of a context that are applied before it is opened.
struct DecoderConfig {
    threads: Threads,
    /// `AV_EF_EXPLODE`.
    strict: bool,
    damage: Option<DamageOptions>,
    gpu: Option<Gpu>,
}

impl Decoder {
    /// Opens libavcodec's unmodified decoder, for measurements and comparisons. It never outputs pictures that it knows
    /// to lack references (`AV_CODEC_FLAG_OUTPUT_CORRUPT` stays unset: it is the last safeguard against wrong pictures;
    /// but see [`Decoder::output_corrupt`]). A `strict` one reports damage that it would otherwise ignore
    /// (`AV_EF_EXPLODE`), instead of outputting the picture.
    ///
    /// # Errors
    /// [`AvError`] of `avcodec_open2`; `AVERROR_DECODER_NOT_FOUND` has its own text.
    pub fn open(parameters: &CodecParameters, threads: Threads, strict: bool) -> Result<Decoder, AvError> {
        // SAFETY: any id is allowed; the result is null or a constant.
        let codec = unsafe { sys::avcodec_find_decoder(parameters.codec_id()) };
        let opening = DecoderConfig { threads, strict, damage: None, gpu: None };
        // SAFETY: a codec, as found, or null.
        unsafe { Decoder::open_with(parameters, codec, opening) }
    }

    /// Opens a decoder that checks every decoded picture for damage: `ffi/shim/inspect.c`.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open_inspecting(
        parameters: &CodecParameters,
        threads: Threads,
        damage: &DamageOptions,
    ) -> Result<Decoder, AvError> {
        // SAFETY: any id is allowed; the result is null or lives as long as the process.
        let codec = unsafe { sys::bs_inspecting_codec(parameters.codec_id() as i32) };
        // In the other codecs it rejects intact streams more often than it finds damage.
        let strict = !damage.lenient && parameters.codec_id() == sys::AVCodecID::AV_CODEC_ID_HEVC;
        let open = |strict| {
            let opening = DecoderConfig { threads, strict, damage: Some(*damage), gpu: None };
            // SAFETY: a codec, as found, or null.
            unsafe { Decoder::open_with(parameters, codec, opening) }
        };
        // A defect of the configuration alone is no reason to refuse the video.
        open(strict).or_else(|error| if strict { open(false) } else { Err(error) })
    }

    /// The coded width and height that the stream claimed last.
    pub fn claimed_size(&self) -> (usize, usize) {
        // SAFETY: valid from construction to drop.
        let context = unsafe { self.raw.as_ref() };
        (context.coded_width.max(0) as usize, context.coded_height.max(0) as usize)
    }

    /// Opens a decoder on a GPU, with one thread, since the GPU does the decoding.
    ///
    /// # Safety
    /// `codec` is one of `bs_gpu_codec`'s.
    pub(crate) unsafe fn open_on_gpu(
        parameters: &CodecParameters,
        codec: *const sys::AVCodec,
        gpu: &Gpu,
        damage: &DamageOptions,
    ) -> Result<Decoder, AvError> {
        // Strict: damage that a software decoder would conceal or detect in the pixels would go unnoticed.
        let opening =
            DecoderConfig { threads: Threads::One, strict: true, damage: Some(*damage), gpu: Some(gpu.clone()) };
        // SAFETY: as the caller guarantees.
        unsafe { Decoder::open_with(parameters, codec, opening) }
    }

    /// # Safety
    /// `codec` is a decoder or null; with a GPU, one of `bs_gpu_codec`'s.
    unsafe fn open_with(
        parameters: &CodecParameters,
        codec: *const sys::AVCodec,
        opening: DecoderConfig,
    ) -> Result<Decoder, AvError> {
        if codec.is_null() {
            return Err(AvError::INVALID_ARGUMENT);
        }
        log::quiet();
        // SAFETY: allocates for a valid codec.
        let raw = NonNull::new(unsafe { sys::avcodec_alloc_context3(codec) }).ok_or(AvError::NO_MEMORY)?;
        let (crop, gpu) = (parameters.crop(), opening.gpu);
        let mut decoder = Decoder { raw, crop, is_uncropped: false, is_flushed: true, untrimmed: TRIM_EVERY, gpu };
        // SAFETY: both are valid.
        AvError::check(unsafe { sys::avcodec_parameters_to_context(raw.as_ptr(), parameters.as_raw()) })?;
        let context = decoder.get();
        context.flags |= sys::AV_CODEC_FLAG_COPY_OPAQUE as i32;
        if opening.strict {
            context.err_recognition |= sys::AV_EF_EXPLODE as i32;
        }
        context.get_buffer2 = Some(sys::bs_get_buffer);
        decoder.watch(opening.damage)?;
        if let Some(gpu) = &decoder.gpu {
            // SAFETY: watched and not open yet; the GPU lives as long as the decoder.
            unsafe { sys::bs_gpu_attach(raw.as_ptr(), gpu.as_raw()) };
        }
        let threads = opening.threads;
        let context = decoder.get();
        // Cropping is left to `Frame::crop`, which is exact; libavcodec's own crop is rounded to its alignment.
        context.apply_cropping = 0;
        (context.thread_count, context.thread_type) = match threads {
            Threads::One => (1, 0),
            Threads::Frame(count) => (count.clamp(1, 64) as i32, sys::FF_THREAD_FRAME as i32),
            Threads::Slice(count) => (count.clamp(1, 64) as i32, sys::FF_THREAD_SLICE as i32),
        };
        // SAFETY: a context of this codec that is not open yet; no options.
        let opened = while_unbound(|| unsafe { sys::avcodec_open2(raw.as_ptr(), codec, std::ptr::null_mut()) });
        AvError::check(opened)?;
        // SAFETY: the context is open, and nothing was sent.
        unsafe { sys::bs_check_rows(raw.as_ptr()) };
        Ok(decoder)
    }

    /// Sets the owner of the pictures and the checks, before the context is opened.
    fn watch(&mut self, damage: Option<DamageOptions>) -> Result<(), AvError> {
        /// The next owner number for decoders that belong to no video.
        static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
        let own = || sys::BsWatchOptions {
            owner: NEXT.fetch_add(1, Ordering::Relaxed),
            is_lenient: 0,
            checks_hashes: 0,
            checks_ends: 0,
        };
        let options = damage.map_or_else(own, |damage| sys::BsWatchOptions {
            owner: damage.owner,
            is_lenient: damage.lenient.into(),
            checks_hashes: damage.check_hashes.into(),
            checks_ends: damage.check_ends.into(),
        });
        if let Some(damage) = damage {
            let context = self.get();
            context.max_pixels = i64::try_from(damage.max_pixels).unwrap_or(i64::MAX);
            // Makes dav1d check the data after the last symbol of a tile.
            context.strict_std_compliance = (damage.check_ends && !damage.lenient).into();
        }
        // SAFETY: not open yet.
        AvError::check(unsafe { sys::bs_watch_attach(self.raw.as_ptr(), &options) })?;
        Ok(())
    }

    /// Clears the signs of damage found so far.
    pub fn clear_damage_sign(&mut self) {
        // SAFETY: the context is open. Frame threads may still add to it.
        unsafe { sys::bs_watch_begin(self.raw.as_ptr()) };
    }

    /// The signs of damage since the decoder was opened or flushed, or since [`Decoder::clear_damage_sign`].
    pub fn damage_sign(&self) -> DamageSign {
        // SAFETY: the context is valid.
        match unsafe { sys::bs_watch_found(self.raw.as_ptr()) } as u32 {
            0 => DamageSign::Nothing,
            found if found & sys::BsFound::BS_FOUND_DAMAGE == 0 => DamageSign::End,
            _ => DamageSign::Damage,
        }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::AVCodecContext {
        self.raw.as_ptr()
    }

    /// Marks the decoder as used: state comes in from a checkpoint.
    pub(crate) fn fill(&mut self) {
        self.is_flushed = false;
    }

    pub(crate) fn container_crop(&self) -> Option<CropRectangle> {
        self.crop
    }

    /// Prepares a picture for the caller.
    pub(crate) fn finish(&self, mut frame: Frame) -> Result<Frame, AvError> {
        // A picture on a GPU is cropped when it is copied.
        if self.gpu.is_none() {
            Decoder::release(frame.get())?;
            if !self.is_uncropped {
                frame.crop(self.crop)?;
            }
        }
        Ok(frame)
    }

    fn get(&mut self) -> &mut sys::AVCodecContext {
        // SAFETY: valid from construction to drop, and borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    /// Sends a packet. The decoder refers to its data without a copy as long as it needs them.
    ///
    /// # Errors
    /// libavcodec's error for the packet. The decoder goes on with the next one.
    pub fn send(&mut self, packet: &Packet) -> Result<SendStatus, AvError> {
        self.is_flushed = false;
        // SAFETY: context and packet are valid.
        match AvError::check(unsafe { sys::avcodec_send_packet(self.raw.as_ptr(), packet.raw.as_ptr()) }) {
            Ok(_) => {
                self.untrimmed = self.untrimmed.saturating_add(1);
                Ok(SendStatus::Accepted)
            }
            Err(AvError::AGAIN) => Ok(SendStatus::Full),
            Err(error) => Err(error),
        }
    }

    /// Drains the decoder: [`Decoder::receive`] then returns all remaining pictures, and at last `End`.
    ///
    /// # Errors
    /// As [`Decoder::send`].
    pub fn send_end(&mut self) -> Result<(), AvError> {
        self.is_flushed = false;
        // SAFETY: a null packet asks for draining.
        match AvError::check(unsafe { sys::avcodec_send_packet(self.raw.as_ptr(), std::ptr::null()) }) {
            Ok(_) | Err(AvError::END) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Receives the next picture, in output order, cropped.
    ///
    /// # Errors
    /// libavcodec's error for a packet that was sent before. The decoder goes on.
    pub fn receive(&mut self) -> Result<DecoderOutput, AvError> {
        self.receive_with(0)
    }

    /// As [`Decoder::receive`], but waits for frame threads at work instead of returning `NeedsMore` early: after
    /// `NeedsMore` everything sent so far is decoded.
    ///
    /// # Errors
    /// As [`Decoder::receive`].
    pub fn settle(&mut self) -> Result<DecoderOutput, AvError> {
        self.receive_with(sys::AV_CODEC_RECEIVE_FRAME_FLAG_SYNCHRONOUS)
    }

    fn receive_with(&mut self, flags: u32) -> Result<DecoderOutput, AvError> {
        let mut frame = Frame::empty()?;
        // SAFETY: context and frame are valid.
        match AvError::check(unsafe { sys::avcodec_receive_frame_flags(self.raw.as_ptr(), frame.get(), flags) }) {
            Ok(_) => {
                if let Some(tag) = frame.tag() {
                    // SAFETY: the context is open.
                    frame.get().decode_error_flags |= unsafe { sys::bs_decoder_error_flags(self.raw.as_ptr(), tag) };
                }
                // SAFETY: both are valid, and the picture came out of this decoder.
                if self.gpu.is_none() && unsafe { sys::bs_is_damaged(self.raw.as_ptr(), frame.as_raw()) } != 0 {
                    frame.set_corrupt();
                }
                self.finish(frame).map(DecoderOutput::Picture)
            }
            Err(AvError::AGAIN) => Ok(DecoderOutput::NeedsMore),
            Err(AvError::END) => Ok(DecoderOutput::End),
            Err(error) => Err(error),
        }
    }

    /// From now on outputs pictures as coded, with the margins that are not to be shown: a picture hash SEI message
    /// covers those, too.
    pub fn keep_margins(&mut self) {
        self.is_uncropped = true;
    }

    /// From now on outputs H.265 pictures that it knows to lack references, flagged as corrupt, to test whether the
    /// missing ones matter. No other code may use this.
    pub fn output_corrupt(&mut self) {
        self.get().flags |= sys::AV_CODEC_FLAG_OUTPUT_CORRUPT as i32;
    }

    /// Resets the decoder: the next packet starts from an empty state. Since libavcodec 61.19 the HEVC decoder's output
    /// queue can survive a flush, so pictures that still come out afterwards are dropped here.
    pub fn flush(&mut self) {
        if std::mem::replace(&mut self.is_flushed, true) {
            return;
        }
        // SAFETY: the context is open.
        unsafe { sys::avcodec_flush_buffers(self.raw.as_ptr()) };
        // SAFETY: the context is open, and nothing is in work.
        unsafe { sys::bs_watch_begin(self.raw.as_ptr()) };
        if self.gpu.is_some() {
            // SAFETY: the context is open, and was attached to a GPU.
            unsafe { sys::bs_gpu_begin(self.raw.as_ptr()) };
        }
        // An error only says that one picture was bad; without an end in sight the loop gives up.
        for _ in 0..1000 {
            if let Ok(DecoderOutput::NeedsMore | DecoderOutput::End) = self.receive() {
                break;
            }
        }
        if self.untrimmed >= TRIM_EVERY || self.table_bytes() >= TRIM_FROM_BYTES {
            self.untrimmed = 0;
            // SAFETY: the context is open and idle.
            unsafe { sys::bs_decoder_trim(self.raw.as_ptr()) };
        }
    }

    /// Name of the profile, once a picture was decoded or if the configuration has it.
    pub fn profile_name(&self) -> Option<&'static str> {
        // SAFETY: valid from construction to drop; names are constants.
        unsafe {
            let context = self.raw.as_ref();
            static_name(sys::avcodec_profile_name(context.codec_id, context.profile))
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: ours, freed once; its threads are joined.
        unsafe { sys::bs_decoder_free(&mut raw) };
    }
}
