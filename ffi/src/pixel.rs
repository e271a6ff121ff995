//! Pixel formats, as FFmpeg describes them. Conversions are left to the engine.

use crate::{static_name, sys};

/// An `AVPixelFormat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PixelFormat(pub(crate) i32);

/// The layout of one plane of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    /// The plane has `ceil(width / 2^shift)` columns.
    pub log2_width: u8,
    /// The plane has `ceil(height / 2^shift)` rows.
    pub log2_height: u8,
    /// Bytes from one column to the next.
    pub bytes_per_column: usize,
}

impl PixelFormat {
    fn descriptor(self) -> Option<&'static sys::AVPixFmtDescriptor> {
        // SAFETY: any number is allowed; the result is null or a constant.
        unsafe { sys::av_pix_fmt_desc_get(self.0).as_ref() }
    }

    /// FFmpeg's name, such as `yuv420p10le`.
    pub fn name(self) -> &'static str {
        // SAFETY: any number is allowed; names are constants.
        unsafe { static_name(sys::av_get_pix_fmt_name(self.0)) }.unwrap_or("unknown")
    }

    /// Significant bits of the first component.
    pub fn depth(self) -> u8 {
        self.descriptor().map_or(0, |descriptor| descriptor.comp[0].depth as u8)
    }

    /// `(log2_chroma_w, log2_chroma_h)`.
    pub fn chroma_shift(self) -> (u8, u8) {
        self.descriptor().map_or((0, 0), |descriptor| (descriptor.log2_chroma_w, descriptor.log2_chroma_h))
    }

    /// Number of components: 1 for gray, 3 for YCbCr or RGB, one more with alpha.
    pub fn components(self) -> u8 {
        self.descriptor().map_or(0, |descriptor| descriptor.nb_components)
    }

    fn has(self, flag: u32) -> bool {
        self.descriptor().is_some_and(|descriptor| descriptor.flags & u64::from(flag) != 0)
    }

    /// True for R'G'B' (in H.265: matrix coefficients 0): its planes are not luma and chroma.
    pub fn is_rgb(self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_RGB)
    }

    /// True if every component has a plane of its own (or there is only one).
    pub fn is_planar(self) -> bool {
        self.components() == 1 || self.planes().len() == usize::from(self.components())
    }

    /// The planes in order; empty for hardware formats, which have none in host memory.
    pub fn planes(self) -> Vec<PlaneLayout> {
        let Some(descriptor) = self.descriptor() else { return Vec::new() };
        if self.has(sys::AV_PIX_FMT_FLAG_HWACCEL) {
            return Vec::new();
        }
        let components = &descriptor.comp[..usize::from(descriptor.nb_components).min(4)];
        let planes = components.iter().map(|component| component.plane as usize + 1).max().unwrap_or(0);
        let plane = |plane: usize| {
            // As in av_image_get_linesize: the chroma shift applies to components 1 and 2.
            let (index, widest) = components
                .iter()
                .enumerate()
                .filter(|(_, component)| component.plane as usize == plane)
                .max_by_key(|(_, component)| component.step)?;
            let chroma = matches!(index, 1 | 2);
            let shift = |log2: u8| if chroma { log2 } else { 0 };
            Some(PlaneLayout {
                log2_width: shift(descriptor.log2_chroma_w),
                log2_height: shift(descriptor.log2_chroma_h),
                bytes_per_column: widest.step as usize,
            })
        };
        (0..planes).filter_map(plane).collect()
    }
}
