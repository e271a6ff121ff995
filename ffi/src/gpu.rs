//! NVIDIA GPUs: decoders that run on one, and pictures in its memory.
//!
//! The driver's libraries are loaded when a GPU is opened; neither building nor starting needs them. The choice of
//! streams for a GPU, and their fallback, are left to the engine.

use std::ffi::CStr;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::codec_parameters::CodecParameters;
use crate::decoder::{DamageOptions, Decoder};
use crate::error::AvError;
use crate::frame::Frame;
use crate::library::missing_library;
use crate::pixel::PixelFormat;
use crate::sys;

/// A failure of a GPU, with the driver's message if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuError {
    /// libavcodec's code for it.
    pub code: AvError,
    /// The reason: the call and its result, or the missing part.
    pub why: String,
}

impl GpuError {
    /// The last failure of this thread's calls, or `code` if it was not the GPU's.
    fn of(code: AvError) -> GpuError {
        GpuError::last().unwrap_or_else(|| GpuError { code, why: code.to_string() })
    }

    /// The last failure of a GPU in this thread's calls since [`GpuError::forget`].
    pub fn last() -> Option<GpuError> {
        // SAFETY: a number, and a NUL-terminated string, of this thread, which only calls of this thread change.
        let (code, why) = unsafe { (sys::bs_gpu_error(), CStr::from_ptr(sys::bs_gpu_why())) };
        (code != 0).then(|| GpuError { code: AvError(code), why: why.to_string_lossy().into_owned() })
    }

    /// Clears this thread's last failure.
    pub fn forget() {
        // SAFETY: only this thread's own memory.
        unsafe { sys::bs_gpu_forget() };
    }

    /// True if another attempt would fail as well: the GPU, or libavcodec, does not support the stream.
    pub fn is_for_good(&self) -> bool {
        matches!(self.code, AvError::NOT_SUPPORTED | AvError::NOT_YET)
    }
}

impl fmt::Display for GpuError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}

impl std::error::Error for GpuError {}

#[derive(Debug)]
struct Handle(NonNull<sys::BsGpu>);

// SAFETY: the GPU's lists are behind a lock, other changing fields are atomic, and each thread that uses a CUDA context
// enters and leaves it.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: a reference of ours, released once; sessions and pictures have their own.
        unsafe { sys::bs_gpu_close(&mut raw) };
    }
}

/// An open GPU. Cheap to clone: all clones share one state.
#[derive(Debug, Clone)]
pub struct Gpu {
    handle: Arc<Handle>,
}

/// Properties and counters of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its number, from 0, in the driver's order.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// CUDA version of the driver: major and minor.
    pub driver: (u32, u32),
    /// Number of NVDECs that decode H.265; 0 if the driver does not report it.
    pub engines: usize,
    /// Hardware decoders that were opened so far.
    pub sessions_opened: u64,
    /// Number of times that a hardware decoder was reused for another stream.
    pub sessions_reused: u64,
}

/// The location of a picture in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePlanes {
    /// Addresses (`CUdeviceptr`) of the first visible sample of each plane. With two planes chroma is interleaved
    /// (NV12, P016).
    pub planes: [u64; 3],
    /// Number of planes.
    pub plane_count: usize,
    /// Bytes from one row to the next, in every plane.
    pub pitch: usize,
    /// Width in pixels, cropped.
    pub width: usize,
    /// Height in pixels, cropped.
    pub height: usize,
    /// Bytes of a sample: 1, or 2 with the value in the upper bits.
    pub bytes_per_sample: usize,
    /// Bits of a sample.
    pub bit_depth: u32,
    /// The GPU.
    pub ordinal: u32,
    /// The format that a software decoder would output.
    pub format: PixelFormat,
    /// The `CUcontext` that the addresses are valid in: the GPU's primary one.
    pub context: u64,
}

impl Gpu {
    /// Opens a GPU, counted from 0.
    ///
    /// # Errors
    /// No driver, no such GPU, or the driver's error.
    pub fn open(ordinal: u32) -> Result<Gpu, GpuError> {
        crate::log::quiet();
        GpuError::forget();
        if let Some(library) = missing_library(&["libcuda.so.1", "libnvcuvid.so.1"]) {
            let why = format!("no {}", library.trim_end_matches(".so.1"));
            return Err(GpuError { code: AvError::NOT_SUPPORTED, why });
        }
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes a reference, or fails.
        let opened = unsafe { sys::bs_gpu_open(i32::try_from(ordinal).unwrap_or(i32::MAX), &mut raw) };
        AvError::check(opened).map_err(GpuError::of)?;
        let raw = NonNull::new(raw).ok_or(AvError::NO_MEMORY).map_err(GpuError::of)?;
        Ok(Gpu { handle: Arc::new(Handle(raw)) })
    }

    pub(crate) fn as_raw(&self) -> *mut sys::BsGpu {
        self.handle.0.as_ptr()
    }

    /// True after an error of the driver that makes all further calls fail.
    pub fn is_lost(&self) -> bool {
        // SAFETY: the GPU is open.
        unsafe { sys::bs_gpu_is_lost(self.as_raw()) != 0 }
    }

    /// Its properties, and the number of its decoders so far.
    pub fn info(&self) -> GpuInfo {
        let mut raw =
            sys::BsGpuInfo { name: [0; 96], ordinal: 0, driver: 0, engines: 0, sessions_opened: 0, sessions_reused: 0 };
        // SAFETY: the GPU is open; the name is NUL-terminated.
        let name = unsafe {
            sys::bs_gpu_info(self.as_raw(), &mut raw);
            CStr::from_ptr(raw.name.as_ptr())
        };
        let positive = |value: i32| value.max(0) as u32;
        let driver = positive(raw.driver);
        GpuInfo {
            ordinal: positive(raw.ordinal),
            name: name.to_string_lossy().into_owned(),
            driver: (driver / 1000, driver % 1000 / 10),
            engines: positive(raw.engines) as usize,
            sessions_opened: u64::from(positive(raw.sessions_opened)),
            sessions_reused: u64::from(positive(raw.sessions_reused)),
        }
    }
}

impl Decoder {
    /// Opens a decoder that decodes on a GPU: its pictures are locations in the GPU's memory, for [`Frame::download`]
    /// or [`Frame::keep_on_device`]. Whether the GPU supports the stream shows with the first packet.
    ///
    /// # Errors
    /// No decoder for this codec runs on a GPU; and as [`Decoder::open`].
    pub fn open_on(parameters: &CodecParameters, gpu: &Gpu, damage: &DamageOptions) -> Result<Decoder, GpuError> {
        if gpu.is_lost() {
            return Err(GpuError { code: AvError::EXTERNAL, why: "the GPU was lost".to_owned() });
        }
        // SAFETY: any id is allowed; the result is null or a constant.
        let codec = unsafe { sys::bs_gpu_codec(parameters.codec_id() as i32) };
        if codec.is_null() {
            let why = format!("{} is not decoded on a GPU", parameters.codec_name());
            return Err(GpuError { code: AvError::INVALID_ARGUMENT, why });
        }
        // SAFETY: a codec, as found.
        let opened = unsafe { Decoder::open_on_gpu(parameters, codec, gpu, damage) };
        opened.map_err(|code| GpuError { code, why: code.to_string() })
    }

    /// The GPU that it runs on.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }
}

impl Frame {
    /// Copies a picture of a GPU's decoder to the host: the planes that a software decoder would output, with the crop
    /// of the stream and of the container (`parameters`). Waits until it is decoded.
    ///
    /// # Errors
    /// `INVALID_DATA` if the GPU reports damage in any picture since the decoder's last flush; otherwise the driver's
    /// error.
    pub fn download(&self, parameters: &CodecParameters) -> Result<Frame, GpuError> {
        let mut planes = Frame::empty().map_err(GpuError::of)?;
        // SAFETY: both are valid; the second one is empty.
        AvError::check(unsafe { sys::bs_gpu_download(self.as_raw(), planes.get()) }).map_err(GpuError::of)?;
        planes.crop(parameters.crop()).map_err(GpuError::of)?;
        Ok(planes)
    }

    /// Copies a picture of a GPU's decoder to GPU memory of its own, with the stream's crop. Waits until it is decoded.
    ///
    /// # Errors
    /// As [`Frame::download`].
    pub fn keep_on_device(&self) -> Result<DevicePicture, GpuError> {
        let mut kept = Frame::empty().map_err(GpuError::of)?;
        // SAFETY: both are valid; the second one is empty.
        AvError::check(unsafe { sys::bs_gpu_keep(self.as_raw(), kept.get()) }).map_err(GpuError::of)?;
        let planes = device_planes(&kept).map_err(GpuError::of)?;
        Ok(DevicePicture { kept, planes })
    }
}

/// A picture in a GPU's memory. It stays there as long as this value or a clone exists.
#[derive(Debug, Clone)]
pub struct DevicePicture {
    kept: Frame,
    planes: DevicePlanes,
}

impl DevicePicture {
    /// The location of its planes.
    pub fn planes(&self) -> &DevicePlanes {
        &self.planes
    }

    /// Its properties without samples: colour, shape, interlacing, damage. This frame has no planes.
    pub fn properties(&self) -> &Frame {
        &self.kept
    }

    /// Copies it to the host.
    ///
    /// # Errors
    /// The driver's error.
    pub fn download(&self) -> Result<Frame, GpuError> {
        let mut planes = Frame::empty().map_err(GpuError::of)?;
        // SAFETY: both are valid; the second one is empty.
        AvError::check(unsafe { sys::bs_gpu_download(self.kept.as_raw(), planes.get()) }).map_err(GpuError::of)?;
        Ok(planes)
    }
}

/// The location of a picture that stays in the memory of a GPU.
fn device_planes(kept: &Frame) -> Result<DevicePlanes, AvError> {
    let mut raw = sys::BsGpuPicture {
        planes: [0; 3],
        context: 0,
        pitch: 0,
        plane_count: 0,
        width: 0,
        height: 0,
        bytes_per_sample: 0,
        bit_depth: 0,
        ordinal: 0,
        planar: -1,
    };
    // SAFETY: the frame is valid; the call checks its kind.
    AvError::check(unsafe { sys::bs_gpu_kept(kept.as_raw(), &mut raw) })?;
    let size = |value: i32| value.max(0) as usize;
    Ok(DevicePlanes {
        planes: raw.planes,
        plane_count: size(raw.plane_count),
        pitch: raw.pitch,
        width: size(raw.width),
        height: size(raw.height),
        bytes_per_sample: size(raw.bytes_per_sample),
        bit_depth: raw.bit_depth.max(0) as u32,
        ordinal: raw.ordinal.max(0) as u32,
        format: PixelFormat(raw.planar),
        context: raw.context,
    })
}

/// The colour of a picture's samples, for [`GpuEncoder::encode`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuColour {
    /// Weights of R' and B' in Y' (H.273, table 4).
    pub weights: (f32, f32),
    /// Full range.
    pub is_full_range: bool,
    /// `AVChromaLocation`.
    pub chroma_location: u32,
}

/// Makes JPEGs of pictures in a GPU's memory, on that GPU (nvJPEG, which is loaded with the first one).
#[derive(Debug)]
pub struct GpuEncoder {
    raw: NonNull<sys::BsGpuEncoder>,
}

// SAFETY: one thread at a time uses its state (`&mut self`), and each call enters and leaves its context.
unsafe impl Send for GpuEncoder {}

impl GpuEncoder {
    /// An encoder on the GPU that holds `picture`.
    ///
    /// # Errors
    /// No nvJPEG, or the driver's error.
    pub fn open(picture: &DevicePicture) -> Result<GpuEncoder, GpuError> {
        GpuError::forget();
        let mut raw = std::ptr::null_mut();
        // SAFETY: the frame is valid; it writes an encoder, or fails.
        AvError::check(unsafe { sys::bs_gpu_encoder_open(picture.kept.as_raw(), &mut raw) }).map_err(GpuError::of)?;
        Ok(GpuEncoder { raw: NonNull::new(raw).ok_or(AvError::NO_MEMORY).map_err(GpuError::of)? })
    }

    /// True if the picture is on this encoder's GPU.
    pub fn fits(&self, picture: &DevicePicture) -> bool {
        // SAFETY: both are valid.
        unsafe { sys::bs_gpu_encoder_fits(self.raw.as_ptr(), picture.kept.as_raw()) != 0 }
    }

    /// Encodes a whole 4:2:0 picture as JPEG in JFIF's colour into `out`. Quality is 1 to 100.
    ///
    /// # Errors
    /// The error of the driver or of nvJPEG.
    pub fn encode(
        &mut self,
        picture: &DevicePicture,
        colour: GpuColour,
        quality: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), GpuError> {
        let raw_colour = sys::BsGpuColour {
            kr: colour.weights.0,
            kb: colour.weights.1,
            is_full_range: i32::from(colour.is_full_range),
            chroma_location: colour.chroma_location as i32,
        };
        let (mut bytes, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: encoder and frame are valid; it writes the address and number of the bytes, or fails.
        let made = unsafe {
            let raw = self.raw.as_ptr();
            sys::bs_gpu_encode_jpeg(raw, picture.kept.as_raw(), &raw_colour, i32::from(quality), &mut bytes, &mut size)
        };
        AvError::check(made).map_err(GpuError::of)?;
        out.clear();
        // SAFETY: as many bytes as reported, which are ours to free, once.
        unsafe {
            out.extend_from_slice(std::slice::from_raw_parts(bytes, size));
            sys::av_free(bytes.cast());
        }
        Ok(())
    }
}

impl Drop for GpuEncoder {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: ours, freed once.
        unsafe { sys::bs_gpu_encoder_close(&mut raw) };
    }
}
