//! Why pixels could not be converted, scaled or laid out.

use thiserror::Error;

use super::crop::Part;

/// The longest side of a JPEG, in pixels.
pub const MAX_SIDE: u32 = 65535;

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
