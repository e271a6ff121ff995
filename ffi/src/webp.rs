//! libwebp: from planes to a WebP file in memory.
//!
//! Lossy only, and it stores planes unchanged. Converting JFIF's planes is left to the caller.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libwebp_sys as sys;

/// The longest side of a WebP picture, in pixels.
pub const WEBP_MAX_SIDE: usize = sys::WEBP_MAX_DIMENSION as usize;

/// One 8-bit plane.
#[derive(Debug, Clone, Copy)]
pub struct WebpPlane<'a> {
    /// The samples, row after row.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Compresses a picture of `width` x `height` pixels into `out`, which is cleared first and keeps its memory. The
/// planes are Y, Cb and Cr in 4:2:0 (chroma sides rounded up), BT.601 matrix and limited range, as WebP requires.
/// `quality` is libwebp's, 1 to 100.
///
/// # Errors
/// A plane that is too small, a size that WebP does not allow, or libwebp's error code.
pub fn encode_webp(
    planes: &[WebpPlane<'_>; 3],
    (width, height): (usize, usize),
    quality: u8,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if !(1..=WEBP_MAX_SIDE).contains(&width) || !(1..=WEBP_MAX_SIDE).contains(&height) {
        return Err(format!("a WebP cannot have {width}x{height} pixels, sides are 1 to {WEBP_MAX_SIDE}"));
    }
    check(planes, (width, height))?;
    let config = config(quality)?;
    let mut picture = picture()?;
    picture.use_argb = 0;
    picture.colorspace = sys::WebPEncCSP::WEBP_YUV420;
    (picture.width, picture.height) = (width as c_int, height as c_int);
    (picture.y, picture.y_stride) = (planes[0].data.as_ptr().cast_mut(), planes[0].stride as c_int);
    (picture.u, picture.uv_stride) = (planes[1].data.as_ptr().cast_mut(), planes[1].stride as c_int);
    picture.v = planes[2].data.as_ptr().cast_mut();
    out.clear();
    picture.writer = Some(append);
    picture.custom_ptr = (&raw mut *out).cast();
    // SAFETY: both structures were initialised for this version of libwebp. The planes were checked to be as large as
    // the picture says; the encoder of a picture in YUV without alpha only reads them. `append` gets back the Vec,
    // which nothing else touches meanwhile.
    let done = unsafe { sys::WebPEncode(&config, &mut picture) } != 0;
    let error = picture.error_code;
    // SAFETY: frees what libwebp has allocated for this picture, not the planes, which it does not own.
    unsafe { sys::WebPPictureFree(&mut picture) };
    if done { Ok(()) } else { Err(format!("libwebp: {error:?}")) }
}

fn check(planes: &[WebpPlane<'_>; 3], (width, height): (usize, usize)) -> Result<(), String> {
    for (index, plane) in planes.iter().enumerate() {
        let halved = |side: usize| if index == 0 { side } else { side.div_ceil(2) };
        let (columns, rows) = (halved(width), halved(height));
        let needed = (rows - 1).checked_mul(plane.stride).and_then(|bytes| bytes.checked_add(columns));
        let is_short = needed.is_none_or(|needed| needed > plane.data.len());
        if is_short || plane.stride < columns || c_int::try_from(plane.stride).is_err() {
            return Err(format!("plane {index} is smaller than {columns}x{rows}"));
        }
    }
    if planes[1].stride == planes[2].stride { Ok(()) } else { Err("chroma strides differ".to_owned()) }
}

fn config(quality: u8) -> Result<sys::WebPConfig, String> {
    let mut config = MaybeUninit::uninit();
    let (quality, version) = (f32::from(quality.clamp(1, 100)), sys::WEBP_ENCODER_ABI_VERSION as c_int);
    // SAFETY: fills the structure, unless the version differs.
    let fits = unsafe {
        sys::WebPConfigInitInternal(config.as_mut_ptr(), sys::WebPPreset::WEBP_PRESET_DEFAULT, quality, version)
    };
    if fits == 0 {
        return Err("libwebp has an unexpected ABI version".to_owned());
    }
    // SAFETY: filled.
    Ok(unsafe { config.assume_init() })
}

fn picture() -> Result<sys::WebPPicture, String> {
    let mut picture = MaybeUninit::uninit();
    // SAFETY: fills the structure, unless the version differs.
    let fits = unsafe { sys::WebPPictureInitInternal(picture.as_mut_ptr(), sys::WEBP_ENCODER_ABI_VERSION as c_int) };
    if fits == 0 {
        return Err("libwebp has an unexpected ABI version".to_owned());
    }
    // SAFETY: filled.
    Ok(unsafe { picture.assume_init() })
}

/// Appends compressed bytes to the Vec.
extern "C" fn append(data: *const u8, size: usize, picture: *const sys::WebPPicture) -> c_int {
    // SAFETY: libwebp gives `size` bytes, and the picture that `encode_webp` made, whose `custom_ptr` is its Vec.
    unsafe {
        let out = &mut *(*picture).custom_ptr.cast::<Vec<u8>>();
        if size > 0 {
            out.extend_from_slice(std::slice::from_raw_parts(data, size));
        }
    }
    1
}
