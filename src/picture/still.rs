//! JPEG files of pictures.
//!
//! JFIF wants BT.601 and full range; the stream's matrix and range are brought there. Not yet: BT.2020's primaries, the
//! PQ and HLG curves (such stills look flat), R'G'B' streams, rotation.

use ffi::{Frame, JpegEncoder, JpegPlane, JpegSubsampling};

use super::jfif::{JfifPlanes, Matrix, PlaneView, Range, YcbcrView};
use super::scale::{Scaler, Shape};
use crate::error::{ErrorKind, Result};

/// How a JPEG is to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JpegOptions {
    /// libjpeg-turbo's quality, 1 to 100.
    pub quality: u8,
    /// Size.
    pub shape: Shape,
}

/// Makes JPEGs; keep it, its buffers are reused.
pub struct Jpeg {
    encoder: JpegEncoder,
    scaler: Scaler,
    planes: JfifPlanes,
    scaled: JfifPlanes,
}

impl Jpeg {
    /// A new encoder.
    ///
    /// # Errors
    /// `Still` without memory.
    pub fn new() -> Result<Jpeg> {
        Ok(Jpeg {
            encoder: JpegEncoder::new().map_err(ErrorKind::Still)?,
            scaler: Scaler::new(),
            planes: JfifPlanes::default(),
            scaled: JfifPlanes::default(),
        })
    }

    /// Encodes a picture into `out`, and returns the still's width and height.
    ///
    /// # Errors
    /// `Still` for pixel formats and matrices that are no YCbCr of 8 to 16 bits, and sizes that JPEG cannot have.
    pub fn encode(&mut self, picture: &Frame, options: &JpegOptions, out: &mut Vec<u8>) -> Result<(usize, usize)> {
        let still = |error: super::PictureError| ErrorKind::Still(error.to_string());
        let views = plane_views(picture)?;
        let (log2_chroma_w, log2_chroma_h) = picture.format().chroma_shift();
        let view = YcbcrView {
            planes: &views,
            depth: picture.format().depth(),
            log2_chroma_w,
            log2_chroma_h,
            matrix: matrix(picture)?,
            range: range(picture),
        };
        self.planes.convert(&view).map_err(still)?;
        let planes = if options.shape.width.is_some() || options.shape.height.is_some() {
            self.scaler.scale(&self.planes, &options.shape, &mut self.scaled).map_err(still)?;
            &self.scaled
        } else {
            &self.planes
        };
        let subsampling = match (planes.planes.len(), planes.log2_chroma_w, planes.log2_chroma_h) {
            (1, _, _) => JpegSubsampling::Gray,
            (_, 0, 0) => JpegSubsampling::Yuv444,
            (_, 1, 0) => JpegSubsampling::Yuv422,
            (_, 0, _) => JpegSubsampling::Yuv440,
            _ => JpegSubsampling::Yuv420,
        };
        let jpeg_planes: Vec<_> =
            planes.planes.iter().map(|plane| JpegPlane { data: &plane.data, stride: plane.stride }).collect();
        let size = (planes.width, planes.height);
        self.encoder.encode(&jpeg_planes, size, subsampling, options.quality, out).map_err(ErrorKind::Still)?;
        Ok(size)
    }
}

fn plane_views(picture: &Frame) -> Result<Vec<PlaneView<'_>>> {
    let format = picture.format();
    if format.is_rgb() || !format.is_planar() || !matches!(format.components(), 1 | 3) {
        return Err(ErrorKind::Still(format!(
            "a JPEG of {} pictures cannot be made yet: use --format raw",
            format.name()
        ))
        .into());
    }
    let planes = (0..picture.planes()).filter_map(|plane| picture.plane(plane));
    Ok(planes
        .map(|plane| PlaneView { data: plane.data, stride: plane.stride, width: plane.columns, height: plane.rows })
        .collect())
}

/// The matrix (ITU-T H.273 table 4). What the stream leaves open follows the field's habit: BT.709 from 1280 columns or
/// 720 lines on, BT.601 below, BT.2020 with an HDR curve.
fn matrix(picture: &Frame) -> Result<Matrix> {
    let color = picture.color();
    Ok(match color.matrix {
        1 => Matrix::Bt709,
        4..=6 => Matrix::Bt601,
        9 => Matrix::Bt2020,
        2 if is_hdr(picture) => Matrix::Bt2020,
        2 if picture.width() >= 1280 || picture.height() >= 720 => Matrix::Bt709,
        2 => Matrix::Bt601,
        _ => {
            let name = color.names()[2];
            return Err(
                ErrorKind::Still(format!("a JPEG of {name} colour cannot be made yet: use --format raw")).into()
            );
        }
    })
}

/// Limited unless the stream, or an old-style pixel format, says full.
fn range(picture: &Frame) -> Range {
    let is_full = picture.color().range == 2 || picture.format().name().starts_with("yuvj");
    if is_full { Range::Full } else { Range::Limited }
}

/// True for the PQ and HLG curves.
pub fn is_hdr(picture: &Frame) -> bool {
    matches!(picture.color().transfer, 16 | 18)
}
