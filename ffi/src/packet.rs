//! Compressed data for libavcodec: reference-counted views without copies. Making packets of samples is left to the
//! engine.

use std::ffi::c_void;
use std::ptr::NonNull;

use bytes::Bytes;

use crate::error::AvError;
use crate::{NOPTS, sys, timestamp};

/// Bytes that must be readable after the data of a packet (`AV_INPUT_BUFFER_PADDING_SIZE`).
pub const PADDING: usize = sys::AV_INPUT_BUFFER_PADDING_SIZE as usize;

/// Data followed by at least [`PADDING`] readable bytes. In a copy these are zeros; in a view of a map they are the
/// next bytes of the file.
#[derive(Debug, Clone)]
pub struct PaddedBytes {
    bytes: Bytes,
    len: usize,
}

impl PaddedBytes {
    /// The first `len` bytes of `bytes` as data and the rest as padding; `None` if too few follow.
    pub fn view(bytes: Bytes, len: usize) -> Option<PaddedBytes> {
        (bytes.len() >= len.checked_add(PADDING)?).then_some(PaddedBytes { bytes, len })
    }

    /// A copy of the pieces, one after the other, with zeros as padding.
    pub fn copy_of(pieces: &[&[u8]]) -> PaddedBytes {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let mut all = Vec::with_capacity(len + PADDING);
        pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.resize(len + PADDING, 0);
        PaddedBytes { bytes: all.into(), len }
    }

    /// The data, without padding.
    pub fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Length of the data.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The data and the bytes after them.
    pub(crate) fn with_padding(&self) -> &[u8] {
        &self.bytes
    }
}

/// An `AVPacket`.
#[derive(Debug)]
pub struct Packet {
    pub(crate) raw: NonNull<sys::AVPacket>,
}

// SAFETY: an AVPacket is plain memory with reference-counted, thread-safe buffers; nothing in it is tied to a thread.
unsafe impl Send for Packet {}

impl Packet {
    /// An empty packet, to be filled by a demuxer.
    pub(crate) fn empty() -> Result<Packet, AvError> {
        // SAFETY: allocates; null means no memory.
        let raw = NonNull::new(unsafe { sys::av_packet_alloc() }).ok_or(AvError::NO_MEMORY)?;
        Ok(Packet { raw })
    }

    /// A packet with the data `data`, by reference: no copy. `tag` comes back with the picture ([`crate::Frame::tag`]).
    ///
    /// # Errors
    /// [`AvError::NO_MEMORY`]; [`AvError::INVALID_ARGUMENT`] for data of 2 GiB or more.
    pub fn new(data: &PaddedBytes, tag: u32, pts: Option<i64>) -> Result<Packet, AvError> {
        let size = i32::try_from(data.len).map_err(|_| AvError::INVALID_ARGUMENT)?;
        let mut packet = Packet::empty()?;
        let owner = Box::new(data.bytes.clone());
        let start = owner.as_ptr().cast_mut();
        let owner = Box::into_raw(owner);
        // SAFETY: the buffer's memory belongs to the boxed Bytes, which lives until `release` is called, exactly once,
        // by the last reference. It is marked read-only, so that libavcodec does not write through the pointer.
        let buffer = unsafe {
            sys::av_buffer_create(
                start,
                data.bytes.len(),
                Some(release),
                owner.cast(),
                sys::AV_BUFFER_FLAG_READONLY as i32,
            )
        };
        if buffer.is_null() {
            // SAFETY: av_buffer_create did not take the owner.
            drop(unsafe { Box::from_raw(owner) });
            return Err(AvError::NO_MEMORY);
        }
        let raw = packet.get();
        raw.buf = buffer;
        raw.data = start;
        raw.size = size;
        raw.pts = pts.unwrap_or(NOPTS);
        raw.dts = NOPTS;
        raw.opaque = std::ptr::without_provenance_mut(tag as usize + 1);
        Ok(packet)
    }

    /// Sets the container's flags: `key` for a key frame, `discard` for a picture that an edit list excludes from
    /// presentation.
    pub fn set_flags(&mut self, key: bool, discard: bool) {
        let flag = |set: bool, flag: u32| if set { flag as i32 } else { 0 };
        self.get().flags = flag(key, sys::AV_PKT_FLAG_KEY) | flag(discard, sys::AV_PKT_FLAG_DISCARD);
    }

    /// Sends a new decoder configuration to the decoder with this packet.
    ///
    /// # Errors
    /// [`AvError::NO_MEMORY`].
    pub fn set_new_extradata(&mut self, extradata: &[u8]) -> Result<(), AvError> {
        let kind = sys::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA;
        // SAFETY: the packet is valid; the returned memory has at least the requested length.
        unsafe {
            let side = sys::av_packet_new_side_data(self.raw.as_ptr(), kind, extradata.len());
            if side.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            std::ptr::copy_nonoverlapping(extradata.as_ptr(), side, extradata.len());
        }
        Ok(())
    }

    pub(crate) fn get(&mut self) -> &mut sys::AVPacket {
        // SAFETY: valid from construction to drop, and borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    pub(crate) fn peek(&self) -> &sys::AVPacket {
        // SAFETY: valid from construction to drop.
        unsafe { self.raw.as_ref() }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        let packet = self.peek();
        if packet.data.is_null() || packet.size <= 0 {
            return &[];
        }
        // SAFETY: libavformat and `new` keep `size` readable bytes at `data` as long as the packet holds its buffer.
        unsafe { std::slice::from_raw_parts(packet.data, packet.size as usize) }
    }

    /// Presentation time in ticks of the stream.
    pub fn pts(&self) -> Option<i64> {
        timestamp(self.peek().pts)
    }

    /// Decoding time in ticks of the stream.
    pub fn dts(&self) -> Option<i64> {
        timestamp(self.peek().dts)
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { sys::av_packet_free(&mut raw) };
    }
}

unsafe extern "C" fn release(owner: *mut c_void, _data: *mut u8) {
    // SAFETY: `owner` is the Box<Bytes> that `Packet::new` gave to this buffer, and libavutil calls this once.
    drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
}
