//! The encoding of a YCbCr picture: the matrix from R'G'B', the range, and the chroma location. Conversion is left to
//! `jfif`.

use super::error::PictureError;
use super::planes::{PlaneView, check_planes};
use super::siting::Siting;

/// The matrix from R'G'B' to Y'CbCr (non-constant luminance), by H.273 table 4.
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
    /// YCgCo: Cg is in the plane of Cb, Co in the plane of Cr.
    YCgCo,
}

/// The weights of R', G' and B' in BT.601's Y'.
const BT601: [f64; 3] = [0.299, 0.587, 0.114];

/// JFIF's Y' in 0..=1, Cb and Cr in -0.5..=0.5 for R'G'B'. Linear, so it applies to differences too.
pub(super) fn jfif_of_rgb([red, green, blue]: [f64; 3]) -> [f64; 3] {
    let [wr, wg, wb] = BT601;
    let luma = wr * red + wg * green + wb * blue;
    [luma, (blue - luma) / (2.0 * (1.0 - wb)), (red - luma) / (2.0 * (1.0 - wr))]
}

impl Matrix {
    /// Steps from the lowest to the highest chroma at 8 bits in limited range. YCgCo is computed from R', G' and B'
    /// that have their range already.
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

    /// R', G' and B' from Y' in 0..=1, Cb and Cr in -0.5..=0.5.
    pub(super) fn to_rgb(self, [luma, cb, cr]: [f64; 3]) -> [f64; 3] {
        let Some((kr, kb)) = self.weights() else { return [luma - cb + cr, luma + cb, luma - cb - cr] };
        let red = luma + 2.0 * (1.0 - kr) * cr;
        let blue = luma + 2.0 * (1.0 - kb) * cb;
        [red, (luma - kr * red - kb * blue) / (1.0 - kr - kb), blue]
    }

    /// BT.601's Y', Cb and Cr for one unit of this matrix' Cb and Cr: `[[Y' of Cb, Y' of Cr], [Cb of Cb, ..], [Cr of
    /// Cb, ..]]`. One unit of Y' gives one unit of Y' and no chroma.
    pub(super) fn to_bt601(self) -> [[f64; 2]; 3] {
        let of_cb = jfif_of_rgb(self.to_rgb([0.0, 1.0, 0.0]));
        let of_cr = jfif_of_rgb(self.to_rgb([0.0, 0.0, 1.0]));
        [0, 1, 2].map(|row| [of_cb[row], of_cr[row]])
    }
}

/// The sample values of black and white.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColourRange {
    /// 16 to 235, chroma 16 to 240 (times 2^(depth-8)): "TV", "MPEG".
    Limited,
    /// 0 to 2^depth - 1: "PC", "JPEG".
    Full,
}

/// A decoded picture and the encoding of its samples.
#[derive(Clone, Copy, Debug)]
pub struct YcbcrView<'a> {
    /// Y, or Y, Cb and Cr. Samples are `u8` at depth 8, otherwise little-endian `u16` with `depth` significant low
    /// bits.
    pub planes: &'a [PlaneView<'a>],
    /// Bits per sample, 8 to 16.
    pub depth: u8,
    /// Binary logarithm of luma columns per chroma column, 0 or 1; ignored with one plane.
    pub log2_chroma_w: u8,
    /// Binary logarithm of luma rows per chroma row, 0 or 1; ignored with one plane.
    pub log2_chroma_h: u8,
    /// Matrix of the source.
    pub matrix: Matrix,
    /// Range of the source.
    pub range: ColourRange,
    /// Location of chroma between luma; parts that do not apply to the subsampling are ignored.
    pub siting: Siting,
}

impl YcbcrView<'_> {
    /// Ensures that no sample of the picture lies outside its plane's data.
    pub(super) fn check(&self) -> Result<(), PictureError> {
        if !(8..=16).contains(&self.depth) {
            return Err(PictureError::Depth { found: self.depth });
        }
        let bytes = if self.depth == 8 { 1 } else { 2 };
        check_planes(self.planes, bytes, self.log2_chroma_w, self.log2_chroma_h)
    }

    pub(super) fn is_jfif_already(&self) -> bool {
        let matrix_fits = self.matrix == Matrix::Bt601 || self.planes.len() == 1;
        matrix_fits && self.range == ColourRange::Full && self.depth == 8
    }
}
