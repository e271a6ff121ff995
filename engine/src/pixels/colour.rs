//! The colour description of a picture, completed, and its conversion to JFIF.
//!
//! A stream describes its colour by code points of ITU-T H.273, in part, or not at all. [`ColourInterpretation`]
//! completes the description with the usual values, and records which of them were assumed. [`ColourConverter`] chooses
//! the conversion: the 3x3 matrix of [`jfif`](super::jfif) for nearly all video, or the table of `table` where
//! primaries or transfer function change (wide gamut, HDR) and for R'G'B'. Colour that cannot be converted correctly is
//! refused with a reason.
//!
//! The usual values: at least 1280 columns or 720 lines mean BT.709, less means BT.601; PQ, HLG and any code point of
//! BT.2020 mean BT.2020; YCbCr has limited range, R'G'B' full range; chroma is sited left, between two rows. BT.601's
//! own primaries are treated as BT.709's, as in players: they differ little.

use std::sync::Arc;

use ffi::{Color, DolbyVision, Frame, PixelFormat};

use super::error::PictureError;
use super::light::{self, Curve};
use super::matrix::{ColourRange, Matrix, YcbcrView};
use super::planes::{JfifPlanes, PlaneView};
use super::siting::Siting;
use super::table::{ColourModel, ColourTable, TableConverter, TableKey};
use crate::error::{ErrorKind, Result};

/// Options of the colour conversion of a still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColourOptions {
    /// Converts HDR to SDR, and wide gamut to BT.709. Without it transfer function and primaries stay, and such stills
    /// look flat.
    pub tonemap: bool,
    /// The container's Dolby Vision record, which is not in the pictures.
    pub dolby_vision: Option<DolbyVision>,
}

impl Default for ColourOptions {
    fn default() -> ColourOptions {
        ColourOptions { tonemap: true, dolby_vision: None }
    }
}

/// A complete colour description of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColourInterpretation {
    /// Code points of H.273, none of them unspecified.
    pub color: Color,
    /// Those that the stream left unspecified.
    pub assumed: ColourAssumptions,
}

/// The assumed parts of a colour description.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColourAssumptions {
    /// The primaries.
    pub primaries: bool,
    /// The transfer function.
    pub transfer: bool,
    /// The matrix; never for gray pictures.
    pub matrix: bool,
    /// The range.
    pub range: bool,
    /// The chroma location; only if chroma is subsampled.
    pub siting: bool,
}

const UNSPECIFIED: u32 = 2;
const BT709: u32 = 1;
const BT470BG: u32 = 5;
const SMPTE170M: u32 = 6;
const BT2020: u32 = 9;
const BT2020_CONSTANT: u32 = 10;
const BT2020_CURVE: u32 = 14;
const PQ: u32 = 16;
const HLG: u32 = 18;
const RGB_MATRIX: u32 = 0;
const LIMITED: u32 = 1;
const FULL: u32 = 2;
const LEFT: u32 = 1;

impl ColourInterpretation {
    /// Completes the colour description `signalled` of a picture. `size` is width and height in pixels.
    pub fn of(signalled: &Color, format: PixelFormat, size: (usize, usize)) -> ColourInterpretation {
        let mut color = *signalled;
        let mut assumed = ColourAssumptions::default();
        let usual = usual(signalled, size);
        let complete = |value: &mut u32, open: u32, usual: u32| {
            let is_open = *value == open;
            if is_open {
                *value = usual;
            }
            is_open
        };
        let (is_gray, is_rgb) = (format.components() <= 2, format.is_rgb());
        let matrix = if is_rgb { RGB_MATRIX } else { usual };
        assumed.matrix = complete(&mut color.matrix, UNSPECIFIED, matrix) && !is_gray && !is_rgb;
        let primaries = match color.matrix {
            _ if is_hdr(signalled.transfer) => BT2020,
            BT709 | BT470BG | SMPTE170M | BT2020 => color.matrix,
            BT2020_CONSTANT => BT2020,
            _ => usual,
        };
        assumed.primaries = complete(&mut color.primaries, UNSPECIFIED, primaries);
        let transfer = match color.primaries {
            BT2020 => BT2020_CURVE,
            BT470BG | SMPTE170M => SMPTE170M,
            _ => BT709,
        };
        assumed.transfer = complete(&mut color.transfer, UNSPECIFIED, transfer);
        if format.name().starts_with("yuvj") {
            // The full-range pixel formats (`yuvj*`) imply the range.
            color.range = FULL;
        }
        assumed.range = complete(&mut color.range, 0, if is_rgb { FULL } else { LIMITED });
        let is_subsampled = !is_gray && format.chroma_shift() != (0, 0);
        assumed.siting = is_subsampled && complete(&mut color.chroma_location, 0, LEFT);
        ColourInterpretation { color, assumed }
    }

    /// The description of a decoded picture, completed.
    pub fn of_picture(picture: &Frame) -> ColourInterpretation {
        ColourInterpretation::of(&picture.color(), picture.format(), (picture.width(), picture.height()))
    }

    /// The assumed parts as pairs of a name and FFmpeg's name of the value, such as `("primaries", "bt709")`, for
    /// reports. The names are `primaries`, `transfer`, `matrix`, `range` and `chroma_location`, in this order, each at
    /// most once; parts that the stream specifies are missing, and so are those that its format does not have (matrix
    /// of grey, location of full chroma).
    pub fn assumptions(&self) -> Vec<(&'static str, &'static str)> {
        let [primaries, transfer, matrix, range] = self.color.names();
        let all = [
            (self.assumed.primaries, "primaries", primaries),
            (self.assumed.transfer, "transfer", transfer),
            (self.assumed.matrix, "matrix", matrix),
            (self.assumed.range, "range", range),
            (self.assumed.siting, "chroma_location", self.color.chroma_location_name()),
        ];
        all.into_iter().filter(|(is_assumed, ..)| *is_assumed).map(|(_, name, value)| (name, value)).collect()
    }

    fn range(&self) -> ColourRange {
        if self.color.range == FULL { ColourRange::Full } else { ColourRange::Limited }
    }

    pub(crate) fn is_full_range(&self) -> bool {
        self.range() == ColourRange::Full
    }

    /// The weights of R' and B' in Y', if the matrix has them.
    pub(crate) fn weights(&self) -> Option<(f64, f64)> {
        matrix_of(self.color.matrix)?.weights()
    }

    /// Whether a still of the picture needs a conversion of light, unless the options switch that off.
    pub(crate) fn is_hdr_or_wide(&self, picture: &Frame) -> bool {
        self.light(picture).is_some()
    }

    /// The transfer function and primaries, if a still cannot have them.
    fn light(&self, picture: &Frame) -> Option<(u32, Curve)> {
        const WIDE: [u32; 3] = [BT2020, 11, 12];
        let curve = match self.color.transfer {
            PQ => Curve::Pq { peak: peak(picture) },
            HLG => Curve::Hlg,
            _ if WIDE.contains(&self.color.primaries) => Curve::Sdr,
            _ => return None,
        };
        Some((self.color.primaries, curve))
    }
}

/// The usual code point of matrix and primaries, from the transfer function, the specified parts, and the size in
/// pixels.
fn usual(signalled: &Color, (width, height): (usize, usize)) -> u32 {
    let is_bt2020 = signalled.primaries == BT2020 || matches!(signalled.matrix, BT2020 | BT2020_CONSTANT);
    match () {
        () if is_hdr(signalled.transfer) || is_bt2020 => BT2020,
        () if width >= 1280 || height >= 720 => BT709,
        () if height == 576 || height == 288 => BT470BG,
        () => SMPTE170M,
    }
}

fn is_hdr(transfer: u32) -> bool {
    matches!(transfer, PQ | HLG)
}

/// True for the transfer functions PQ and HLG.
pub fn is_hdr_picture(picture: &Frame) -> bool {
    is_hdr(picture.color().transfer)
}

/// The reason why stills of a stream with this Dolby Vision record would have wrong colours; `None` if they would not.
/// Profile 5 has IPT-PQ-c2 instead of YCbCr, and its inverse differs from picture to picture.
pub fn unsupported_reason(dolby_vision: Option<DolbyVision>) -> Option<&'static str> {
    let is_ipt = |record: DolbyVision| match record.profile {
        5 => Some(
            "Dolby Vision profile 5 (IPT-PQ-c2) is no YCbCr, its stills would have wrong colours: use --format raw",
        ),
        10 if record.compatibility == 0 => Some(
            "Dolby Vision profile 10.0 (IPT-PQ-c2) is no YCbCr, its stills would have wrong colours: use --format raw",
        ),
        _ => None,
    };
    dolby_vision.and_then(is_ipt)
}

/// The peak of a PQ stream in cd/m²: its brightest pixel, or the mastering display's peak, or 1000. A stream that has
/// these only at its beginning is treated as 1000 when decoding begins later.
fn peak(picture: &Frame) -> u32 {
    let signalled = picture.brightest_pixel().or_else(|| picture.mastering_peak());
    signalled.unwrap_or(light::USUAL_PEAK).clamp(light::SDR_WHITE as u32, 10000)
}

/// Converts pictures to JFIF planes. Keep it: it reuses its buffers. All converters of the process share their tables.
#[derive(Default)]
pub struct ColourConverter {
    table: Option<Arc<ColourTable>>,
    passage: TableConverter,
}

impl ColourConverter {
    /// A converter with empty buffers.
    pub fn new() -> ColourConverter {
        ColourConverter::default()
    }

    /// Fills `out` with the picture in JFIF's BT.601, full range, 8 bits, in its own size and subsampling.
    ///
    /// # Errors
    /// `Still` for pixel formats other than gray, YCbCr and R'G'B' in planes of 8 to 16 bits, and for unknown colour.
    pub fn to_jfif(&mut self, picture: &Frame, options: &ColourOptions, out: &mut JfifPlanes) -> Result<()> {
        if let Some(why) = unsupported_reason(options.dolby_vision) {
            return Err(ErrorKind::Still(why.to_owned()).into());
        }
        let views = plane_views(picture)?;
        let meaning = ColourInterpretation::of_picture(picture);
        let samples = samples(picture, &meaning)?;
        let (range, depth) = (meaning.range(), picture.format().depth());
        let (log2_chroma_w, log2_chroma_h) = picture.format().chroma_shift();
        let siting = Siting::from_location(meaning.color.chroma_location);
        let mut view =
            YcbcrView { planes: &views, depth, log2_chroma_w, log2_chroma_h, matrix: Matrix::Bt601, range, siting };
        let light = if options.tonemap { meaning.light(picture) } else { None };
        let converted = match (samples, light) {
            (ColourModel::Ycbcr(matrix), None) => {
                view.matrix = matrix;
                out.convert(&view)
            }
            _ => {
                let table = self.table(TableKey { samples, range, depth, light }, &meaning)?;
                let converted = self.passage.convert(&table, &view, out);
                self.table = Some(table);
                converted
            }
        };
        converted.map_err(|error: PictureError| ErrorKind::Still(error.to_string()).into())
    }

    /// The last picture's table if its key is the same, otherwise that of the process.
    fn table(&mut self, key: TableKey, meaning: &ColourInterpretation) -> Result<Arc<ColourTable>> {
        if let Some(table) = self.table.take().filter(|table| table.key == key) {
            return Ok(table);
        }
        let name = meaning.color.names()[0];
        ColourTable::shared(key).ok_or_else(|| refusal(&format!("primaries {name}")).into())
    }
}

fn refusal(what: &str) -> ErrorKind {
    ErrorKind::Still(format!("a still of {what} cannot be made: use --format raw"))
}

fn plane_views(picture: &Frame) -> Result<Vec<PlaneView<'_>>> {
    let format = picture.format();
    if !format.is_planar() || !matches!(format.components(), 1 | 3) {
        return Err(refusal(&format!("{} pictures", format.name())).into());
    }
    let planes = (0..picture.planes()).filter_map(|plane| picture.plane(plane));
    Ok(planes
        .map(|plane| PlaneView { data: plane.data, stride: plane.stride, width: plane.columns, height: plane.rows })
        .collect())
}

/// The kind of samples, by the matrix (H.273 table 4). A gray picture needs no matrix.
fn samples(picture: &Frame, meaning: &ColourInterpretation) -> Result<ColourModel> {
    if picture.format().is_rgb() {
        return Ok(ColourModel::Gbr);
    }
    if picture.format().components() == 1 {
        return Ok(ColourModel::Ycbcr(Matrix::Bt601));
    }
    match matrix_of(meaning.color.matrix) {
        Some(matrix) => Ok(ColourModel::Ycbcr(matrix)),
        None => Err(refusal(&format!("{} colour", meaning.color.names()[2])).into()),
    }
}

/// The matrix of a code point of H.273 table 4.
fn matrix_of(code_point: u32) -> Option<Matrix> {
    match code_point {
        1 => Some(Matrix::Bt709),
        4 => Some(Matrix::Fcc),
        5 | 6 => Some(Matrix::Bt601),
        7 => Some(Matrix::Smpte240m),
        8 => Some(Matrix::YCgCo),
        9 => Some(Matrix::Bt2020),
        // Among them 10 (constant luminance), 14 (ICtCp), 15 (IPT-C2); 0 would be R'G'B' in planes of YCbCr.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ffi::{CodecParameters, ParameterValues};

    use super::*;

    const NOTHING: Color = Color { primaries: 2, transfer: 2, matrix: 2, range: 0, chroma_location: 0 };

    fn format(name: &str) -> PixelFormat {
        let values = ParameterValues {
            codec: "hevc".into(),
            codec_tag: 0,
            extradata: vec![],
            pixel_format: Some(name.into()),
            bits_per_coded_sample: 0,
            bits_per_raw_sample: 0,
            profile: -99,
            level: -99,
            width: 0,
            height: 0,
            sample_aspect_ratio: (0, 1),
            frame_rate: (0, 1),
            field_order: 0,
            color: NOTHING,
            video_delay: 0,
            alpha_mode: 0,
            side_data: vec![],
        };
        CodecParameters::from_values(&values).unwrap().pixel_format().unwrap()
    }

    /// The assumptions for a specified part, as one line.
    fn assumed(told: Color, name: &str, size: (usize, usize)) -> String {
        let pairs = ColourInterpretation::of(&told, format(name), size).assumptions();
        pairs.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn unspecified_parts_follow_the_size() {
        let all =
            |name: &str| format!("primaries {name}, transfer {name}, matrix {name}, range tv, chroma_location left");
        assert_eq!(assumed(NOTHING, "yuv420p", (1280, 534)), all("bt709"));
        assert_eq!(assumed(NOTHING, "yuv420p", (640, 720)), all("bt709"));
        assert_eq!(assumed(NOTHING, "yuv420p", (640, 480)), all("smpte170m"));
        let pal = "primaries bt470bg, transfer smpte170m, matrix bt470bg, range tv";
        assert_eq!(assumed(NOTHING, "yuv444p", (720, 576)), pal);
    }

    #[test]
    fn specified_parts_decide_the_unspecified_ones() {
        let hlg = Color { transfer: 18, ..NOTHING };
        let bt2020 = "primaries bt2020, matrix bt2020nc, range tv, chroma_location left";
        assert_eq!(assumed(hlg, "yuv420p10le", (640, 480)), bt2020);
        let wide = Color { primaries: 9, range: 1, ..NOTHING };
        assert_eq!(assumed(wide, "yuv444p10le", (640, 480)), "transfer bt2020-10, matrix bt2020nc");
        let matrix = Color { matrix: 1, range: 2, chroma_location: 3, ..NOTHING };
        assert_eq!(assumed(matrix, "yuv420p", (640, 480)), "primaries bt709, transfer bt709");
        let whole = Color { primaries: 1, transfer: 1, matrix: 1, range: 1, chroma_location: 1 };
        assert_eq!(assumed(whole, "yuv420p", (1920, 1080)), "");
    }

    #[test]
    fn what_a_format_does_not_have_is_not_assumed() {
        let sd = "primaries smpte170m, transfer smpte170m, range tv";
        assert_eq!(assumed(NOTHING, "gray", (640, 480)), sd);
        let gbr = Color { matrix: 0, ..NOTHING };
        assert_eq!(assumed(gbr, "gbrp", (1920, 1080)), "primaries bt709, transfer bt709, range pc");
        assert!(!assumed(NOTHING, "yuvj420p", (640, 480)).contains("range"));
    }

    #[test]
    fn only_dolby_vision_profile_5_is_refused() {
        let record = |profile, compatibility| unsupported_reason(Some(DolbyVision { profile, compatibility }));
        assert!(record(5, 0).is_some_and(|why| why.contains("profile 5")));
        assert!(record(10, 0).is_some() && record(10, 1).is_none());
        assert!(record(8, 4).is_none() && record(7, 6).is_none() && unsupported_reason(None).is_none());
    }
}
