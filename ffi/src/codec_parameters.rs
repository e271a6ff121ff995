//! The codec parameters of a container or stream: configuration for a decoder, colour, Dolby Vision. Plain values are
//! left to `parameters`.

use std::ptr::NonNull;

use crate::demux::CropRectangle;
use crate::error::AvError;
use crate::pixel::PixelFormat;
use crate::{static_name, sys};

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
    /// FFmpeg's names of primaries, transfer, matrix and range; `unknown` if unspecified.
    pub fn names(&self) -> [&'static str; 4] {
        // SAFETY: any number is allowed; names are constants, or null.
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

    /// FFmpeg's name of the location of chroma samples; `unspecified` if not given.
    pub fn chroma_location_name(&self) -> &'static str {
        // SAFETY: any number is allowed; names are constants, or null.
        unsafe { static_name(sys::av_chroma_location_name(self.chroma_location)) }.unwrap_or("unspecified")
    }
}

/// The container's Dolby Vision configuration record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DolbyVision {
    /// Profile: 5, 7, 8, ...
    pub profile: u8,
    /// Compatibility of the base layer: 0 none, 1 HDR10, 2 SDR, 4 HLG (`dv_bl_signal_compatibility_id`).
    pub compatibility: u8,
}

/// The parameters that a decoder needs before the first packet (`AVCodecParameters`).
#[derive(Debug)]
pub struct CodecParameters {
    raw: NonNull<sys::AVCodecParameters>,
}

// SAFETY: plain memory that the value owns.
unsafe impl Send for CodecParameters {}
// SAFETY: shared access only reads.
unsafe impl Sync for CodecParameters {}

impl CodecParameters {
    /// Empty parameters.
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
        // SAFETY: any number is allowed; names are constants.
        unsafe { static_name(sys::avcodec_get_name(self.codec_id())) }.unwrap_or("unknown")
    }

    /// The container's code for the codec: four characters, the first one in the lowest byte; 0 if it has none.
    pub fn tag(&self) -> u32 {
        self.peek().codec_tag
    }

    /// Decoder configuration record (`hvcC` and `avcC` of ISO/IEC 14496-15, ...) or parameter sets; empty if the
    /// container has none.
    pub fn extradata(&self) -> &[u8] {
        let parameters = self.peek();
        if parameters.extradata.is_null() || parameters.extradata_size <= 0 {
            return &[];
        }
        // SAFETY: FFmpeg keeps `extradata_size` bytes there.
        unsafe { std::slice::from_raw_parts(parameters.extradata, parameters.extradata_size as usize) }
    }

    /// Width and height from the container in pixels; 0 if unknown.
    pub fn size(&self) -> (usize, usize) {
        (self.peek().width.max(0) as usize, self.peek().height.max(0) as usize)
    }

    /// Pixel format, if the container or probing provides it.
    pub fn pixel_format(&self) -> Option<PixelFormat> {
        (self.peek().format >= 0).then(|| PixelFormat(self.peek().format))
    }

    /// Colour description of the container, or of the stream if probing found it.
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

    /// True if the container crops the pictures.
    pub fn is_cropped(&self) -> bool {
        self.crop().is_some()
    }

    /// The container's crop, if it is not empty.
    pub(crate) fn crop(&self) -> Option<CropRectangle> {
        let data = self.side_data(sys::AVPacketSideDataType::AV_PKT_DATA_FRAME_CROPPING)?;
        let word = |index: usize| Some(u32::from_le_bytes(data.get(index * 4..index * 4 + 4)?.try_into().ok()?));
        let crop = CropRectangle { top: word(0)?, bottom: word(1)?, left: word(2)?, right: word(3)? };
        (crop.top | crop.bottom | crop.left | crop.right != 0).then_some(crop)
    }

    /// Rotation of the display matrix in degrees, counter-clockwise as in FFmpeg, and whether it mirrors.
    pub fn rotation(&self) -> (f64, bool) {
        let Some(data) = self.side_data(sys::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX) else {
            return (0.0, false);
        };
        let Some(words) = data.get(..36) else { return (0.0, false) };
        let mut matrix = [0_i32; 9];
        for (entry, bytes) in matrix.iter_mut().zip(words.chunks_exact(4)) {
            *entry = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        // SAFETY: nine entries, as required.
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
