//! Planes of samples: as a decoder leaves them, and as JPEG stores them.
//!
//! This file has their memory only: rows, strides, subsampling, and whether the planes of a picture fit together. The
//! encoding of samples is left to `matrix`, the conversion to `jfif` and `table`.

use super::error::PictureError;
use super::siting::{ChromaUpsampler, Siting};

/// One plane of samples, as a decoder leaves it.
#[derive(Clone, Copy, Debug)]
pub struct PlaneView<'a> {
    /// Rows from top to bottom; no data need follow the last sample of the last row.
    pub data: &'a [u8],
    /// Bytes from the start of a row to the start of the next.
    pub stride: usize,
    /// Samples per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl<'a> PlaneView<'a> {
    /// Row `y` as samples of `N` bytes, of a checked view.
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

pub(super) fn check_planes(planes: &[PlaneView<'_>], bytes: usize, log2_w: u8, log2_h: u8) -> Result<(), PictureError> {
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

/// Number of chroma samples for `luma` samples, with subsampling by 2^`log2` (0 or 1).
pub(super) fn halved(luma: usize, log2: u8) -> usize {
    if log2 == 0 { luma } else { luma.div_ceil(2) }
}

/// One 8-bit plane.
///
/// Encoders that work on pairs of luma samples (libjpeg-turbo) read past an odd width or height. So every row is
/// `stride` bytes, a multiple of [`Plane::ALIGN`], luma has an even number of rows if chroma is halved vertically, and
/// samples outside of the picture repeat its edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    /// Rows from top to bottom, each `stride` bytes.
    pub data: Vec<u8>,
    /// Bytes from row to row.
    pub stride: usize,
    /// Samples per row.
    pub width: usize,
    /// Rows of the picture; `data` may contain one more.
    pub height: usize,
}

impl Plane {
    /// Strides are multiples of this many bytes.
    pub const ALIGN: usize = 16;

    /// The samples of row `y`.
    ///
    /// # Panics
    /// If the plane has no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..][..self.width]
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
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

/// Owned 8-bit planes for an encoder. Its buffers are reused between pictures.
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
    /// Chroma location: the stream's at its own size and position, otherwise JFIF's. Readers of JPEG and WebP assume
    /// centred chroma in both cases; a quarter of a chroma sample is not worth the blur of moving it.
    pub siting: Siting,
    /// Y, or Y, Cb and Cr.
    pub planes: Vec<Plane>,
    pub(super) corrections: ChromaUpsampler,
}

impl JfifPlanes {
    /// Allocates the planes of a picture; its samples are undefined.
    pub(crate) fn reshape(&mut self, width: usize, height: usize, planes: usize, log2_w: u8, log2_h: u8) {
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

    /// Fills the samples outside of the picture, see [`Plane`].
    pub(crate) fn repeat_edges(&mut self) {
        self.planes.iter_mut().for_each(Plane::repeat_edges);
    }

    /// Checks that the planes fit together, since the fields are public.
    pub(crate) fn check(&self) -> Result<(), PictureError> {
        let views: Vec<_> = self.planes.iter().map(Plane::view).collect();
        check_planes(&views, 1, self.log2_chroma_w, self.log2_chroma_h)
    }
}
