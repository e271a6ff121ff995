//! Decoded YCbCr planes to the planes a JPEG stores: BT.601 matrix, full range, 8 bit.
//!
//! JFIF knows one kind of YCbCr, and video is mostly another: BT.709 or BT.2020, limited range, 10 bit. The way from
//! one YCbCr to another is a 3x3 matrix with a simple shape, so no RGB is made on the way:
//!
//! ```text
//! Y'  = gain·(Y - black) + a·Cb + b·Cr      a, b are 0 where the matrix is BT.601 already
//! Cb' =                    c·Cb + d·Cr      chroma does not depend on luma: it stays at its own resolution
//! Cr' =                    e·Cb + f·Cr
//! ```
//!
//! Luma takes the chroma of its place. Where chroma is subsampled, the *correction* `a·Cb + b·Cr` is interpolated
//! instead of Cb and Cr, which is the same (both are linear) and half the work; where chroma lies is `siting`'s. The
//! output keeps the siting of the source. JFIF has chroma centred, so what lies to the left comes out a quarter of a
//! chroma sample to the side; moving it would blur it.
//!
//! What others do: `colour` says what a picture's samples mean and which way it takes; `table` changes primaries and
//! transfer function (wide gamut, HDR); `gbr` takes R'G'B'; `scale` changes the size; the JPEG encoder takes
//! [`JfifPlanes`] from here. Nothing here knows of rotation or interlacing.

use thiserror::Error;

use super::layout::Part;
use super::siting::{Siting, Upsampled};

/// Why pixels could not be converted or scaled. `plane` counts from 0, luma.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PictureError {
    /// Only grey (1) and YCbCr (3) pictures are known.
    #[error("a picture has 1 or 3 planes, this one has {found}")]
    PlaneCount {
        /// Planes that the picture has.
        found: usize,
    },
    /// Samples of fewer than 8 or more than 16 bits.
    #[error("samples have 8 to 16 bits, these have {found}")]
    Depth {
        /// Bits a sample.
        found: u8,
    },
    /// Something other than 4:2:0, 4:2:2, 4:4:0 and 4:4:4.
    #[error("chroma is at most halved, here it is divided by 2^{log2_chroma_w} across and 2^{log2_chroma_h} down")]
    Subsampling {
        /// Binary logarithm of luma columns per chroma column.
        log2_chroma_w: u8,
        /// Binary logarithm of luma rows per chroma row.
        log2_chroma_h: u8,
    },
    /// A picture without pixels.
    #[error("the picture is empty: {width}x{height}")]
    Empty {
        /// Luma columns.
        width: usize,
        /// Luma rows.
        height: usize,
    },
    /// A plane whose size does not follow from the picture's.
    #[error("plane {plane} is {width}x{height}, expected {expected_width}x{expected_height}")]
    PlaneSize {
        /// Which plane.
        plane: usize,
        /// Its columns.
        width: usize,
        /// Its rows.
        height: usize,
        /// Columns that follow from luma and the subsampling.
        expected_width: usize,
        /// Rows that follow from luma and the subsampling.
        expected_height: usize,
    },
    /// Rows that would overlap.
    #[error("plane {plane} has a stride of {stride} bytes, a row needs {needed}")]
    Stride {
        /// Which plane.
        plane: usize,
        /// Bytes from row to row.
        stride: usize,
        /// Bytes of a row.
        needed: usize,
    },
    /// Less data than the rows need.
    #[error("plane {plane} has {found} bytes, its rows need {needed}")]
    Data {
        /// Which plane.
        plane: usize,
        /// Bytes there.
        found: usize,
        /// Bytes from the first sample to the last.
        needed: usize,
    },
    /// A side that a JPEG cannot have.
    #[error("a still of {width}x{height} was asked for, sides are 1 to {max} pixels", max = MAX_SIDE)]
    OutputSize {
        /// Luma columns asked for.
        width: u32,
        /// Luma rows asked for.
        height: u32,
    },
    /// More pixels than a picture is resampled to.
    #[error("{width}x{height} are more pixels than a still may have that is scaled: ask for a smaller one")]
    TooManyPixels {
        /// Luma columns asked for.
        width: u32,
        /// Luma rows asked for.
        height: u32,
    },
    /// A part that is not within the picture.
    #[error("the part {part} is not within the picture, which is shown at {width}x{height}")]
    Crop {
        /// What was asked for.
        part: Part,
        /// Columns of the picture as shown.
        width: usize,
        /// Rows of the picture as shown.
        height: usize,
    },
    /// A contact sheet of too many pixels.
    #[error("a contact sheet of {width}x{height} pixels is too large: fewer or smaller tiles, or other columns")]
    SheetSize {
        /// Columns it would have.
        width: usize,
        /// Rows it would have.
        height: usize,
    },
    /// The scaler refused.
    #[error("plane {plane} cannot be scaled: {reason}")]
    Scale {
        /// Which plane.
        plane: usize,
        /// What the scaler said.
        reason: String,
    },
}

/// The longest side of a JPEG, in pixels.
pub const MAX_SIDE: u32 = 65535;

/// One plane of samples, as the decoder left it.
#[derive(Clone, Copy, Debug)]
pub struct PlaneView<'a> {
    /// Rows from top to bottom; after the last sample of the last row nothing need follow.
    pub data: &'a [u8],
    /// Bytes from the start of a row to the start of the next.
    pub stride: usize,
    /// Samples a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl<'a> PlaneView<'a> {
    /// Row `y` as samples of `N` bytes. The view has been checked.
    pub(super) fn row<const N: usize>(&self, y: usize) -> &'a [[u8; N]] {
        let bytes = &self.data[y * self.stride..][..self.width * N];
        bytes.as_chunks::<N>().0
    }

    fn check(&self, plane: usize, sample_bytes: usize, width: usize, height: usize) -> Result<(), PictureError> {
        if (self.width, self.height) != (width, height) {
            return Err(PictureError::PlaneSize {
                plane,
                width: self.width,
                height: self.height,
                expected_width: width,
                expected_height: height,
            });
        }
        let row = width.saturating_mul(sample_bytes);
        if self.stride < row {
            return Err(PictureError::Stride { plane, stride: self.stride, needed: row });
        }
        let needed = self.stride.saturating_mul(height - 1).saturating_add(row);
        if self.data.len() < needed {
            return Err(PictureError::Data { plane, found: self.data.len(), needed });
        }
        Ok(())
    }
}

/// How R'G'B' became Y'CbCr (non-constant luminance), by H.273 table 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Matrix {
    /// BT.601, BT.470 System B/G, SMPTE 170M: SD video and JFIF.
    Bt601,
    /// BT.709: HD video.
    Bt709,
    /// BT.2020: UHD video.
    Bt2020,
    /// The FCC's rules of 1953.
    Fcc,
    /// SMPTE 240M: HD video before BT.709.
    Smpte240m,
    /// YCgCo: Cg is where others have Cb, Co where they have Cr.
    YCgCo,
}

/// The weights of R', G' and B' in BT.601's Y'.
const BT601: [f64; 3] = [0.299, 0.587, 0.114];

/// JFIF's Y' in 0..=1, Cb and Cr in -0.5..=0.5 of R'G'B'. Linear, so good for differences too.
pub(super) fn jfif_of_rgb([red, green, blue]: [f64; 3]) -> [f64; 3] {
    let [wr, wg, wb] = BT601;
    let luma = wr * red + wg * green + wb * blue;
    [luma, (blue - luma) / (2.0 * (1.0 - wb)), (red - luma) / (2.0 * (1.0 - wr))]
}

impl Matrix {
    /// Steps from the lowest to the highest chroma at 8 bits in limited range. YCgCo is made of R', G' and B' that have
    /// their range already.
    pub(super) fn chroma_steps(self) -> f64 {
        if self == Matrix::YCgCo { 219.0 } else { 224.0 }
    }

    /// The weights of R' and B' in Y'; YCgCo has none.
    pub(super) fn weights(self) -> Option<(f64, f64)> {
        match self {
            Matrix::Bt601 => Some((0.299, 0.114)),
            Matrix::Bt709 => Some((0.2126, 0.0722)),
            Matrix::Bt2020 => Some((0.2627, 0.0593)),
            Matrix::Fcc => Some((0.30, 0.11)),
            Matrix::Smpte240m => Some((0.212, 0.087)),
            Matrix::YCgCo => None,
        }
    }

    /// R', G' and B' of Y' in 0..=1, Cb and Cr in -0.5..=0.5.
    pub(super) fn to_rgb(self, [luma, cb, cr]: [f64; 3]) -> [f64; 3] {
        let Some((kr, kb)) = self.weights() else { return [luma - cb + cr, luma + cb, luma - cb - cr] };
        let red = luma + 2.0 * (1.0 - kr) * cr;
        let blue = luma + 2.0 * (1.0 - kb) * cb;
        [red, (luma - kr * red - kb * blue) / (1.0 - kr - kb), blue]
    }

    /// The part of BT.601's Y', Cb and Cr that a unit of this matrix' Cb and Cr makes: `[[Y' of Cb, Y' of Cr], [Cb of
    /// Cb, ..], [Cr of Cb, ..]]`. A unit of Y' makes a unit of Y' and no chroma.
    fn to_bt601(self) -> [[f64; 2]; 3] {
        let of_cb = jfif_of_rgb(self.to_rgb([0.0, 1.0, 0.0]));
        let of_cr = jfif_of_rgb(self.to_rgb([0.0, 0.0, 1.0]));
        [0, 1, 2].map(|row| [of_cb[row], of_cr[row]])
    }
}

/// Which sample values stand for black and white.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// 16 to 235, chroma 16 to 240 (times 2^(depth-8)): "TV", "MPEG".
    Limited,
    /// 0 to 2^depth - 1: "PC", "JPEG".
    Full,
}

/// A decoded picture and what its samples mean.
#[derive(Clone, Copy, Debug)]
pub struct YcbcrView<'a> {
    /// Y, or Y, Cb and Cr. Samples are `u8` at depth 8, else little-endian `u16` of which the low `depth` bits count.
    pub planes: &'a [PlaneView<'a>],
    /// Bits a sample, 8 to 16.
    pub depth: u8,
    /// Binary logarithm of luma columns per chroma column, 0 or 1; of no meaning with one plane.
    pub log2_chroma_w: u8,
    /// Binary logarithm of luma rows per chroma row, 0 or 1; of no meaning with one plane.
    pub log2_chroma_h: u8,
    /// Matrix of the source.
    pub matrix: Matrix,
    /// Range of the source.
    pub range: Range,
    /// Where chroma lies between luma; what of it does not fit the subsampling is of no meaning.
    pub siting: Siting,
}

impl YcbcrView<'_> {
    /// After this, no sample of the picture lies outside its plane's data.
    pub(super) fn check(&self) -> Result<(), PictureError> {
        if !(8..=16).contains(&self.depth) {
            return Err(PictureError::Depth { found: self.depth });
        }
        let bytes = if self.depth == 8 { 1 } else { 2 };
        check_planes(self.planes, bytes, self.log2_chroma_w, self.log2_chroma_h)
    }

    fn is_jfif_already(&self) -> bool {
        let matrix_fits = self.matrix == Matrix::Bt601 || self.planes.len() == 1;
        matrix_fits && self.range == Range::Full && self.depth == 8
    }
}

fn check_planes(planes: &[PlaneView<'_>], bytes: usize, log2_w: u8, log2_h: u8) -> Result<(), PictureError> {
    if planes.len() != 1 && planes.len() != 3 {
        return Err(PictureError::PlaneCount { found: planes.len() });
    }
    if planes.len() == 3 && (log2_w > 1 || log2_h > 1) {
        return Err(PictureError::Subsampling { log2_chroma_w: log2_w, log2_chroma_h: log2_h });
    }
    let (width, height) = (planes[0].width, planes[0].height);
    if width == 0 || height == 0 {
        return Err(PictureError::Empty { width, height });
    }
    planes[0].check(0, bytes, width, height)?;
    for (index, plane) in planes.iter().enumerate().skip(1) {
        plane.check(index, bytes, halved(width, log2_w), halved(height, log2_h))?;
    }
    Ok(())
}

/// Chroma samples that cover `luma` samples, for subsampling by 2^`log2` (0 or 1).
pub(super) fn halved(luma: usize, log2: u8) -> usize {
    if log2 == 0 { luma } else { luma.div_ceil(2) }
}

/// One 8-bit plane.
///
/// An encoder that works on whole pairs of luma samples reads past an odd width or height (libjpeg-turbo does). So
/// every row is `stride` bytes, a multiple of [`Plane::ALIGN`], luma has an even number of rows where chroma is halved
/// vertically, and what lies outside the picture repeats its edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    /// Rows from top to bottom, each `stride` bytes.
    pub data: Vec<u8>,
    /// Bytes from row to row.
    pub stride: usize,
    /// Samples a row.
    pub width: usize,
    /// Rows of the picture; `data` may hold one more.
    pub height: usize,
}

impl Plane {
    /// Strides are multiples of this many bytes.
    pub const ALIGN: usize = 16;

    /// The samples of row `y`.
    ///
    /// # Panics
    /// Where the plane has no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..][..self.width]
    }

    pub(super) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.stride..][..self.width]
    }

    fn view(&self) -> PlaneView<'_> {
        PlaneView { data: &self.data, stride: self.stride, width: self.width, height: self.height }
    }

    fn reshape(&mut self, width: usize, height: usize, rows: usize) {
        self.width = width;
        self.height = height;
        self.stride = width.next_multiple_of(Self::ALIGN);
        self.data.resize(self.stride * rows, 0);
    }

    fn repeat_edges(&mut self) {
        for row in self.data.chunks_exact_mut(self.stride) {
            let last = row[self.width - 1];
            row[self.width..].fill(last);
        }
        let end = self.height * self.stride;
        if self.data.len() > end {
            self.data.copy_within(end - self.stride..end, end);
        }
    }
}

/// Owned 8-bit planes ready for a JPEG encoder; buffers are reused between pictures.
#[derive(Clone, Debug, Default)]
pub struct JfifPlanes {
    /// Luma columns.
    pub width: usize,
    /// Luma rows.
    pub height: usize,
    /// Binary logarithm of luma columns per chroma column; 0 with one plane.
    pub log2_chroma_w: u8,
    /// Binary logarithm of luma rows per chroma row; 0 with one plane.
    pub log2_chroma_h: u8,
    /// Where chroma lies: the stream's way in its own size and position, JFIF's in any other. Readers of JPEG and WebP
    /// take it to be in the middle either way; a quarter of a chroma sample is not worth the blur of moving it.
    pub siting: Siting,
    /// Y, or Y, Cb and Cr.
    pub planes: Vec<Plane>,
    corrections: Upsampled,
}

impl JfifPlanes {
    /// Fills the planes with the picture that `view` shows, in BT.601, full range, 8 bit, at the same size and
    /// subsampling. Results are within 0.6 of exact arithmetic, clamped to 0..=255. BT.601 in full range and 8 bit is
    /// copied. Colours outside of the R'G'B' cube stay outside: the JPEG's reader clamps them, as it would any others.
    ///
    /// # Errors
    /// When `view` is not a picture of the kinds above, or its planes are too short for it. The planes that were there
    /// before are then untouched.
    pub fn convert(&mut self, view: &YcbcrView<'_>) -> Result<(), PictureError> {
        view.check()?;
        let luma = view.planes[0];
        self.reshape(luma.width, luma.height, view.planes.len(), view.log2_chroma_w, view.log2_chroma_h);
        self.siting = view.siting;
        if view.is_jfif_already() {
            self.copy(view.planes);
        } else if view.depth == 8 {
            self.convert_samples::<1>(view);
        } else {
            self.convert_samples::<2>(view);
        }
        self.repeat_edges();
        Ok(())
    }

    /// Makes room for a picture; its samples are whatever was there before.
    pub(super) fn reshape(&mut self, width: usize, height: usize, planes: usize, log2_w: u8, log2_h: u8) {
        let (log2_w, log2_h) = if planes == 1 { (0, 0) } else { (log2_w, log2_h) };
        let (chroma_width, chroma_height) = (halved(width, log2_w), halved(height, log2_h));
        (self.width, self.height) = (width, height);
        (self.log2_chroma_w, self.log2_chroma_h) = (log2_w, log2_h);
        self.siting = Siting::CENTRED;
        self.planes.resize_with(planes, Plane::default);
        for (index, plane) in self.planes.iter_mut().enumerate() {
            match index {
                0 => plane.reshape(width, height, chroma_height << log2_h),
                _ => plane.reshape(chroma_width, chroma_height, chroma_height),
            }
        }
    }

    /// Fills what lies outside the picture, see [`Plane`].
    pub(super) fn repeat_edges(&mut self) {
        self.planes.iter_mut().for_each(Plane::repeat_edges);
    }

    /// The fields are public, so whoever takes planes from outside asks first whether they fit together.
    pub(super) fn check(&self) -> Result<(), PictureError> {
        let views: Vec<_> = self.planes.iter().map(Plane::view).collect();
        check_planes(&views, 1, self.log2_chroma_w, self.log2_chroma_h)
    }

    fn copy(&mut self, planes: &[PlaneView<'_>]) {
        for (plane, view) in self.planes.iter_mut().zip(planes) {
            for y in 0..plane.height {
                plane.row_mut(y).copy_from_slice(view.row::<1>(y).as_flattened());
            }
        }
    }

    fn convert_samples<const N: usize>(&mut self, view: &YcbcrView<'_>) {
        let fixed = Fixed::new(view);
        let (source, planes) = (view.planes, self.planes.as_mut_slice());
        if let ([_, cb, cr], [_, to_cb, to_cr]) = (source, &mut *planes) {
            for y in 0..cb.height {
                fixed.chroma_row(cb.row::<N>(y), cr.row::<N>(y), to_cb.row_mut(y), to_cr.row_mut(y));
            }
        }
        match (source, fixed.to_luma) {
            ([_, cb, cr], Some(mix)) => {
                let subsampling = (view.log2_chroma_w, view.log2_chroma_h);
                self.corrections.begin(cb.width, cb.height);
                for y in 0..self.height {
                    let row = self.corrections.row(y, view.siting, subsampling, |chroma_y, out| {
                        fixed.correction_row(mix, cb.row::<N>(chroma_y), cr.row::<N>(chroma_y), out);
                    });
                    fixed.corrected_luma_row(source[0].row::<N>(y), row, planes[0].row_mut(y));
                }
            }
            _ => {
                for y in 0..self.height {
                    fixed.luma_row(source[0].row::<N>(y), planes[0].row_mut(y));
                }
            }
        }
    }
}

/// Fraction bits of intermediate results. With 6, the largest fits an `i16`: 255·64·255/219 for white with the
/// largest correction of luma (under 44·64) on top.
const FRACTION: u32 = 6;

/// The conversion in fixed point.
///
/// Samples of every depth become unsigned 16-bit ones and are multiplied by unsigned 16-bit factors, of which the upper
/// half is kept: SSE2 does eight of those in an instruction (`pmulhuw`), while for 32-bit products it has none. LLVM
/// finds the instruction for the unsigned products below reliably, for signed ones only now and then.
struct Fixed {
    /// Shift that brings a sample to 16 bits. A variable for 8-bit samples too: LLVM would merge a literal 8 with the
    /// factor, which makes 32-bit products of 16-bit ones and took luma twice the time.
    shift: u32,
    /// 16-bit luma to [`FRACTION`], in 1/65536.
    luma_gain: u16,
    /// Black level, and the half that makes the final shift round.
    luma_bias: i16,
    /// The correction of luma; none where luma does not depend on chroma.
    to_luma: Option<Mix>,
    to_cb: Mix,
    to_cr: Mix,
}

/// A sum of Cb and Cr with factors.
#[derive(Clone, Copy)]
struct Mix {
    cb: Factor,
    cr: Factor,
    bias: i16,
}

/// A factor of 16-bit chroma, in 1/65536. A negative one is a positive one for the complement of the sample.
#[derive(Clone, Copy)]
struct Factor {
    size: u16,
    complement: u16,
}

impl Factor {
    fn new(value: f64) -> Self {
        let complement = if value < 0.0 { 0xffff } else { 0 };
        Self { size: (value.abs() * 65536.0).round() as u16, complement }
    }

    #[inline(always)]
    fn times(self, sample: u16) -> u16 {
        high_product(sample ^ self.complement, self.size)
    }
}

impl Mix {
    /// `bias` is what comes of grey.
    fn new(factors: [f64; 2], bias: f64) -> Self {
        let [cb, cr] = factors.map(Factor::new);
        // Grey is half of full scale, and so is its complement. Rounding down loses a half on average in each product.
        let of_grey = (f64::from(cb.size) + f64::from(cr.size)) / 2.0;
        Self { cb, cr, bias: (bias - of_grey + 1.0).round() as i16 }
    }

    /// The sum with [`FRACTION`] bits, within one and a half steps.
    #[inline(always)]
    fn of(self, cb: u16, cr: u16) -> i16 {
        (self.cb.times(cb) + self.cr.times(cr)).wrapping_add_signed(self.bias) as i16
    }
}

#[inline(always)]
fn high_product(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

impl Fixed {
    fn new(view: &YcbcrView<'_>) -> Self {
        let depth = i32::from(view.depth);
        // Luma and chroma steps of the output for one step of the source at 16 bits.
        let full = 255.0 / ((2f64.powi(depth) - 1.0) * 2f64.powi(16 - depth));
        let (black, luma_gain, chroma_gain) = match view.range {
            Range::Limited => (16.0, 255.0 / 219.0 / 256.0, 255.0 / view.matrix.chroma_steps() / 256.0),
            Range::Full => (0.0, full, full),
        };
        let one = f64::from(1 << FRACTION);
        let [to_luma, to_cb, to_cr] = view.matrix.to_bt601().map(|row| row.map(|factor| factor * chroma_gain * one));
        let middle = 128.5 * one;
        Self {
            shift: 16 - u32::from(view.depth),
            luma_gain: (luma_gain * one * 65536.0).round() as u16,
            luma_bias: ((0.5 - black * 256.0 * luma_gain) * one).round() as i16,
            to_luma: (view.matrix != Matrix::Bt601).then(|| Mix::new(to_luma, 0.0)),
            to_cb: Mix::new(to_cb, middle),
            to_cr: Mix::new(to_cr, middle),
        }
    }

    /// A sample at 16 bits. Bits above the depth fall out.
    #[inline(always)]
    fn widen<const N: usize>(&self, sample: [u8; N]) -> u16 {
        let value = if N == 1 { u16::from(sample[0]) } else { u16::from_le_bytes([sample[0], sample[1]]) };
        value << self.shift
    }

    #[inline(always)]
    fn luma<const N: usize>(&self, sample: [u8; N], bias: i16) -> i16 {
        high_product(self.widen(sample), self.luma_gain) as i16 + bias
    }

    fn chroma_row<const N: usize>(&self, cb: &[[u8; N]], cr: &[[u8; N]], to_cb: &mut [u8], to_cr: &mut [u8]) {
        for (((cb, cr), to_cb), to_cr) in cb.iter().zip(cr).zip(to_cb).zip(to_cr) {
            let (cb, cr) = (self.widen(*cb), self.widen(*cr));
            *to_cb = whole(self.to_cb.of(cb, cr));
            *to_cr = whole(self.to_cr.of(cb, cr));
        }
    }

    fn luma_row<const N: usize>(&self, luma: &[[u8; N]], out: &mut [u8]) {
        for (luma, out) in luma.iter().zip(out) {
            *out = whole(self.luma(*luma, self.luma_bias));
        }
    }

    /// What the chroma row adds to luma.
    fn correction_row<const N: usize>(&self, mix: Mix, cb: &[[u8; N]], cr: &[[u8; N]], out: &mut [i16]) {
        for ((cb, cr), out) in cb.iter().zip(cr).zip(out) {
            *out = mix.of(self.widen(*cb), self.widen(*cr));
        }
    }

    /// A luma row under a correction that is eight times too large.
    fn corrected_luma_row<const N: usize>(&self, luma: &[[u8; N]], correction: &[i16], out: &mut [u8]) {
        let bias = self.luma_bias + LOST;
        for ((luma, correction), out) in luma.iter().zip(correction).zip(out) {
            *out = whole(self.luma(*luma, bias) + (correction >> 3));
        }
    }
}

/// Steps that a corrected luma loses on average by rounding down: a half in its product, a half in its correction.
const LOST: i16 = 1;

/// Rounded down to an integer, clamped to 8 bits.
#[inline(always)]
fn whole(value: i16) -> u8 {
    (value >> FRACTION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::super::siting::SitingRow;
    use super::*;

    const MATRICES: [Matrix; 6] =
        [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Fcc, Matrix::Smpte240m, Matrix::YCgCo];
    const RANGES: [Range; 2] = [Range::Limited, Range::Full];
    const DEPTHS: [u8; 6] = [8, 9, 10, 12, 14, 16];
    /// 4:2:0, 4:2:2, 4:4:0, 4:4:4 as (across, down), and grey.
    const SUBSAMPLINGS: [Option<(u8, u8)>; 5] = [Some((1, 1)), Some((1, 0)), Some((0, 1)), Some((0, 0)), None];
    const SIZES: [(usize, usize); 7] = [(1, 1), (2, 2), (1, 7), (6, 1), (3, 3), (37, 21), (64, 34)];

    /// What the samples of a picture mean.
    #[derive(Clone, Copy, Debug)]
    struct Kind {
        size: (usize, usize),
        depth: u8,
        subsampling: Option<(u8, u8)>,
        matrix: Matrix,
        range: Range,
        siting: Siting,
    }

    impl Kind {
        fn log2(&self) -> (u8, u8) {
            self.subsampling.unwrap_or((0, 0))
        }

        fn sizes(&self) -> Vec<(usize, usize)> {
            let (width, height) = self.size;
            match self.subsampling {
                None => vec![self.size],
                Some((w, h)) => {
                    let chroma = ((width + usize::from(w)) >> w, (height + usize::from(h)) >> h);
                    vec![self.size, chroma, chroma]
                }
            }
        }

        /// H.273 equations 29 to 37: YCgCo has no range of its own.
        fn chroma_steps(&self) -> f64 {
            if self.matrix == Matrix::YCgCo { 219.0 } else { 224.0 }
        }

        /// Y in 0..=1, Cb and Cr in -0.5..=0.5 from a sample, by the definitions of H.273.
        fn normal(&self, plane: usize, sample: f64) -> f64 {
            let unit = 2f64.powi(i32::from(self.depth) - 8);
            let top = 2f64.powi(i32::from(self.depth)) - 1.0;
            match (plane, self.range) {
                (0, Range::Limited) => (sample / unit - 16.0) / 219.0,
                (0, Range::Full) => sample / top,
                (_, Range::Limited) => (sample / unit - 128.0) / self.chroma_steps(),
                (_, Range::Full) => (sample - 128.0 * unit) / top,
            }
        }

        /// The sample nearest to a normal value.
        fn sample(&self, plane: usize, normal: f64) -> u16 {
            let unit = 2f64.powi(i32::from(self.depth) - 8);
            let top = 2f64.powi(i32::from(self.depth)) - 1.0;
            let sample = match (plane, self.range) {
                (0, Range::Limited) => (normal * 219.0 + 16.0) * unit,
                (0, Range::Full) => normal * top,
                (_, Range::Limited) => (normal * self.chroma_steps() + 128.0) * unit,
                (_, Range::Full) => normal * top + 128.0 * unit,
            };
            sample.round().clamp(0.0, top) as u16
        }

        fn each(mut check: impl FnMut(Kind)) {
            for matrix in MATRICES {
                for range in RANGES {
                    for depth in DEPTHS {
                        for subsampling in SUBSAMPLINGS {
                            for size in SIZES {
                                check(Kind { size, depth, subsampling, matrix, range, siting: Siting::LEFT });
                            }
                        }
                    }
                }
            }
        }
    }

    /// A picture as a decoder would leave it, with rubbish between the rows and above the significant bits.
    struct Picture {
        kind: Kind,
        samples: Vec<Vec<u16>>,
        bytes: Vec<Vec<u8>>,
        strides: Vec<usize>,
    }

    impl Picture {
        fn new(kind: Kind, mut sample: impl FnMut(usize, usize, usize) -> u16) -> Self {
            let sample_bytes = if kind.depth == 8 { 1 } else { 2 };
            let mut picture = Self { kind, samples: vec![], bytes: vec![], strides: vec![] };
            for (plane, (width, height)) in kind.sizes().into_iter().enumerate() {
                let stride = width * sample_bytes + [0, 7, 32][plane];
                let mut samples = vec![];
                let mut bytes = vec![];
                for y in 0..height {
                    bytes.resize(y * stride, 0xa7);
                    for x in 0..width {
                        let value = sample(plane, x, y);
                        samples.push(value);
                        let rubbish = 0xa7a7u16.checked_shl(u32::from(kind.depth)).unwrap_or(0);
                        bytes.extend_from_slice(&(value | rubbish).to_le_bytes()[..sample_bytes]);
                    }
                }
                picture.samples.push(samples);
                picture.bytes.push(bytes);
                picture.strides.push(stride);
            }
            picture
        }

        /// A picture of one colour, in normal values.
        fn flat(kind: Kind, normal: [f64; 3]) -> Self {
            Self::new(kind, |plane, _, _| kind.sample(plane, normal[plane]))
        }

        fn views(&self) -> Vec<PlaneView<'_>> {
            let planes = self.bytes.iter().zip(&self.strides).zip(self.kind.sizes());
            planes.map(|((data, &stride), (width, height))| PlaneView { data, stride, width, height }).collect()
        }

        fn converted_into(&self, out: &mut JfifPlanes) -> Result<(), PictureError> {
            let planes = self.views();
            let (log2_chroma_w, log2_chroma_h) = self.kind.log2();
            let Kind { depth, matrix, range, siting, .. } = self.kind;
            out.convert(&YcbcrView { planes: &planes, depth, log2_chroma_w, log2_chroma_h, matrix, range, siting })
        }

        fn converted(&self) -> JfifPlanes {
            let mut out = JfifPlanes::default();
            self.converted_into(&mut out).unwrap();
            out
        }

        fn at(&self, plane: usize, x: f64, y: f64) -> f64 {
            let (width, height) = self.kind.sizes()[plane];
            let clamp = |v: f64, size: usize| v.clamp(0.0, size as f64 - 1.0) as usize;
            let sample = f64::from(self.samples[plane][clamp(y, height) * width + clamp(x, width)]);
            self.kind.normal(plane, sample)
        }

        /// Chroma at a luma place: linear between the nearest samples, the edge repeated.
        fn chroma_at(&self, plane: usize, x: usize, y: usize) -> f64 {
            let (log2_w, log2_h) = self.kind.log2();
            let across = if self.kind.siting.is_centred { 0.5 } else { 0.0 };
            let down = match self.kind.siting.row {
                SitingRow::Top => 0.0,
                SitingRow::Between => 0.5,
                SitingRow::Bottom => 1.0,
            };
            let x = if log2_w == 1 { (x as f64 - across) / 2.0 } else { x as f64 };
            let y = if log2_h == 1 { (y as f64 - down) / 2.0 } else { y as f64 };
            let (left, top) = (x.floor(), y.floor());
            let (right_part, bottom_part) = (x - left, y - top);
            let row = |y| (1.0 - right_part) * self.at(plane, left, y) + right_part * self.at(plane, left + 1.0, y);
            (1.0 - bottom_part) * row(top) + bottom_part * row(top + 1.0)
        }

        /// What exact arithmetic makes of a place of a plane, by way of R'G'B'.
        fn expected(&self, plane: usize, x: usize, y: usize) -> f64 {
            if plane == 0 {
                let luma = self.at(0, x as f64, y as f64);
                let (cb, cr) = match self.kind.subsampling {
                    Some(_) => (self.chroma_at(1, x, y), self.chroma_at(2, x, y)),
                    None => (0.0, 0.0),
                };
                jfif_of_rgb(rgb_of(self.kind.matrix, [luma, cb, cr]))[0]
            } else {
                let (x, y) = (x as f64, y as f64);
                jfif_of_rgb(rgb_of(self.kind.matrix, [0.5, self.at(1, x, y), self.at(2, x, y)]))[plane]
            }
        }
    }

    fn kr_kb(matrix: Matrix) -> (f64, f64) {
        match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
            Matrix::Fcc => (0.30, 0.11),
            Matrix::Smpte240m => (0.212, 0.087),
            Matrix::YCgCo => unreachable!("it has no such weights"),
        }
    }

    fn rgb_of(matrix: Matrix, [y, cb, cr]: [f64; 3]) -> [f64; 3] {
        if matrix == Matrix::YCgCo {
            // H.273 equations 47 to 50.
            let t = y - cb;
            return [t + cr, y + cb, t - cr];
        }
        let (kr, kb) = kr_kb(matrix);
        let red = y + cr * 2.0 * (1.0 - kr);
        let blue = y + cb * 2.0 * (1.0 - kb);
        [red, (y - kr * red - kb * blue) / (1.0 - kr - kb), blue]
    }

    fn ycbcr_of(matrix: Matrix, [red, green, blue]: [f64; 3]) -> [f64; 3] {
        if matrix == Matrix::YCgCo {
            // H.273 equations 44 to 46.
            return [0.5 * green + 0.25 * (red + blue), 0.5 * green - 0.25 * (red + blue), 0.5 * (red - blue)];
        }
        let (kr, kb) = kr_kb(matrix);
        let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
        [y, (blue - y) / (2.0 * (1.0 - kb)), (red - y) / (2.0 * (1.0 - kr))]
    }

    fn jfif_of_rgb(rgb: [f64; 3]) -> [f64; 3] {
        let [y, cb, cr] = ycbcr_of(Matrix::Bt601, rgb);
        [y * 255.0, cb * 255.0 + 128.0, cr * 255.0 + 128.0].map(|value| value.clamp(0.0, 255.0))
    }

    fn random(seed: u32) -> impl FnMut() -> u16 {
        let mut state = seed.wrapping_mul(2654435761) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u16
        }
    }

    /// Ramps, colour bars, and noise over all values, those outside of the range too.
    fn contents(kind: Kind) -> [Picture; 3] {
        let top = (1u32 << kind.depth) - 1;
        let ramps = Picture::new(kind, |plane, x, y| {
            let (width, height) = kind.sizes()[plane];
            let across = x as f64 / width.max(2) as f64;
            let down = y as f64 / height.max(2) as f64;
            (f64::from(top) * [across, (across + down) / 2.0, 1.0 - down][plane]) as u16
        });
        let bars = Picture::new(kind, |plane, x, _| {
            let (width, _) = kind.sizes()[plane];
            let bar = 7 - x * 8 / width;
            let rgb = [bar & 2, bar & 4, bar & 1].map(|bit| if bit > 0 { 0.75 } else { 0.0 });
            kind.sample(plane, ycbcr_of(kind.matrix, rgb)[plane])
        });
        let mut next = random(u32::from(kind.depth));
        let noise = Picture::new(kind, |_, _, _| next() & top as u16);
        [ramps, bars, noise]
    }

    /// Exact results differ from the nearest integer by up to 0.5 and, spread evenly, by 0.25 on average. On top come
    /// up to one and a half of 64 parts from `Mix::of`, and up to two from luma and the shifts: together under 0.06,
    /// and none on average.
    #[test]
    fn results_are_those_of_exact_arithmetic_through_rgb() {
        let (mut sum, mut signed, mut count) = (0.0, 0.0, 0.0);
        Kind::each(|kind| {
            for picture in contents(kind) {
                let out = picture.converted();
                assert_eq!(out.planes.len(), kind.sizes().len());
                for (index, plane) in out.planes.iter().enumerate() {
                    assert_eq!((plane.width, plane.height), kind.sizes()[index]);
                    let (mut plane_sum, mut plane_signed, area) = (0.0, 0.0, (plane.width * plane.height) as f64);
                    for (x, y) in (0..plane.height).flat_map(|y| (0..plane.width).map(move |x| (x, y))) {
                        let expected = picture.expected(index, x, y);
                        let error = f64::from(plane.row(y)[x]) - expected;
                        assert!(error.abs() < 0.56, "{kind:?} plane {index} at {x},{y}: {error} off {expected}");
                        plane_sum += error.abs();
                        plane_signed += error;
                    }
                    assert!(area < 100.0 || plane_sum / area < 0.5, "{kind:?} plane {index}: {}", plane_sum / area);
                    (sum, signed, count) = (sum + plane_sum, signed + plane_signed, count + area);
                }
            }
        });
        assert!(sum / count < 0.26, "mean {}", sum / count);
        assert!((signed / count).abs() < 0.02, "bias {}", signed / count);
    }

    #[test]
    fn chroma_is_taken_from_where_it_lies() {
        for location in 0..=6 {
            let siting = Siting::from_location(location);
            for subsampling in SUBSAMPLINGS {
                for size in SIZES {
                    for (depth, matrix) in [(8, Matrix::Bt709), (10, Matrix::Bt2020), (8, Matrix::YCgCo)] {
                        let range = Range::Limited;
                        check(&contents(Kind { size, depth, subsampling, matrix, range, siting })[2]);
                    }
                }
            }
        }
        let places: Vec<_> = (0..=6).map(Siting::from_location).collect();
        assert_eq!(places.iter().filter(|&&siting| siting == Siting::LEFT).count(), 2);
    }

    /// Every sample is within 0.56 of exact arithmetic.
    fn check(picture: &Picture) {
        let out = picture.converted();
        for (index, plane) in out.planes.iter().enumerate() {
            for (x, y) in (0..plane.height).flat_map(|y| (0..plane.width).map(move |x| (x, y))) {
                let error = f64::from(plane.row(y)[x]) - picture.expected(index, x, y);
                assert!(error.abs() < 0.56, "{:?} plane {index} at {x},{y}: {error}", picture.kind);
            }
        }
    }

    #[test]
    fn grey_stays_grey_and_black_and_white_reach_the_ends() {
        Kind::each(|kind| {
            for step in 0..=16 {
                let normal = f64::from(step) / 16.0;
                let out = Picture::flat(kind, [normal, 0.0, 0.0]).converted();
                let expected = kind.normal(0, f64::from(kind.sample(0, normal))) * 255.0;
                let luma = out.planes[0].data[0];
                assert!((f64::from(luma) - expected).abs() < 0.56, "{kind:?} {normal}: {luma}");
                assert!(step != 0 || luma == 0, "{kind:?}: black is {luma}");
                assert!(step != 16 || luma == 255, "{kind:?}: white is {luma}");
                assert!(out.planes[0].data.iter().all(|&sample| sample == luma), "{kind:?}");
                assert!(out.planes[1..].iter().all(|plane| plane.data.iter().all(|&sample| sample == 128)), "{kind:?}");
            }
        });
    }

    #[test]
    fn below_black_and_above_white_are_clamped() {
        Kind::each(|kind| {
            let dark = Picture::new(kind, |plane, _, _| if plane == 0 { 0 } else { kind.sample(1, 0.0) }).converted();
            assert!(dark.planes[0].data.iter().all(|&sample| sample == 0));
            let top = ((1u32 << kind.depth) - 1) as u16;
            let bright = Picture::new(kind, |plane, _, _| if plane == 0 { top } else { kind.sample(1, 0.0) });
            assert!(bright.converted().planes[0].data.iter().all(|&sample| sample == 255));
        });
    }

    /// The source is quantised too: half a step of each of its planes, in steps of the output, reaches luma by 0.75 and
    /// chroma by 0.65 at 8 bits in limited range. The output's own 0.56 comes on top.
    #[test]
    fn colours_are_those_that_were_filmed() {
        Kind::each(|kind| {
            for bits in 0..8u8 {
                let rgb = [bits & 4, bits & 2, bits & 1].map(|bit| if bit > 0 { 0.9 } else { 0.1 });
                let out = Picture::flat(kind, ycbcr_of(kind.matrix, rgb)).converted();
                for (index, plane) in out.planes.iter().enumerate().filter(|_| kind.subsampling.is_some()) {
                    let expected = jfif_of_rgb(rgb)[index];
                    for &sample in &plane.data {
                        assert!(
                            (f64::from(sample) - expected).abs() < 1.3,
                            "{kind:?} {rgb:?}: {sample} for {expected}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_jfif_already_is_copied() {
        for subsampling in SUBSAMPLINGS {
            let (matrix, siting) = (Matrix::Bt601, Siting::LEFT);
            let kind = Kind { size: (37, 21), depth: 8, subsampling, matrix, range: Range::Full, siting };
            for picture in contents(kind) {
                let out = picture.converted();
                for (plane, samples) in out.planes.iter().zip(&picture.samples) {
                    let rows: Vec<_> = (0..plane.height).flat_map(|y| plane.row(y).to_vec()).map(u16::from).collect();
                    assert_eq!(&rows, samples);
                }
            }
        }
    }

    #[test]
    fn rows_and_columns_outside_the_picture_repeat_its_edge() {
        Kind::each(|kind| {
            let out = contents(kind)[2].converted();
            let rows_of_luma = kind.sizes().last().unwrap().1 << kind.log2().1;
            for (index, plane) in out.planes.iter().enumerate() {
                assert!(plane.stride.is_multiple_of(Plane::ALIGN) && plane.stride >= plane.width);
                let rows = if index == 0 { rows_of_luma } else { plane.height };
                assert_eq!(plane.data.len(), rows * plane.stride);
                for (y, row) in plane.data.chunks_exact(plane.stride).enumerate() {
                    let inside = plane.row(y.min(plane.height - 1));
                    assert_eq!(&row[..plane.width], inside);
                    assert!(row[plane.width..].iter().all(|sample| sample == inside.last().unwrap()));
                }
            }
        });
    }

    #[test]
    fn buffers_of_another_picture_leave_no_trace() {
        let mut reused = JfifPlanes::default();
        Kind::each(|kind| {
            let picture = &contents(kind)[2];
            picture.converted_into(&mut reused).unwrap();
            let fresh = picture.converted();
            assert_eq!(reused.planes, fresh.planes);
            assert_eq!((reused.width, reused.height), kind.size);
            assert_eq!((reused.log2_chroma_w, reused.log2_chroma_h), kind.log2());
        });
    }

    /// The error of a 4:2:0 view of 16x10 after `spoil`.
    fn error_of(depth: u8, spoil: impl FnOnce(&mut YcbcrView<'_>, &mut Vec<PlaneView<'_>>)) -> PictureError {
        let (matrix, range, siting) = (Matrix::Bt709, Range::Full, Siting::LEFT);
        let kind = Kind { size: (16, 10), depth, subsampling: Some((1, 1)), matrix, range, siting };
        let picture = Picture::flat(kind, [0.5, 0.1, 0.1]);
        let mut planes = picture.views();
        let (log2_chroma_w, log2_chroma_h) = (1, 1);
        let mut view = YcbcrView { planes: &[], depth, log2_chroma_w, log2_chroma_h, matrix, range, siting };
        spoil(&mut view, &mut planes);
        let mut out = JfifPlanes::default();
        let error = out.convert(&YcbcrView { planes: &planes, ..view }).unwrap_err();
        assert!(out.planes.is_empty(), "{error} left something behind");
        assert!(!error.to_string().contains('\n'));
        error
    }

    #[test]
    fn malformed_views_are_errors() {
        use PictureError::*;
        assert_eq!(error_of(8, |_, planes| planes.truncate(0)), PlaneCount { found: 0 });
        assert_eq!(error_of(8, |_, planes| planes.truncate(2)), PlaneCount { found: 2 });
        assert_eq!(error_of(8, |_, planes| planes.push(planes[0])), PlaneCount { found: 4 });
        assert_eq!(error_of(8, |view, _| view.depth = 7), Depth { found: 7 });
        assert_eq!(error_of(8, |view, _| view.depth = 17), Depth { found: 17 });
        let quarter = Subsampling { log2_chroma_w: 2, log2_chroma_h: 0 };
        assert_eq!(error_of(8, |view, _| (view.log2_chroma_w, view.log2_chroma_h) = (2, 0)), quarter);
        assert!(matches!(error_of(8, |view, _| view.log2_chroma_h = 255), Subsampling { .. }));
        assert_eq!(error_of(8, |_, planes| planes[0].width = 0), Empty { width: 0, height: 10 });
        assert_eq!(error_of(8, |_, planes| planes[0].height = 0), Empty { width: 16, height: 0 });
        let size = PlaneSize { plane: 2, width: 8, height: 4, expected_width: 8, expected_height: 5 };
        assert_eq!(error_of(8, |_, planes| planes[2].height = 4), size);
        assert!(matches!(error_of(8, |view, _| view.log2_chroma_w = 0), PlaneSize { plane: 1, .. }));
        assert_eq!(error_of(8, |_, planes| planes[0].stride = 15), Stride { plane: 0, stride: 15, needed: 16 });
        assert_eq!(error_of(10, |_, planes| planes[1].stride = 15), Stride { plane: 1, stride: 15, needed: 16 });
        let data = Data { plane: 0, found: 159, needed: 160 };
        assert_eq!(error_of(8, |_, planes| planes[0].data = &planes[0].data[..159]), data);
        // 8-bit planes under a view of 10 bits have half of the bytes.
        assert!(matches!(error_of(8, |view, _| view.depth = 10), Stride { plane: 0, .. }));
    }

    #[test]
    fn sizes_that_overflow_are_errors() {
        use PictureError::*;
        assert!(matches!(error_of(8, |_, planes| planes[0].stride = usize::MAX), Data { plane: 0, .. }));
        assert!(matches!(error_of(10, |_, planes| planes[0].width = usize::MAX), Stride { plane: 0, .. }));
        assert!(matches!(error_of(10, |_, planes| planes[0].height = usize::MAX), Data { plane: 0, .. }));
    }

    /// Beside a second reference, as a reader of the JPEG sees them: in R'G'B'.
    #[test]
    fn colour_bars_are_those_of_the_standards() {
        const BLOCKS: [Option<(usize, usize)>; 5] = [Some((1, 1)), Some((2, 1)), Some((1, 2)), Some((2, 2)), None];
        for (matrix, weights) in reference::MATRICES {
            for (depth, is_full) in [8, 10, 12].into_iter().flat_map(|depth| [(depth, false), (depth, true)]) {
                for (block, location) in BLOCKS.into_iter().flat_map(|block| (0..=6).map(move |place| (block, place))) {
                    for size in [(40, 24), (1, 1), (3, 5), (33, 7)] {
                        let weights = Some(weights);
                        let kind = reference::Kind { size, depth, block, is_full, weights, location };
                        let picture = reference::Picture::new(kind, reference::bars(size));
                        let mut out = JfifPlanes::default();
                        picture.view(matrix, |view| out.convert(view)).unwrap();
                        let (mean, most) = picture.errors(&out, |rgb| rgb);
                        assert!(mean < 0.4 && most < 1.5, "{kind:?}: mean {mean}, most {most}");
                    }
                }
            }
        }
    }
}
