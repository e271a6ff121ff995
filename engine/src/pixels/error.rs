//! Errors of converting, scaling and laying out pixels.

use thiserror::Error;

use super::crop::PixelRect;

/// The longest side of a JPEG, in pixels.
pub const MAX_SIDE: u32 = 65535;

/// The reason why pixels cannot be converted, scaled or laid out. `plane` counts from 0, which is luma.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PictureError {
    /// The picture is neither grey (1 plane) nor YCbCr (3 planes).
    #[error("a picture has 1 or 3 planes, this one has {found}")]
    PlaneCount {
        /// Planes of the picture.
        found: usize,
    },
    /// Samples of fewer than 8 or more than 16 bits.
    #[error("samples have 8 to 16 bits, these have {found}")]
    Depth {
        /// Bits per sample.
        found: u8,
    },
    /// The subsampling is none of 4:2:0, 4:2:2, 4:4:0 and 4:4:4.
    #[error("chroma is at most halved, here it is divided by 2^{log2_chroma_w} across and 2^{log2_chroma_h} down")]
    Subsampling {
        /// Binary logarithm of luma columns per chroma column.
        log2_chroma_w: u8,
        /// Binary logarithm of luma rows per chroma row.
        log2_chroma_h: u8,
    },
    /// The picture has no pixels.
    #[error("the picture is empty: {width}x{height}")]
    Empty {
        /// Luma columns.
        width: usize,
        /// Luma rows.
        height: usize,
    },
    /// The size of a plane does not follow from the picture's.
    #[error("plane {plane} is {width}x{height}, expected {expected_width}x{expected_height}")]
    PlaneSize {
        /// Number of the plane.
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
    /// Rows overlap.
    #[error("plane {plane} has a stride of {stride} bytes, a row needs {needed}")]
    Stride {
        /// Number of the plane.
        plane: usize,
        /// Bytes from row to row.
        stride: usize,
        /// Bytes of a row.
        needed: usize,
    },
    /// The data are shorter than the rows.
    #[error("plane {plane} has {found} bytes, its rows need {needed}")]
    Data {
        /// Number of the plane.
        plane: usize,
        /// Length of the data in bytes.
        found: usize,
        /// Bytes from the first sample to the last.
        needed: usize,
    },
    /// A side of the output is longer than a JPEG allows.
    #[error("a still of {width}x{height} is not possible, sides are 1 to {max} pixels", max = MAX_SIDE)]
    OutputSize {
        /// Requested luma columns.
        width: u32,
        /// Requested luma rows.
        height: u32,
    },
    /// The output has more pixels than the scaler allows.
    #[error("{width}x{height} are more pixels than a scaled still may have: request a smaller one")]
    TooManyPixels {
        /// Requested luma columns.
        width: u32,
        /// Requested luma rows.
        height: u32,
    },
    /// A part lies outside of the picture.
    #[error("the part {part} is not within the picture, which is shown at {width}x{height}")]
    Crop {
        /// The requested part.
        part: PixelRect,
        /// Columns of the picture as shown.
        width: usize,
        /// Rows of the picture as shown.
        height: usize,
    },
    /// A contact sheet has too many pixels.
    #[error("a contact sheet of {width}x{height} pixels is too large: fewer or smaller tiles, or other columns")]
    SheetSize {
        /// Columns it would have.
        width: usize,
        /// Rows it would have.
        height: usize,
    },
}
