//! Containers, read by libavformat through an I/O context of ours. Making an index of the packets is left to the
//! engine.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::account::PictureAccount;
use crate::codec_parameters::CodecParameters;
use crate::error::AvError;
use crate::packet::Packet;
use crate::{Rational, log, meter, rational, sys};

/// The bytes that a demuxer reads, with random access.
pub trait Input: Send {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// True if there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `into` from `offset` as far as there are bytes, and returns their number.
    ///
    /// # Errors
    /// The source's error. The demuxer keeps it, and returns it to its caller.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// Size of the buffer between [`Input`] and libavformat.
const BUFFER: usize = 32 * 1024;

struct IoState {
    input: Box<dyn Input>,
    position: u64,
    failure: Option<io::Error>,
}

impl IoState {
    /// Returns the input's own error, which libavformat takes for the end of the file without reporting it.
    fn unfailed(&mut self) -> Result<(), io::Error> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

unsafe extern "C" fn read_packet(opaque: *mut c_void, into: *mut u8, size: c_int) -> c_int {
    // SAFETY: `opaque` is the IoState of the demuxer that owns this context, which nothing else uses during the call.
    let state = unsafe { &mut *opaque.cast::<IoState>() };
    // At the end nothing may be written: libavformat continues to use the contents of its buffer.
    let left = state.input.len().saturating_sub(state.position);
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(size.max(0) as usize);
    if len == 0 {
        return AvError::END.0;
    }
    // Not every caller in libavformat stops at an allocation that fails.
    if meter::read(len).is_some() {
        return AvError::IO.0;
    }
    // SAFETY: libavformat requests at most `size` bytes at `into`, which it owns, and `len` is no more. They were
    // allocated, not set, so they are set before any other code reads them.
    let into = unsafe {
        std::ptr::write_bytes(into, 0, len);
        std::slice::from_raw_parts_mut(into, len)
    };
    // After an error libavformat continues as if the file ended there. Further reads would only fail, or wait, again.
    if state.failure.is_some() {
        return AvError::IO.0;
    }
    match state.input.read_at(state.position, into) {
        Ok(0) => AvError::END.0,
        Ok(count) if count > into.len() => {
            state.failure = Some(io::Error::other("a source reports more bytes than were requested"));
            AvError::IO.0
        }
        Ok(count) => {
            state.position += count as u64;
            count as c_int
        }
        Err(error) => {
            state.failure = Some(error);
            AvError::IO.0
        }
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read_packet`.
    let state = unsafe { &mut *opaque.cast::<IoState>() };
    let length = state.input.len();
    if whence & sys::AVSEEK_SIZE as c_int != 0 {
        return i64::try_from(length).unwrap_or(i64::MAX);
    }
    let base = match whence & 3 {
        0 => Some(0),
        1 => i64::try_from(state.position).ok(),
        2 => i64::try_from(length).ok(),
        _ => None,
    };
    match base.and_then(|base| base.checked_add(offset)) {
        Some(position) if position >= 0 => {
            state.position = position as u64;
            position
        }
        _ => i64::from(AvError::INVALID_ARGUMENT.0),
    }
}

/// The container's crop at each edge, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropRectangle {
    /// Rows at the top.
    pub top: u32,
    /// Rows at the bottom.
    pub bottom: u32,
    /// Columns at the left.
    pub left: u32,
    /// Columns at the right.
    pub right: u32,
}

/// The kind of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles.
    Subtitle,
    /// Other data over time.
    Data,
    /// A file within the file, such as a cover.
    Attachment,
    /// Unknown to libavformat.
    Unknown,
}

impl StreamKind {
    const ALL: [StreamKind; 6] = [
        StreamKind::Video,
        StreamKind::Audio,
        StreamKind::Subtitle,
        StreamKind::Data,
        StreamKind::Attachment,
        StreamKind::Unknown,
    ];

    /// `video`, `audio`, `subtitle`, `data`, `attachment` or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            StreamKind::Video => "video",
            StreamKind::Audio => "audio",
            StreamKind::Subtitle => "subtitle",
            StreamKind::Data => "data",
            StreamKind::Attachment => "attachment",
            StreamKind::Unknown => "unknown",
        }
    }

    /// From [`StreamKind::name`].
    pub fn from_name(name: &str) -> Option<StreamKind> {
        StreamKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A stream, as the container describes it.
#[derive(Debug)]
pub struct StreamInfo {
    /// Its index in the container, from 0.
    pub index: usize,
    /// The container's own number (track id, PID).
    pub id: i32,
    /// Its kind; an attached picture is an attachment.
    pub kind: StreamKind,
    /// Codec parameters.
    pub parameters: CodecParameters,
    /// Seconds per tick.
    pub time_base: Rational,
    /// Sample aspect ratio of the container, `(0, 1)` if unknown.
    pub sample_aspect_ratio: Rational,
}

/// A packet of a container.
#[derive(Debug)]
pub struct DemuxedPacket {
    /// The data; they lie in libavformat's memory.
    pub packet: Packet,
    /// The index of its stream.
    pub stream: usize,
    /// The file offset of the packet or of the element that holds it.
    pub position: Option<u64>,
    /// Duration in ticks of the stream, 0 if unknown.
    pub duration: i64,
    /// True if the container claims a sync sample (in MP4: ISO/IEC 14496-12 8.6.2). The claim is not checked.
    pub key: bool,
    /// Not for presentation: it is decoded as a reference only.
    pub discard: bool,
}

/// One sample of an MP4/MOV index, edit lists applied.
#[derive(Debug, Clone, Copy)]
pub struct MovSample {
    /// First byte in the file.
    pub offset: i64,
    /// Length in bytes.
    pub size: u32,
    /// Decoding time in ticks.
    pub dts: i64,
    /// Presentation time in ticks.
    pub pts: i64,
    /// Duration in ticks.
    pub duration: i64,
    /// True if the container claims a sync sample (in MP4: ISO/IEC 14496-12 8.6.2). The claim is not checked.
    pub key: bool,
    /// An edit list (ISO/IEC 14496-12 8.6.6) excludes it from presentation: it is decoded as a reference only.
    pub discard: bool,
    /// The index of its sample description, from 0 (`stsd` entry, ISO/IEC 14496-12 8.5.2).
    pub description: u32,
}

/// An open `AVFormatContext` over an [`Input`].
pub struct Demuxer {
    context: NonNull<sys::AVFormatContext>,
    io: NonNull<sys::AVIOContext>,
    state: NonNull<IoState>,
}

// SAFETY: the context, its I/O and the input are owned, and used by one thread at a time.
unsafe impl Send for Demuxer {}

impl Demuxer {
    /// Detects the container and reads its header. `formats` names the allowed demuxers.
    ///
    /// # Errors
    /// The input's own error if it failed, otherwise libavformat's.
    pub fn open(input: Box<dyn Input>, formats: &str) -> Result<Demuxer, io::Error> {
        log::quiet();
        let state = Box::into_raw(Box::new(IoState { input, position: 0, failure: None }));
        // From here on `parts` owns everything that must be freed, whatever fails.
        let mut parts = Parts { context: ptr::null_mut(), io: ptr::null_mut(), state };
        // SAFETY: allocates; the attached objects stay valid until `Parts` frees them, after the context that uses
        // them.
        unsafe {
            let buffer = sys::av_malloc(BUFFER);
            if buffer.is_null() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let io = sys::avio_alloc_context(
                buffer.cast(),
                BUFFER as c_int,
                0,
                state.cast(),
                Some(read_packet),
                None,
                Some(seek),
            );
            if io.is_null() {
                sys::av_free(buffer);
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            parts.io = io;
            parts.context = sys::avformat_alloc_context();
            if parts.context.is_null() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            (*parts.context).pb = io;
        }
        parts.open(formats)?;
        let demuxer = Demuxer {
            context: NonNull::new(parts.context).expect("open"),
            io: NonNull::new(parts.io).expect("open"),
            state: NonNull::new(state).expect("boxed"),
        };
        std::mem::forget(parts);
        Ok(demuxer)
    }

    fn get(&self) -> &sys::AVFormatContext {
        // SAFETY: valid from construction to drop.
        unsafe { self.context.as_ref() }
    }

    fn fail(&mut self, error: AvError) -> io::Error {
        // SAFETY: no call into libavformat is in progress.
        take_failure(unsafe { self.state.as_mut() }, error)
    }

    /// libavformat's short name of the container: `mov,mp4,m4a,3gp,3g2,mj2`, `matroska,webm`, `mpegts`, `hevc`, ...
    pub fn format_name(&self) -> &'static str {
        // SAFETY: an open context has a demuxer, which is a constant.
        unsafe { crate::static_name((*self.get().iformat).name) }.unwrap_or("unknown")
    }

    fn raw_streams(&self) -> &[*mut sys::AVStream] {
        let context = self.get();
        if context.nb_streams == 0 {
            return &[];
        }
        // SAFETY: libavformat keeps `nb_streams` valid pointers there.
        unsafe { std::slice::from_raw_parts(context.streams, context.nb_streams as usize) }
    }

    /// The streams that are known so far.
    ///
    /// # Errors
    /// [`AvError::NO_MEMORY`].
    pub fn streams(&self) -> Result<Vec<StreamInfo>, AvError> {
        // SAFETY: valid pointers, read only.
        self.raw_streams().iter().map(|stream| unsafe { stream_info(&**stream) }).collect()
    }

    /// Reads until libavformat knows enough of every stream (`avformat_find_stream_info`). [`Demuxer::read`] returns
    /// the same packets again. For this it decodes pictures of at most `max_pixels` pixels, which are charged to
    /// `account`; if that has refused any, the stream properties are unusable.
    ///
    /// # Errors
    /// As [`Demuxer::open`].
    pub fn find_stream_info(&mut self, max_pixels: u64, account: &PictureAccount) -> Result<(), io::Error> {
        let limit = i64::try_from(max_pixels).unwrap_or(i64::MAX);
        // SAFETY: the context is open; the account outlives the call, and decoded pictures keep their own references.
        let result = unsafe { sys::bs_find_stream_info(self.context.as_ptr(), limit, account.as_raw()) };
        AvError::check(result).map(|_| ()).map_err(|error| self.fail(error))?;
        // SAFETY: no call into libavformat is in progress.
        unsafe { self.state.as_mut() }.unfailed()
    }

    /// Makes [`Demuxer::read`] return only packets of stream `keep`; none for `None`.
    pub fn keep_only(&mut self, keep: Option<usize>) {
        for (index, stream) in self.raw_streams().iter().enumerate() {
            let all =
                if keep == Some(index) { sys::AVDiscard::AVDISCARD_DEFAULT } else { sys::AVDiscard::AVDISCARD_ALL };
            // SAFETY: a valid stream; the field is the caller's to set.
            unsafe { (**stream).discard = all };
        }
    }

    /// The next packet, in file order; `None` at the end.
    ///
    /// # Errors
    /// As [`Demuxer::open`].
    pub fn read(&mut self) -> Result<Option<DemuxedPacket>, io::Error> {
        let mut packet = Packet::empty().map_err(io::Error::other)?;
        // SAFETY: context and packet are valid.
        match AvError::check(unsafe { sys::av_read_frame(self.context.as_ptr(), packet.get()) }) {
            Ok(_) => {}
            // SAFETY: no call into libavformat is in progress.
            Err(AvError::END) => match unsafe { self.state.as_mut() }.failure.take() {
                Some(failure) => return Err(failure),
                None => return Ok(None),
            },
            Err(error) => return Err(self.fail(error)),
        }
        let raw = packet.peek();
        let has = |flag: u32| raw.flags & flag as i32 != 0;
        Ok(Some(DemuxedPacket {
            stream: raw.stream_index.max(0) as usize,
            position: u64::try_from(raw.pos).ok(),
            duration: raw.duration,
            key: has(sys::AV_PKT_FLAG_KEY),
            discard: has(sys::AV_PKT_FLAG_DISCARD),
            packet,
        }))
    }

    /// True for the MP4/MOV demuxer: its index is complete without reading any sample.
    pub fn is_mov(&self) -> bool {
        // SAFETY: valid context.
        unsafe { sys::bs_mov_is(self.context.as_ptr()) != 0 }
    }

    /// Reads the headers of all fragments (`moof`, ISO/IEC 14496-12 8.8.4), so that the index is complete. Reads no
    /// sample.
    ///
    /// # Errors
    /// The input's own error. Data that libavformat does not understand end the index there, as they end a sequential
    /// read.
    pub fn mov_read_fragments(&mut self) -> Result<(), io::Error> {
        // SAFETY: valid context.
        if unsafe { sys::bs_mov_begin_fragments(self.context.as_ptr()) } == 0 {
            return Ok(());
        }
        // With every stream discarded, av_read_frame() visits all samples and fragments and reads none of them.
        self.keep_only(None);
        let mut packet = Packet::empty().map_err(io::Error::other)?;
        // SAFETY: context and packet are valid.
        while unsafe { sys::av_read_frame(self.context.as_ptr(), packet.get()) } >= 0 {}
        // SAFETY: no call into libavformat is in progress.
        unsafe { self.state.as_mut() }.failure.take().map_or(Ok(()), Err)
    }

    /// Number of samples that [`Demuxer::mov_samples`] returns.
    pub fn mov_sample_count(&self, stream: usize) -> usize {
        // SAFETY: valid context; an unknown stream has no samples.
        unsafe { sys::bs_mov_sample_count(self.context.as_ptr(), stream as u32) }.max(0) as usize
    }

    /// Frees the index of all tracks but one.
    pub fn mov_drop_others(&mut self, stream: usize) {
        // SAFETY: valid context, not in use.
        unsafe { sys::bs_mov_drop_others(self.context.as_ptr(), stream as u32) };
    }

    /// The index of an MP4/MOV track, in decode order, with edit lists applied as libavformat applies them.
    pub fn mov_samples(&self, stream: usize) -> MovSamples<'_> {
        // SAFETY: valid context, which the iteration does not outlive; null for an unknown stream.
        let walk = unsafe { sys::bs_mov_walk_open(self.context.as_ptr(), stream as u32) };
        MovSamples { walk, batch: Vec::with_capacity(MovSamples::BATCH), next: 0, demuxer: PhantomData }
    }

    /// The decoder configuration of every sample description of an MP4/MOV track.
    pub fn mov_descriptions(&self, stream: usize) -> Vec<Vec<u8>> {
        let context = self.context.as_ptr();
        // SAFETY: valid context; the data stay the demuxer's and are copied at once.
        unsafe {
            let count = sys::bs_mov_description_count(context, stream as u32);
            let one = |description| {
                let mut data = ptr::null();
                let size = sys::bs_mov_description(context, stream as u32, description, &mut data);
                if data.is_null() {
                    Vec::new()
                } else {
                    std::slice::from_raw_parts(data, size.max(0) as usize).to_vec()
                }
            };
            (0..count).map(one).collect()
        }
    }

    /// True if the samples of an MP4/MOV track are encrypted (ISO/IEC 23001-7).
    pub fn mov_is_encrypted(&self, stream: usize) -> bool {
        // SAFETY: valid context; an unknown stream is not encrypted.
        unsafe { sys::bs_mov_is_encrypted(self.context.as_ptr(), stream as u32) != 0 }
    }
}

/// The samples of an MP4/MOV track in decode order, see [`Demuxer::mov_samples`].
pub struct MovSamples<'a> {
    walk: *mut sys::BsMovWalk,
    batch: Vec<sys::BsMovSample>,
    next: usize,
    demuxer: PhantomData<&'a Demuxer>,
}

impl MovSamples<'_> {
    /// Samples that are fetched at once: a table of all would take as much memory as the index itself.
    const BATCH: usize = 1024;
}

impl Iterator for MovSamples<'_> {
    type Item = MovSample;

    fn next(&mut self) -> Option<MovSample> {
        if self.next == self.batch.len() {
            self.next = 0;
            self.batch.clear();
            if self.walk.is_null() {
                return None;
            }
            // SAFETY: the iteration is open and its demuxer is borrowed; the vector has room for `BATCH`, and
            // bs_mov_walk_next() returns the number that it wrote.
            unsafe {
                let written = sys::bs_mov_walk_next(self.walk, self.batch.as_mut_ptr(), Self::BATCH as c_int);
                self.batch.set_len((written.max(0) as usize).min(Self::BATCH));
            }
        }
        let raw = self.batch.get(self.next)?;
        self.next += 1;
        Some(MovSample {
            offset: raw.pos,
            size: raw.size,
            dts: raw.dts,
            pts: raw.pts,
            duration: raw.duration,
            key: raw.flags & sys::BsMovFlags::BS_MOV_KEY != 0,
            discard: raw.flags & sys::BsMovFlags::BS_MOV_DISCARD != 0,
            description: raw.description,
        })
    }
}

impl Drop for MovSamples<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, or null; freed once.
        unsafe { sys::bs_mov_walk_close(&mut self.walk) };
    }
}

/// # Safety
/// `stream` belongs to an open context.
unsafe fn stream_info(stream: &sys::AVStream) -> Result<StreamInfo, AvError> {
    // SAFETY: every stream has codec parameters.
    let (parameters, kind) = unsafe { (CodecParameters::copy(stream.codecpar)?, (*stream.codecpar).codec_type) };
    let attached = stream.disposition & sys::AV_DISPOSITION_ATTACHED_PIC as i32 != 0;
    Ok(StreamInfo {
        index: stream.index.max(0) as usize,
        id: stream.id,
        kind: match kind {
            sys::AVMediaType::AVMEDIA_TYPE_VIDEO if attached => StreamKind::Attachment,
            sys::AVMediaType::AVMEDIA_TYPE_VIDEO => StreamKind::Video,
            sys::AVMediaType::AVMEDIA_TYPE_AUDIO => StreamKind::Audio,
            sys::AVMediaType::AVMEDIA_TYPE_SUBTITLE => StreamKind::Subtitle,
            sys::AVMediaType::AVMEDIA_TYPE_DATA => StreamKind::Data,
            sys::AVMediaType::AVMEDIA_TYPE_ATTACHMENT => StreamKind::Attachment,
            _ => StreamKind::Unknown,
        },
        parameters,
        time_base: rational(stream.time_base),
        sample_aspect_ratio: rational(stream.sample_aspect_ratio),
    })
}

fn take_failure(state: &mut IoState, error: AvError) -> io::Error {
    state.failure.take().unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The parts of a demuxer that is being opened.
struct Parts {
    context: *mut sys::AVFormatContext,
    io: *mut sys::AVIOContext,
    state: *mut IoState,
}

impl Parts {
    fn open(&mut self, formats: &str) -> Result<(), io::Error> {
        let formats = CString::new(formats).map_err(io::Error::other)?;
        let mut options = ptr::null_mut();
        // SAFETY: a dictionary that is freed below; avformat_open_input frees the context and nulls it on failure.
        let result = unsafe {
            sys::av_dict_set(&mut options, c"format_whitelist".as_ptr(), formats.as_ptr(), 0);
            let result = sys::avformat_open_input(&mut self.context, ptr::null(), ptr::null(), &mut options);
            sys::av_dict_free(&mut options);
            result
        };
        // SAFETY: no call into libavformat is in progress.
        let state = unsafe { &mut *self.state };
        AvError::check(result).map(|_| ()).map_err(|error| take_failure(state, error))?;
        state.unfailed()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // SAFETY: each is null or ours; the context goes before the I/O it uses, and that before its state. The buffer
        // may have been replaced by libavformat: it is the I/O context's current one that is freed.
        unsafe {
            sys::avformat_close_input(&mut self.context);
            if !self.io.is_null() {
                sys::av_freep((&raw mut (*self.io).buffer).cast());
            }
            sys::avio_context_free(&mut self.io);
            drop(Box::from_raw(self.state));
        }
    }
}

impl Drop for Demuxer {
    fn drop(&mut self) {
        drop(Parts { context: self.context.as_ptr(), io: self.io.as_ptr(), state: self.state.as_ptr() });
    }
}
