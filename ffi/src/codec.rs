//! Decoders.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::affinity::while_unbound;
use crate::demux::CropRectangle;
use crate::error::AvError;
use crate::frame::Frame;
use crate::gpu::Gpu;
use crate::packet::Packet;
use crate::pixel::PixelFormat;
use crate::{log, static_name, sys};

/// Colour description: code points of ITU-T H.273, as FFmpeg numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color {
    /// `AVColorPrimaries`.
    pub primaries: u32,
    /// `AVColorTransferCharacteristic`.
    pub transfer: u32,
    /// `AVColorSpace`: the matrix.
    pub matrix: u32,
    /// `AVColorRange`: 1 limited, 2 full.
    pub range: u32,
    /// `AVChromaLocation`.
    pub chroma_location: u32,
}

impl Color {
    /// FFmpeg's names of primaries, transfer, matrix and range; `unknown` where nothing is said.
    pub fn names(&self) -> [&'static str; 4] {
        // SAFETY: any number may be asked; names are constants, or null.
        let names = unsafe {
            [
                sys::av_color_primaries_name(self.primaries),
                sys::av_color_transfer_name(self.transfer),
                sys::av_color_space_name(self.matrix),
                sys::av_color_range_name(self.range),
            ]
            .map(|name| static_name(name))
        };
        names.map(|name| name.unwrap_or("unknown"))
    }

    /// FFmpeg's name of the place of chroma samples; `unspecified` where nothing is said.
    pub fn chroma_location_name(&self) -> &'static str {
        // SAFETY: any number may be asked; names are constants, or null.
        unsafe { static_name(sys::av_chroma_location_name(self.chroma_location)) }.unwrap_or("unspecified")
    }
}

/// What a container says of Dolby Vision (its decoder configuration record).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DolbyVision {
    /// Profile: 5, 7, 8, ...
    pub profile: u8,
    /// What else the base layer is: 0 nothing, 1 HDR10, 2 SDR, 4 HLG (`dv_bl_signal_compatibility_id`).
    pub compatibility: u8,
}

/// What a decoder must be told before the first packet (`AVCodecParameters`).
#[derive(Debug)]
pub struct CodecParameters {
    raw: NonNull<sys::AVCodecParameters>,
}

// SAFETY: plain memory that the value owns.
unsafe impl Send for CodecParameters {}
// SAFETY: shared access only reads.
unsafe impl Sync for CodecParameters {}

impl CodecParameters {
    /// Parameters that say nothing yet.
    pub(crate) fn empty() -> Result<CodecParameters, AvError> {
        // SAFETY: allocates; null means no memory.
        let raw = NonNull::new(unsafe { sys::avcodec_parameters_alloc() }).ok_or(AvError::NO_MEMORY)?;
        Ok(CodecParameters { raw })
    }

    /// A copy of FFmpeg's own.
    ///
    /// # Safety
    /// `from` points to valid codec parameters.
    pub(crate) unsafe fn copy(from: *const sys::AVCodecParameters) -> Result<CodecParameters, AvError> {
        let copy = CodecParameters::empty()?;
        // SAFETY: both are valid.
        AvError::check(unsafe { sys::avcodec_parameters_copy(copy.raw.as_ptr(), from) })?;
        Ok(copy)
    }

    pub(crate) fn get(&mut self) -> &mut sys::AVCodecParameters {
        // SAFETY: valid from construction to drop, and borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    pub(crate) fn peek(&self) -> &sys::AVCodecParameters {
        // SAFETY: valid from construction to drop.
        unsafe { self.raw.as_ref() }
    }

    pub(crate) fn as_raw(&self) -> *const sys::AVCodecParameters {
        self.raw.as_ptr()
    }

    pub(crate) fn codec_id(&self) -> u32 {
        self.peek().codec_id
    }

    /// FFmpeg's name of the codec: `hevc`, `h264`, `vp9`, `av1`.
    pub fn codec_name(&self) -> &'static str {
        // SAFETY: any number may be asked; names are constants.
        unsafe { static_name(sys::avcodec_get_name(self.codec_id())) }.unwrap_or("unknown")
    }

    /// What the container calls the codec: four characters of which the first is the lowest byte; 0 if it has no name for it.
    pub fn tag(&self) -> u32 {
        self.peek().codec_tag
    }

    /// Decoder configuration record (`hvcC`, `avcC`, ...) or parameter sets.
    pub fn extradata(&self) -> &[u8] {
        let parameters = self.peek();
        if parameters.extradata.is_null() || parameters.extradata_size <= 0 {
            return &[];
        }
        // SAFETY: FFmpeg keeps `extradata_size` bytes there.
        unsafe { std::slice::from_raw_parts(parameters.extradata, parameters.extradata_size as usize) }
    }

    /// Width and height that the container gives, if any.
    pub fn size(&self) -> (usize, usize) {
        (self.peek().width.max(0) as usize, self.peek().height.max(0) as usize)
    }

    /// Pixel format, where the container or probing told.
    pub fn pixel_format(&self) -> Option<PixelFormat> {
        (self.peek().format >= 0).then(|| PixelFormat(self.peek().format))
    }

    /// Colour description of the container (or of the stream, where probing looked).
    pub fn color(&self) -> Color {
        let parameters = self.peek();
        Color {
            primaries: parameters.color_primaries,
            transfer: parameters.color_trc,
            matrix: parameters.color_space,
            range: parameters.color_range,
            chroma_location: parameters.chroma_location,
        }
    }

    /// True if the container cuts something off the pictures.
    pub fn is_cropped(&self) -> bool {
        self.crop().is_some()
    }

    /// Whether pixels must be moved by what the container calls cropping.
    pub(crate) fn crop(&self) -> Option<CropRectangle> {
        let data = self.side_data(sys::AVPacketSideDataType::AV_PKT_DATA_FRAME_CROPPING)?;
        let word = |index: usize| Some(u32::from_le_bytes(data.get(index * 4..index * 4 + 4)?.try_into().ok()?));
        let crop = CropRectangle { top: word(0)?, bottom: word(1)?, left: word(2)?, right: word(3)? };
        (crop.top | crop.bottom | crop.left | crop.right != 0).then_some(crop)
    }

    /// Rotation of the display matrix in degrees, counter-clockwise as FFmpeg counts, and whether it mirrors.
    pub fn rotation(&self) -> (f64, bool) {
        let Some(data) = self.side_data(sys::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX) else {
            return (0.0, false);
        };
        let Some(words) = data.get(..36) else { return (0.0, false) };
        let mut matrix = [0_i32; 9];
        for (entry, bytes) in matrix.iter_mut().zip(words.chunks_exact(4)) {
            *entry = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        // SAFETY: nine entries, as asked for.
        let degrees = unsafe { sys::av_display_rotation_get(matrix.as_ptr()) };
        let [a, b, _, c, d, ..] = matrix.map(i64::from);
        (if degrees.is_finite() { degrees } else { 0.0 }, a * d - b * c < 0)
    }

    /// The Dolby Vision configuration, if there is one.
    pub fn dolby_vision(&self) -> Option<DolbyVision> {
        let record = self.side_data(sys::AVPacketSideDataType::AV_PKT_DATA_DOVI_CONF)?;
        let byte = |place: usize| record.get(place).copied();
        Some(DolbyVision {
            profile: byte(std::mem::offset_of!(sys::AVDOVIDecoderConfigurationRecord, dv_profile))?,
            compatibility: byte(std::mem::offset_of!(
                sys::AVDOVIDecoderConfigurationRecord,
                dv_bl_signal_compatibility_id
            ))?,
        })
    }

    pub(crate) fn side_data(&self, kind: u32) -> Option<&[u8]> {
        let parameters = self.peek();
        // SAFETY: the list is valid as long as the parameters are.
        unsafe {
            let side = sys::av_packet_side_data_get(parameters.coded_side_data, parameters.nb_coded_side_data, kind);
            let side = side.as_ref().filter(|side| !side.data.is_null())?;
            Some(std::slice::from_raw_parts(side.data, side.size))
        }
    }
}

impl Drop for CodecParameters {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { sys::avcodec_parameters_free(&mut raw) };
    }
}

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
        let strict = !damage.lenient && parameters.codec_name() == "hevc";
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
        AvError::check(unsafe { sys::avcodec_parameters_to_context(raw.as_ptr(), parameters.raw.as_ptr()) })?;
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
