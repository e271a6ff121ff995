//! Decoders.

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
    /// Several pictures at once: most throughput in a run, more delay, and more memory.
    Frame(usize),
    /// Parts of one picture at once, where the stream has slices, tiles or wavefronts.
    Slice(usize),
}

/// What [`Decoder::send`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The decoder has the packet.
    Accepted,
    /// Take pictures out first, then send the same packet again.
    Full,
}

/// What [`Decoder::receive`] found.
#[derive(Debug)]
pub enum Received {
    /// A picture.
    Picture(Frame),
    /// Nothing until more is sent.
    NeedsMore,
    /// Everything that was in the decoder has come out.
    End,
}

/// A flush lets go of a decoder's free tables when it has had so many packets since it last did: they are quick to have
/// again, but not for nothing.
const TRIM_EVERY: u32 = 32;

/// Tables of larger pictures are let go of each time.
const TRIM_FROM_BYTES: u64 = 8 << 20;

/// What a decoder does about damage, and whose pictures it decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamageOptions {
    /// A number that no other video of the process has, not 0: memory with pictures of one video is cleared before another
    /// gets it.
    pub owner: u64,
    /// Damaged pictures come out, flagged as corrupt, and so does what refers to them; on one thread, the same pixels each
    /// time. Else damage is an error.
    pub lenient: bool,
    /// Pictures of H.265 are compared with the hashes in the stream, where it has some (SEI decoded picture hash).
    pub check_hashes: bool,
    /// Where the data of slices and tiles end counts as well. Not all encoders keep to the letter of the standard there.
    pub check_ends: bool,
    /// Pixels that a picture may have, as coded.
    pub max_pixels: u64,
}

/// What spoke against the pictures of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Only that data of a slice or tile did not end where its pictures' blocks did ([`DamageOptions::check_ends`]).
    End,
    /// Something that no intact stream has.
    Damage,
}

/// An open `AVCodecContext`.
#[derive(Debug)]
pub struct Decoder {
    raw: NonNull<sys::AVCodecContext>,
    crop: Option<CropRectangle>,
    is_uncropped: bool,
    /// Nothing was sent since it was opened or flushed.
    is_flushed: bool,
    /// Packets since its tables were let go of.
    untrimmed: u32,
    /// Where its pictures are decoded; it must go after the context.
    pub(crate) on: Option<Gpu>,
}

// SAFETY: a codec context may be used from any thread, by one at a time: `&mut self` sees to that.
unsafe impl Send for Decoder {}

/// What is done to a context before it is opened.
struct Opening {
    threads: Threads,
    /// `AV_EF_EXPLODE`.
    strict: bool,
    damage: Option<DamageOptions>,
    on: Option<Gpu>,
}

impl Decoder {
    /// Opens libavcodec's decoder as it is, to measure and to compare with. It never gives out pictures that it knows to miss
    /// references (`AV_CODEC_FLAG_OUTPUT_CORRUPT` stays unset: it is the last net against wrong pictures; but see
    /// [`Decoder::show_broken`]). A `strict` one reports damage that it would else pass over in silence (`AV_EF_EXPLODE`),
    /// instead of giving out the picture.
    ///
    /// # Errors
    /// [`AvError`] of `avcodec_open2`; `AVERROR_DECODER_NOT_FOUND` has its own text.
    pub fn open(parameters: &CodecParameters, threads: Threads, strict: bool) -> Result<Decoder, AvError> {
        // SAFETY: any id may be asked; what comes back is null or a constant.
        let codec = unsafe { sys::avcodec_find_decoder(parameters.codec_id()) };
        let opening = Opening { threads, strict, damage: None, on: None };
        // SAFETY: a codec, as found, or null.
        unsafe { Decoder::open_with(parameters, codec, opening) }
    }

    /// Opens a decoder that looks at every picture that it has decoded: `ffi/shim/inspect.c`.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open_inspecting(
        parameters: &CodecParameters,
        threads: Threads,
        damage: &DamageOptions,
    ) -> Result<Decoder, AvError> {
        // SAFETY: any id may be asked; what comes back is null or lives as long as the process.
        let codec = unsafe { sys::bs_inspecting_codec(parameters.codec_id() as i32) };
        // In the other codecs it makes more of intact streams undecodable than it finds in damaged ones.
        let strict = !damage.lenient && parameters.codec_id() == sys::AVCodecID::AV_CODEC_ID_HEVC;
        let open = |strict| {
            let opening = Opening { threads, strict, damage: Some(*damage), on: None };
            // SAFETY: a codec, as found, or null.
            unsafe { Decoder::open_with(parameters, codec, opening) }
        };
        // What is wrong with the configuration alone is no reason to refuse the video.
        open(strict).or_else(|error| if strict { open(false) } else { Err(error) })
    }

    /// Width and height, as coded, that the stream has claimed last.
    pub fn claimed_size(&self) -> (usize, usize) {
        // SAFETY: valid from construction to drop.
        let context = unsafe { self.raw.as_ref() };
        (context.coded_width.max(0) as usize, context.coded_height.max(0) as usize)
    }

    /// One on a GPU: on one thread, since the picture is decoded elsewhere.
    ///
    /// # Safety
    /// `codec` is one of `bs_gpu_codec`'s.
    pub(crate) unsafe fn open_on_gpu(
        parameters: &CodecParameters,
        codec: *const sys::AVCodec,
        gpu: &Gpu,
        damage: &DamageOptions,
    ) -> Result<Decoder, AvError> {
        // Strict: what software would conceal, or find out while it decodes, nobody else would notice.
        let opening = Opening { threads: Threads::One, strict: true, damage: Some(*damage), on: Some(gpu.clone()) };
        // SAFETY: the caller's promise.
        unsafe { Decoder::open_with(parameters, codec, opening) }
    }

    /// # Safety
    /// `codec` is a decoder or null; with a GPU, one of `bs_gpu_codec`'s.
    unsafe fn open_with(
        parameters: &CodecParameters,
        codec: *const sys::AVCodec,
        opening: Opening,
    ) -> Result<Decoder, AvError> {
        if codec.is_null() {
            return Err(AvError::INVALID_ARGUMENT);
        }
        log::quiet();
        // SAFETY: allocates for a valid codec.
        let raw = NonNull::new(unsafe { sys::avcodec_alloc_context3(codec) }).ok_or(AvError::NO_MEMORY)?;
        let (crop, on) = (parameters.crop(), opening.on);
        let mut decoder = Decoder { raw, crop, is_uncropped: false, is_flushed: true, untrimmed: TRIM_EVERY, on };
        // SAFETY: both are valid.
        AvError::check(unsafe { sys::avcodec_parameters_to_context(raw.as_ptr(), parameters.as_raw()) })?;
        let context = decoder.get();
        context.flags |= sys::AV_CODEC_FLAG_COPY_OPAQUE as i32;
        if opening.strict {
            context.err_recognition |= sys::AV_EF_EXPLODE as i32;
        }
        context.get_buffer2 = Some(sys::bs_get_buffer);
        decoder.watch(opening.damage)?;
        if let Some(gpu) = &decoder.on {
            // SAFETY: watched and not open yet; the GPU lives as long as the decoder.
            unsafe { sys::bs_gpu_attach(raw.as_ptr(), gpu.as_raw()) };
        }
        let threads = opening.threads;
        let context = decoder.get();
        // Cropping is done by `Frame::crop`, to the pixel; libavcodec's own stops at its alignment.
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

    /// Before the context is opened: says whose its pictures are, and what is looked at.
    fn watch(&mut self, damage: Option<DamageOptions>) -> Result<(), AvError> {
        /// Owners of pictures of decoders that belong to no video.
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
            // dav1d then looks at what follows the last symbol of a tile.
            context.strict_std_compliance = (damage.check_ends && !damage.lenient).into();
        }
        // SAFETY: not open yet.
        AvError::check(unsafe { sys::bs_watch_attach(self.raw.as_ptr(), &options) })?;
        Ok(())
    }

    /// Forgets what was found so far.
    pub fn forget_found(&mut self) {
        // SAFETY: the context is open. Frame threads may still add to it.
        unsafe { sys::bs_watch_begin(self.raw.as_ptr()) };
    }

    /// What spoke against pictures since the decoder was opened, or flushed, or [`Decoder::forget_found`].
    pub fn found(&self) -> Found {
        // SAFETY: the context is valid.
        match unsafe { sys::bs_watch_found(self.raw.as_ptr()) } as u32 {
            0 => Found::Nothing,
            found if found & sys::BsFound::BS_FOUND_DAMAGE == 0 => Found::End,
            _ => Found::Damage,
        }
    }

    pub(crate) fn as_raw(&self) -> *mut sys::AVCodecContext {
        self.raw.as_ptr()
    }

    /// State comes in from elsewhere.
    pub(crate) fn fill(&mut self) {
        self.is_flushed = false;
    }

    pub(crate) fn container_crop(&self) -> Option<CropRectangle> {
        self.crop
    }

    /// What is done to every picture before it is handed out.
    pub(crate) fn finish(&self, mut frame: Frame) -> Result<Frame, AvError> {
        // What is on a GPU is cropped when it is copied.
        if self.on.is_none() {
            Decoder::let_out(frame.get())?;
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

    /// Sends a packet; it is referred to, not copied, as long as the decoder needs it.
    ///
    /// # Errors
    /// What libavcodec says of the packet. The decoder goes on with the next one.
    pub fn send(&mut self, packet: &Packet) -> Result<Sent, AvError> {
        self.is_flushed = false;
        // SAFETY: context and packet are valid.
        match AvError::check(unsafe { sys::avcodec_send_packet(self.raw.as_ptr(), packet.raw.as_ptr()) }) {
            Ok(_) => {
                self.untrimmed = self.untrimmed.saturating_add(1);
                Ok(Sent::Accepted)
            }
            Err(AvError::AGAIN) => Ok(Sent::Full),
            Err(error) => Err(error),
        }
    }

    /// Says that nothing follows: [`Decoder::receive`] then gives all that is inside, and at last `End`.
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

    /// Takes the next picture out, in output order, cropped.
    ///
    /// # Errors
    /// What libavcodec says of a packet sent before. The decoder goes on.
    pub fn receive(&mut self) -> Result<Received, AvError> {
        self.receive_with(0)
    }

    /// As [`Decoder::receive`], but frame threads that are still at work are waited for, instead of asking for more to
    /// be sent: after `NeedsMore` everything sent so far is decoded.
    ///
    /// # Errors
    /// As [`Decoder::receive`].
    pub fn settle(&mut self) -> Result<Received, AvError> {
        self.receive_with(sys::AV_CODEC_RECEIVE_FRAME_FLAG_SYNCHRONOUS)
    }

    fn receive_with(&mut self, flags: u32) -> Result<Received, AvError> {
        let mut frame = Frame::empty()?;
        // SAFETY: context and frame are valid.
        match AvError::check(unsafe { sys::avcodec_receive_frame_flags(self.raw.as_ptr(), frame.get(), flags) }) {
            Ok(_) => {
                if let Some(tag) = frame.tag() {
                    // SAFETY: the context is open.
                    frame.get().decode_error_flags |= unsafe { sys::bs_decoder_error_flags(self.raw.as_ptr(), tag) };
                }
                // SAFETY: both are valid, and the picture came out of this decoder.
                if self.on.is_none() && unsafe { sys::bs_is_damaged(self.raw.as_ptr(), frame.as_raw()) } != 0 {
                    frame.set_corrupt();
                }
                self.finish(frame).map(Received::Picture)
            }
            Err(AvError::AGAIN) => Ok(Received::NeedsMore),
            Err(AvError::END) => Ok(Received::End),
            Err(error) => Err(error),
        }
    }

    /// From now on gives out pictures as they are coded, with the margins that are not to be shown: what a picture hash
    /// SEI message is made over.
    pub fn keep_margins(&mut self) {
        self.is_uncropped = true;
    }

    /// From now on gives out H.265 pictures that it knows to miss references, flagged as corrupt: to see whether what is
    /// missing matters. Nothing else may use this.
    pub fn show_broken(&mut self) {
        self.get().flags |= sys::AV_CODEC_FLAG_OUTPUT_CORRUPT as i32;
    }

    /// Forgets everything: the next packet starts anew. Since libavcodec 61.19 the HEVC decoder's output queue can
    /// survive a flush, so what still comes out afterwards is taken and dropped here.
    pub fn flush(&mut self) {
        if std::mem::replace(&mut self.is_flushed, true) {
            return;
        }
        // SAFETY: the context is open.
        unsafe { sys::avcodec_flush_buffers(self.raw.as_ptr()) };
        // SAFETY: the context is open, and nothing is in work.
        unsafe { sys::bs_watch_begin(self.raw.as_ptr()) };
        if self.on.is_some() {
            // SAFETY: the context is open, and was attached to a GPU.
            unsafe { sys::bs_gpu_begin(self.raw.as_ptr()) };
        }
        // An error says no more than that one picture was bad; without an end in sight there is nothing to save.
        for _ in 0..1000 {
            if let Ok(Received::NeedsMore | Received::End) = self.receive() {
                break;
            }
        }
        if self.untrimmed >= TRIM_EVERY || self.table_bytes() >= TRIM_FROM_BYTES {
            self.untrimmed = 0;
            // SAFETY: the context is open, and has nothing left to do.
            unsafe { sys::bs_decoder_trim(self.raw.as_ptr()) };
        }
    }

    /// Name of the profile, once a picture was decoded or the configuration told.
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
