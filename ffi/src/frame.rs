//! Decoded pictures: reference-counted planes that libavcodec wrote. Converting them is left to the engine.

use std::ptr::NonNull;

use crate::codec_parameters::Color;
use crate::demux::CropRectangle;
use crate::error::AvError;
use crate::pixel::PixelFormat;
use crate::{Rational, rational, sys, timestamp};

/// An `AVFrame` with a picture. A clone is a reference, not a copy.
#[derive(Debug)]
pub struct Frame {
    raw: NonNull<sys::AVFrame>,
}

// SAFETY: an AVFrame is plain memory with reference-counted, thread-safe buffers.
unsafe impl Send for Frame {}
// SAFETY: shared access only reads, and libavcodec no longer writes to a picture that it has output.
unsafe impl Sync for Frame {}

impl Frame {
    pub(crate) fn empty() -> Result<Frame, AvError> {
        // SAFETY: allocates; null means no memory.
        let raw = NonNull::new(unsafe { sys::av_frame_alloc() }).ok_or(AvError::NO_MEMORY)?;
        Ok(Frame { raw })
    }

    pub(crate) fn get(&mut self) -> &mut sys::AVFrame {
        // SAFETY: valid from construction to drop, and borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    pub(crate) fn as_raw(&self) -> *const sys::AVFrame {
        self.raw.as_ptr()
    }

    fn peek(&self) -> &sys::AVFrame {
        // SAFETY: valid from construction to drop.
        unsafe { self.raw.as_ref() }
    }

    /// Applies the crop of the stream, exactly, and then that of the container, rounded to whole chroma samples as in
    /// FFmpeg's `crop` filter.
    pub(crate) fn crop(&mut self, container: Option<CropRectangle>) -> Result<(), AvError> {
        self.apply_crop()?;
        let Some(crop) = container else { return Ok(()) };
        let (log2_w, log2_h) = self.format().chroma_shift();
        let round = |value: u32, log2: u8| (value >> log2) << log2;
        let (width, height) = (self.width() as u32, self.height() as u32);
        let kept_width = round(width.saturating_sub(crop.left.saturating_add(crop.right)), log2_w);
        let kept_height = round(height.saturating_sub(crop.top.saturating_add(crop.bottom)), log2_h);
        if kept_width == 0 || kept_height == 0 {
            return Err(AvError::INVALID_DATA);
        }
        let (left, top) = (round(crop.left, log2_w), round(crop.top, log2_h));
        let frame = self.get();
        frame.crop_left = left as usize;
        frame.crop_top = top as usize;
        frame.crop_right = (width - kept_width).saturating_sub(left) as usize;
        frame.crop_bottom = (height - kept_height).saturating_sub(top) as usize;
        self.apply_crop()
    }

    fn apply_crop(&mut self) -> Result<(), AvError> {
        // SAFETY: the frame holds a picture; only pointers into its own buffers and sizes are changed.
        AvError::check(unsafe {
            sys::av_frame_apply_cropping(self.raw.as_ptr(), sys::BsCrop::BS_CROP_UNALIGNED as i32)
        })?;
        Ok(())
    }

    /// The tag of this picture's packet.
    pub fn tag(&self) -> Option<u32> {
        u32::try_from(self.peek().opaque.addr().checked_sub(1)?).ok()
    }

    /// Width in pixels after cropping.
    pub fn width(&self) -> usize {
        self.peek().width.max(0) as usize
    }

    /// Height in pixels after cropping.
    pub fn height(&self) -> usize {
        self.peek().height.max(0) as usize
    }

    /// The stream's own pixel format.
    pub fn format(&self) -> PixelFormat {
        PixelFormat(self.peek().format)
    }

    /// Presentation time of the packet, in ticks of the stream.
    pub fn pts(&self) -> Option<i64> {
        timestamp(self.peek().pts)
    }

    /// Flags the picture as possibly damaged.
    pub fn set_corrupt(&mut self) {
        self.get().flags |= sys::AV_FRAME_FLAG_CORRUPT as i32;
    }

    /// True if the picture is, or may be, damaged, according to libavcodec, an inspecting decoder or
    /// [`Frame::set_corrupt`].
    pub fn is_corrupt(&self) -> bool {
        let frame = self.peek();
        frame.flags & sys::AV_FRAME_FLAG_CORRUPT as i32 != 0 || frame.decode_error_flags != 0
    }

    /// True if libavcodec marks the picture as interlaced. In H.264, MPEG-TS or not, the lines of such a frame belong
    /// to two fields in turn; in H.265 the picture is a single field.
    pub fn is_interlaced(&self) -> bool {
        self.peek().flags & sys::AV_FRAME_FLAG_INTERLACED as i32 != 0
    }

    /// True if the field of the even lines (counted from 0) of an interlaced picture is shown first.
    pub fn is_top_field_first(&self) -> bool {
        self.peek().flags & sys::AV_FRAME_FLAG_TOP_FIELD_FIRST as i32 != 0
    }

    /// Colour description of the picture.
    pub fn color(&self) -> Color {
        let frame = self.peek();
        Color {
            primaries: frame.color_primaries,
            transfer: frame.color_trc,
            matrix: frame.colorspace,
            range: frame.color_range,
            chroma_location: frame.chroma_location,
        }
    }

    /// Light of the brightest pixel of the whole stream (MaxCLL, CTA-861), in cd/m²; `None` if unknown.
    pub fn brightest_pixel(&self) -> Option<u32> {
        let kind = sys::AVFrameSideDataType::AV_FRAME_DATA_CONTENT_LIGHT_LEVEL;
        // SAFETY: FFmpeg puts this structure, aligned, under this kind.
        let light = unsafe { self.side_data::<sys::AVContentLightMetadata>(kind) }?;
        (light.MaxCLL > 0).then_some(light.MaxCLL)
    }

    /// The peak of the display that the stream was graded on (SMPTE ST 2086), in cd/m²; `None` if unknown.
    pub fn mastering_peak(&self) -> Option<u32> {
        let kind = sys::AVFrameSideDataType::AV_FRAME_DATA_MASTERING_DISPLAY_METADATA;
        // SAFETY: FFmpeg puts this structure, aligned, under this kind.
        let display = unsafe { self.side_data::<sys::AVMasteringDisplayMetadata>(kind) }?;
        let (numerator, denominator) = rational(display.max_luminance);
        let peak = if denominator > 0 { numerator / denominator } else { 0 };
        u32::try_from(peak).ok().filter(|&peak| display.has_luminance != 0 && peak > 0)
    }

    /// # Safety
    /// The data that FFmpeg stores under `kind` begin with a `T`.
    unsafe fn side_data<T>(&self, kind: u32) -> Option<&T> {
        // SAFETY: the frame is valid; the result is null or lives as long as the frame.
        let side = unsafe { sys::av_frame_get_side_data(self.raw.as_ptr(), kind).as_ref() }?;
        if side.data.is_null() || side.size < size_of::<T>() {
            return None;
        }
        // SAFETY: large enough, and of this type as the caller guarantees.
        unsafe { side.data.cast::<T>().as_ref() }
    }

    /// Sample aspect ratio; `(0, 1)` if unknown.
    pub fn sample_aspect_ratio(&self) -> Rational {
        rational(self.peek().sample_aspect_ratio)
    }

    /// Number of planes.
    pub fn planes(&self) -> usize {
        self.format().planes().len()
    }

    /// The rows of plane `index`: bytes from the first visible sample to the end of the last visible row, the distance
    /// between rows, bytes of a visible row, and the number of rows. `None` past the last plane.
    pub fn plane(&self, index: usize) -> Option<PlaneBytes<'_>> {
        let layout = *self.format().planes().get(index)?;
        let frame = self.peek();
        let ceil = |size: usize, log2: u8| (size + (1 << log2) - 1) >> log2;
        let columns = ceil(self.width(), layout.log2_width);
        let rows = ceil(self.height(), layout.log2_height);
        let row_bytes = columns * layout.bytes_per_column;
        let stride = usize::try_from(frame.linesize[index]).ok()?;
        let start = frame.data[index];
        if start.is_null() || rows == 0 || row_bytes == 0 || stride < row_bytes {
            return None;
        }
        // SAFETY: libavcodec's buffers hold `rows` rows, `stride` apart, of at least `row_bytes` each; cropping only
        // moves `data` inwards and shrinks the size by as much. The slice ends with the last visible byte.
        let data = unsafe { std::slice::from_raw_parts(start, stride * (rows - 1) + row_bytes) };
        Some(PlaneBytes { data, stride, row_bytes, columns, rows })
    }
}

/// One plane of a picture in libavcodec's memory.
#[derive(Debug, Clone, Copy)]
pub struct PlaneBytes<'a> {
    /// From the first byte of the first row to the last visible byte of the last row.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Visible bytes of a row.
    pub row_bytes: usize,
    /// Samples of a row.
    pub columns: usize,
    /// Number of rows.
    pub rows: usize,
}

impl<'a> PlaneBytes<'a> {
    /// The visible bytes, row by row.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let row_bytes = self.row_bytes;
        self.data.chunks(self.stride).map(move |row| &row[..row_bytes])
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        // SAFETY: valid for reading; av_frame_clone takes references to the buffers and returns null only without
        // memory, which Rust's own allocations do not survive either.
        let raw = NonNull::new(unsafe { sys::av_frame_clone(self.raw.as_ptr()) }).expect("out of memory");
        Frame { raw }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { sys::av_frame_free(&mut raw) };
    }
}
