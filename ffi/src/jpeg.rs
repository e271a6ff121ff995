//! libjpeg-turbo: from planes to a JPEG file in memory. Converting pictures to JFIF's planes is left to the caller.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

/// Chroma subsampling of the planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JpegSubsampling {
    /// One plane.
    Gray,
    /// Full chroma.
    Yuv444,
    /// Half the columns.
    Yuv422,
    /// Half the columns and rows.
    Yuv420,
    /// Half the rows.
    Yuv440,
}

impl JpegSubsampling {
    fn raw(self) -> c_int {
        let raw = match self {
            JpegSubsampling::Gray => tj::TJSAMP_TJSAMP_GRAY,
            JpegSubsampling::Yuv444 => tj::TJSAMP_TJSAMP_444,
            JpegSubsampling::Yuv422 => tj::TJSAMP_TJSAMP_422,
            JpegSubsampling::Yuv420 => tj::TJSAMP_TJSAMP_420,
            JpegSubsampling::Yuv440 => tj::TJSAMP_TJSAMP_440,
        };
        raw as c_int
    }
}

/// One 8-bit plane. libjpeg-turbo reads planes with whole chroma samples, so for odd sizes a luma plane must have one
/// more column and row than the picture.
#[derive(Debug, Clone, Copy)]
pub struct JpegPlane<'a> {
    /// The samples.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A compressor. It keeps its memory from picture to picture.
#[derive(Debug)]
pub struct JpegEncoder {
    handle: NonNull<std::ffi::c_void>,
}

// SAFETY: a TurboJPEG instance may move between threads; one at a time uses it.
unsafe impl Send for JpegEncoder {}

impl JpegEncoder {
    /// A new compressor.
    ///
    /// # Errors
    /// libjpeg-turbo's message: no memory.
    pub fn new() -> Result<JpegEncoder, String> {
        // SAFETY: allocates; null means failure.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) };
        NonNull::new(handle.cast()).map(|handle| JpegEncoder { handle }).ok_or_else(|| message(std::ptr::null_mut()))
    }

    /// Compresses a picture of `width` x `height` pixels into `out`, which is cleared first and keeps its memory.
    /// Planes are JFIF's: BT.601 matrix, full range. `quality` is 1 to 100.
    ///
    /// # Errors
    /// libjpeg-turbo's message, or a plane that is too small.
    pub fn encode(
        &mut self,
        planes: &[JpegPlane<'_>],
        (width, height): (usize, usize),
        subsampling: JpegSubsampling,
        quality: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let (columns, rows) = match (c_int::try_from(width), c_int::try_from(height)) {
            (Ok(columns @ 1..=65535), Ok(rows @ 1..=65535)) => (columns, rows),
            _ => return Err(format!("a JPEG cannot have {width}x{height} pixels")),
        };
        let expected = if subsampling == JpegSubsampling::Gray { 1 } else { 3 };
        if planes.len() != expected {
            return Err(format!("{} planes instead of {expected}", planes.len()));
        }
        let mut pointers = [std::ptr::null(); 3];
        let mut strides = [0; 3];
        for (index, plane) in planes.iter().enumerate() {
            // SAFETY: pure functions of their arguments.
            let (plane_width, plane_height) = unsafe {
                (
                    tj::tj3YUVPlaneWidth(index as c_int, columns, subsampling.raw()),
                    tj::tj3YUVPlaneHeight(index as c_int, rows, subsampling.raw()),
                )
            };
            let (plane_width, plane_height) = (plane_width.max(1) as usize, plane_height.max(1) as usize);
            let needed = (plane_height - 1).checked_mul(plane.stride).and_then(|bytes| bytes.checked_add(plane_width));
            if plane.stride < plane_width || needed.is_none_or(|needed| needed > plane.data.len()) {
                return Err(format!("plane {index} is smaller than {plane_width}x{plane_height}"));
            }
            pointers[index] = plane.data.as_ptr();
            strides[index] = c_int::try_from(plane.stride).map_err(|_| format!("plane {index} is too wide"))?;
        }
        self.set(tj::TJPARAM_TJPARAM_QUALITY, c_int::from(quality.clamp(1, 100)))?;
        self.set(tj::TJPARAM_TJPARAM_SUBSAMP, subsampling.raw())?;
        self.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        // SAFETY: a pure function of its arguments; 0 means that they are invalid.
        let worst = unsafe { tj::tj3JPEGBufSize(columns, rows, subsampling.raw()) } as usize;
        if worst == 0 {
            return Err(message(self.handle.as_ptr().cast()));
        }
        out.clear();
        out.reserve(worst);
        let (mut buffer, mut size) = (out.as_mut_ptr(), out.capacity() as _);
        // SAFETY: the planes were checked against what libjpeg-turbo reads of them; the buffer has room for the worst
        // case and, with NOREALLOC, is neither grown nor replaced. On success `size` bytes of it were written.
        unsafe {
            let result = tj::tj3CompressFromYUVPlanes8(
                self.handle.as_ptr().cast(),
                pointers.as_ptr(),
                columns,
                strides.as_ptr(),
                rows,
                &mut buffer,
                &mut size,
            );
            if result != 0 {
                return Err(message(self.handle.as_ptr().cast()));
            }
            out.set_len(size as usize);
        }
        Ok(())
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) -> Result<(), String> {
        // SAFETY: a valid handle.
        match unsafe { tj::tj3Set(self.handle.as_ptr().cast(), parameter as c_int, value) } {
            0 => Ok(()),
            _ => Err(message(self.handle.as_ptr().cast())),
        }
    }
}

fn message(handle: tj::tjhandle) -> String {
    // SAFETY: null asks for the last global error; the text is NUL-terminated and copied at once.
    unsafe { CStr::from_ptr(tj::tj3GetErrorStr(handle)) }.to_string_lossy().into_owned()
}

impl Drop for JpegEncoder {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { tj::tj3Destroy(self.handle.as_ptr().cast()) };
    }
}
