//! Codec parameters as plain values that can be stored and turned into [`CodecParameters`] again.
//!
//! They have names and code points instead of FFmpeg's numbers, which differ between its versions. The file format is
//! left to the engine.

use std::ffi::CString;

use crate::codec_parameters::{CodecParameters, Color};
use crate::pixel::PixelFormat;
use crate::{Rational, rational, static_name, sys};

/// The fields of [`CodecParameters`] that video decoders read. The bit rate is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValues {
    /// FFmpeg's name of the codec: `hevc`, `h264`, `vp9`, `av1`.
    pub codec: String,
    /// The container's code for it (four characters, the first one lowest), 0 if it has none.
    pub codec_tag: u32,
    /// Decoder configuration record or parameter sets.
    pub extradata: Vec<u8>,
    /// FFmpeg's name of the pixel format, if known.
    pub pixel_format: Option<String>,
    /// The container's value, 0 if unknown.
    pub bits_per_coded_sample: i32,
    /// Significant bits, 0 if unknown.
    pub bits_per_raw_sample: i32,
    /// `AV_PROFILE_...`: the codec's own number, -99 if unknown.
    pub profile: i32,
    /// The codec's own number, -99 if unknown.
    pub level: i32,
    /// Columns, 0 if unknown.
    pub width: i32,
    /// Rows, 0 if unknown.
    pub height: i32,
    /// Sample aspect ratio; its first part is 0 if unknown.
    pub sample_aspect_ratio: Rational,
    /// Frames a second; its first part is 0 if unknown.
    pub frame_rate: Rational,
    /// `AVFieldOrder`: 0 unknown, 1 progressive, 2 to 5 interlaced.
    pub field_order: u32,
    /// Colour description.
    pub color: Color,
    /// Pictures that the decoder holds back to reorder them.
    pub video_delay: i32,
    /// `AVAlphaMode`: 0 unspecified, 1 premultiplied, 2 straight.
    pub alpha_mode: u32,
    /// Other data of the container.
    pub side_data: Vec<SideData>,
}

/// Side data of the container, as a table of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideData {
    /// Its kind: one of [`SideData::KINDS`].
    pub kind: &'static str,
    /// The numbers, as many as the kind has, in FFmpeg's order.
    pub numbers: Vec<i32>,
}

struct SideDataKind {
    name: &'static str,
    code: u32,
    /// The count of numbers, and the bytes of each.
    count: usize,
    width: usize,
}

/// Kinds with the same layout in every build: words or bytes in a row. `AVMasteringDisplayMetadata` and
/// `AVContentLightMetadata` are rows of `int`, `AVDOVIDecoderConfigurationRecord` one of bytes.
const KINDS: [SideDataKind; 5] = {
    use sys::AVPacketSideDataType::{
        AV_PKT_DATA_CONTENT_LIGHT_LEVEL, AV_PKT_DATA_DISPLAYMATRIX, AV_PKT_DATA_DOVI_CONF, AV_PKT_DATA_FRAME_CROPPING,
        AV_PKT_DATA_MASTERING_DISPLAY_METADATA,
    };
    [
        SideDataKind { name: "display_matrix", code: AV_PKT_DATA_DISPLAYMATRIX, count: 9, width: 4 },
        SideDataKind { name: "frame_cropping", code: AV_PKT_DATA_FRAME_CROPPING, count: 4, width: 4 },
        SideDataKind { name: "mastering_display", code: AV_PKT_DATA_MASTERING_DISPLAY_METADATA, count: 22, width: 4 },
        SideDataKind { name: "content_light", code: AV_PKT_DATA_CONTENT_LIGHT_LEVEL, count: 2, width: 4 },
        SideDataKind { name: "dolby_vision", code: AV_PKT_DATA_DOVI_CONF, count: 9, width: 1 },
    ]
};

impl SideData {
    /// The supported kinds.
    pub const KINDS: [&'static str; KINDS.len()] =
        [KINDS[0].name, KINDS[1].name, KINDS[2].name, KINDS[3].name, KINDS[4].name];
}

/// Limits for libavcodec's input: past them some of its tables end.
const MOST_DELAY: i32 = 16;
const MOST_EXTRADATA: usize = 1 << 28;
const MOST_BITS: i32 = 64;
const MOST_FIELD_ORDER: u32 = 5;
const MOST_ALPHA_MODE: u32 = 2;
/// H.273 uses 2 for unspecified.
const UNKNOWN_COLOR: Color = Color { primaries: 2, transfer: 2, matrix: 2, range: 0, chroma_location: 0 };

impl CodecParameters {
    /// The values of the parameters. Meaningless values, which a broken file may have, become unknown.
    pub fn values(&self) -> ParameterValues {
        let raw = self.peek();
        let known = |(numerator, denominator): Rational| numerator >= 0 && denominator >= 0;
        let format = self.pixel_format().filter(|format| !format.planes().is_empty());
        ParameterValues {
            codec: self.codec_name().to_owned(),
            codec_tag: raw.codec_tag,
            extradata: self.extradata().to_vec(),
            pixel_format: format.map(|format| format.name().to_owned()),
            bits_per_coded_sample: raw.bits_per_coded_sample.clamp(0, MOST_BITS),
            bits_per_raw_sample: raw.bits_per_raw_sample.clamp(0, MOST_BITS),
            profile: raw.profile,
            level: raw.level,
            width: raw.width.max(0),
            height: raw.height.max(0),
            sample_aspect_ratio: rational(raw.sample_aspect_ratio),
            frame_rate: Some(rational(raw.framerate)).filter(|&rate| known(rate)).unwrap_or((0, 1)),
            field_order: Some(raw.field_order).filter(|&order| order <= MOST_FIELD_ORDER).unwrap_or(0),
            color: Some(self.color()).filter(has_meaning).unwrap_or(UNKNOWN_COLOR),
            video_delay: raw.video_delay.clamp(0, MOST_DELAY),
            alpha_mode: Some(raw.alpha_mode).filter(|&mode| mode <= MOST_ALPHA_MODE).unwrap_or(0),
            side_data: KINDS.iter().filter_map(|kind| self.numbers(kind)).collect(),
        }
    }

    fn numbers(&self, kind: &SideDataKind) -> Option<SideData> {
        let data = self.side_data(kind.code).filter(|data| data.len() == kind.count * kind.width)?;
        let number = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => i32::from_ne_bytes([a, b, c, d]),
            _ => i32::from(bytes[0]),
        };
        Some(SideData { kind: kind.name, numbers: data.chunks_exact(kind.width).map(number).collect() })
    }

    /// The parameters with these values. Only values that are safe for libavcodec are accepted.
    ///
    /// # Errors
    /// A description of the wrong value.
    pub fn from_values(values: &ParameterValues) -> Result<CodecParameters, &'static str> {
        check(values)?;
        let mut parameters = CodecParameters::empty().map_err(|_| NO_MEMORY)?;
        let codec_id = video_codec(&values.codec).ok_or("an unknown codec")?;
        let format = values.pixel_format.as_deref().map(pixel_format).transpose()?;
        let raw = parameters.get();
        let pair = |(num, den): Rational| sys::AVRational { num, den };
        raw.codec_type = sys::AVMediaType::AVMEDIA_TYPE_VIDEO;
        raw.codec_id = codec_id;
        raw.codec_tag = values.codec_tag;
        raw.format = format.map_or(-1, |format| format.0);
        raw.bits_per_coded_sample = values.bits_per_coded_sample;
        raw.bits_per_raw_sample = values.bits_per_raw_sample;
        (raw.profile, raw.level) = (values.profile, values.level);
        (raw.width, raw.height) = (values.width, values.height);
        raw.sample_aspect_ratio = pair(values.sample_aspect_ratio);
        raw.framerate = pair(values.frame_rate);
        raw.field_order = values.field_order;
        raw.color_primaries = values.color.primaries;
        raw.color_trc = values.color.transfer;
        raw.color_space = values.color.matrix;
        raw.color_range = values.color.range;
        raw.chroma_location = values.color.chroma_location;
        raw.video_delay = values.video_delay;
        raw.alpha_mode = values.alpha_mode;
        parameters.set_extradata(&values.extradata)?;
        values.side_data.iter().try_for_each(|side| parameters.add_side_data(side))?;
        Ok(parameters)
    }

    fn set_extradata(&mut self, extradata: &[u8]) -> Result<(), &'static str> {
        if extradata.is_empty() {
            return Ok(());
        }
        // SAFETY: allocates zeros, with room for the padding after them; the parameters free it, and have none yet.
        // Length and room were checked against MOST_EXTRADATA.
        unsafe {
            let data = sys::av_mallocz(extradata.len() + crate::PADDING).cast::<u8>();
            if data.is_null() {
                return Err(NO_MEMORY);
            }
            std::ptr::copy_nonoverlapping(extradata.as_ptr(), data, extradata.len());
            let raw = self.get();
            raw.extradata = data;
            raw.extradata_size = extradata.len() as i32;
        }
        Ok(())
    }

    fn add_side_data(&mut self, side: &SideData) -> Result<(), &'static str> {
        let kind = KINDS.iter().find(|kind| kind.name == side.kind).ok_or("an unknown kind of side data")?;
        let fits = |number: &i32| kind.width == 4 || u8::try_from(*number).is_ok();
        if side.numbers.len() != kind.count || !side.numbers.iter().all(fits) {
            return Err("side data of a wrong size");
        }
        let bytes: Vec<u8> = match kind.width {
            4 => side.numbers.iter().flat_map(|number| number.to_ne_bytes()).collect(),
            _ => side.numbers.iter().map(|&number| number as u8).collect(),
        };
        let raw = self.get();
        // SAFETY: the list is the parameters' own; the result has at least the requested length, or is null.
        unsafe {
            let new = sys::av_packet_side_data_new(
                &mut raw.coded_side_data,
                &mut raw.nb_coded_side_data,
                kind.code,
                bytes.len(),
                0,
            );
            let new = new.as_ref().ok_or(NO_MEMORY)?;
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), new.data, bytes.len());
        }
        Ok(())
    }
}

const NO_MEMORY: &str = "no memory for codec parameters";

fn check(values: &ParameterValues) -> Result<(), &'static str> {
    let bits = 0..=MOST_BITS;
    match () {
        () if !has_meaning(&values.color) => Err("an unknown colour description"),
        () if values.width < 0 || values.height < 0 => Err("a negative picture size"),
        () if values.extradata.len() > MOST_EXTRADATA => Err("a decoder configuration that is too large"),
        () if !bits.contains(&values.bits_per_coded_sample) || !bits.contains(&values.bits_per_raw_sample) => {
            Err("an invalid number of bits per sample")
        }
        () if values.frame_rate.0 < 0 || values.frame_rate.1 < 0 => Err("a negative frame rate"),
        () if values.field_order > MOST_FIELD_ORDER => Err("an unknown field order"),
        () if values.alpha_mode > MOST_ALPHA_MODE => Err("an unknown alpha mode"),
        () if !(0..=MOST_DELAY).contains(&values.video_delay) => Err("an invalid decoder delay"),
        () => Ok(()),
    }
}

fn has_meaning(color: &Color) -> bool {
    // SAFETY: any number is allowed; null is the result for those without a meaning.
    unsafe {
        !sys::av_color_primaries_name(color.primaries).is_null()
            && !sys::av_color_transfer_name(color.transfer).is_null()
            && !sys::av_color_space_name(color.matrix).is_null()
            && !sys::av_color_range_name(color.range).is_null()
            && !sys::av_chroma_location_name(color.chroma_location).is_null()
    }
}

fn descriptor(name: &str) -> Option<&'static sys::AVCodecDescriptor> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string; the result is null or a constant.
    unsafe { sys::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }
}

fn video_codec(name: &str) -> Option<u32> {
    let found = descriptor(name)?;
    (found.type_ == sys::AVMediaType::AVMEDIA_TYPE_VIDEO).then_some(found.id)
}

/// FFmpeg's own copy of a codec's name, for any kind of stream; `unknown` for an unknown codec.
pub fn codec_name(name: &str) -> &'static str {
    // SAFETY: names of descriptors are constants.
    let known = descriptor(name).and_then(|found| unsafe { static_name(found.name) });
    // The results of `avcodec_get_name` without a codec, or without a descriptor for it.
    known.unwrap_or(match name {
        "none" => "none",
        "unknown_codec" => "unknown_codec",
        _ => "unknown",
    })
}

/// A format with pictures in host memory.
fn pixel_format(name: &str) -> Result<PixelFormat, &'static str> {
    const UNKNOWN: &str = "an unknown pixel format";
    let name = CString::new(name).map_err(|_| UNKNOWN)?;
    // SAFETY: a NUL-terminated string.
    let format = PixelFormat(unsafe { sys::av_get_pix_fmt(name.as_ptr()) });
    if format.0 < 0 || format.planes().is_empty() { Err(UNKNOWN) } else { Ok(format) }
}

#[cfg(test)]
mod tests {
    use super::{CodecParameters, Color, ParameterValues, SideData, codec_name};

    fn values() -> ParameterValues {
        ParameterValues {
            codec: "hevc".into(),
            codec_tag: 0x31637668,
            extradata: vec![1, 2, 3],
            pixel_format: Some("yuv420p10le".into()),
            bits_per_coded_sample: 24,
            bits_per_raw_sample: 10,
            profile: 2,
            level: 93,
            width: 320,
            height: 180,
            sample_aspect_ratio: (1, 1),
            frame_rate: (25, 1),
            field_order: 1,
            color: Color { primaries: 9, transfer: 16, matrix: 9, range: 1, chroma_location: 1 },
            video_delay: 2,
            alpha_mode: 0,
            side_data: vec![
                SideData { kind: "display_matrix", numbers: vec![0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30] },
                SideData { kind: "dolby_vision", numbers: vec![1, 0, 8, 4, 1, 0, 1, 4, 255] },
            ],
        }
    }

    #[test]
    fn parameters_say_what_they_were_made_from() {
        let parameters = CodecParameters::from_values(&values()).unwrap();
        assert_eq!(parameters.values(), values());
        assert_eq!(parameters.rotation(), (-90.0, false));
        let dolby_vision = parameters.dolby_vision().expect("it has a record");
        assert_eq!((dolby_vision.profile, dolby_vision.compatibility), (8, 4));
        assert_eq!(parameters.extradata(), [1, 2, 3]);
        assert_eq!((codec_name("aac"), codec_name("no\0name")), ("aac", "unknown"));
    }

    #[test]
    fn senseless_values_are_refused() {
        let refused = |change: fn(&mut ParameterValues)| {
            let mut values = values();
            change(&mut values);
            CodecParameters::from_values(&values).unwrap_err()
        };
        assert!(refused(|values| values.codec = "aac".into()).contains("codec"));
        assert!(refused(|values| values.codec = "he\0vc".into()).contains("codec"));
        assert!(refused(|values| values.pixel_format = Some("cuda".into())).contains("pixel format"));
        assert!(refused(|values| values.pixel_format = Some(String::new())).contains("pixel format"));
        assert!(refused(|values| values.video_delay = 17).contains("delay"));
        assert!(refused(|values| values.width = -1).contains("size"));
        assert!(refused(|values| values.color.matrix = 1 << 20).contains("colour"));
        assert!(refused(|values| values.color.range = u32::MAX).contains("colour"));
        assert!(refused(|values| values.side_data[0].numbers.truncate(8)).contains("side data"));
        assert!(refused(|values| values.side_data[1].numbers[0] = 256).contains("side data"));
        assert!(refused(|values| values.side_data[0].kind = "other").contains("side data"));
    }
}
