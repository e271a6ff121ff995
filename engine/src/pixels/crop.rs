//! Rectangles of pictures: in whole pixels of the shown picture ([`PixelRect`]), and in stored samples ([`Crop`]).

use std::str::FromStr;

/// A part of the picture as shown (turned, square pixels, before scaling), in pixels from its upper left corner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PixelRect {
    /// Left edge.
    pub left: u32,
    /// Upper edge.
    pub top: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl FromStr for PixelRect {
    type Err = String;

    /// Parses `640x480+10+20`: width, height, left, top. Left and top are 0 if missing.
    fn from_str(text: &str) -> Result<PixelRect, String> {
        let wrong =
            || format!("`{text}` is not a part of a picture: write WIDTHxHEIGHT+LEFT+TOP, such as 640x480+10+20");
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let mut places = text.split('+');
        let (width, height) = places.next().and_then(|size| size.split_once('x')).ok_or_else(wrong)?;
        let (left, top) = (places.next().unwrap_or("0"), places.next().unwrap_or("0"));
        let part = PixelRect { left: number(left)?, top: number(top)?, width: number(width)?, height: number(height)? };
        if part.width == 0 || part.height == 0 || places.next().is_some() {
            return Err(wrong());
        }
        Ok(part)
    }
}

impl std::fmt::Display for PixelRect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}+{}+{}", self.width, self.height, self.left, self.top)
    }
}

/// A rectangle of the source in luma samples; the left edge of the first sample is 0, its right edge 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Crop {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}
