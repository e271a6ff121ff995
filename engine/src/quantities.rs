//! Parses sizes, numbers of pixels and lists of frames, as written in options, settings and lists. Times are left to
//! [`time`](crate::time).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::damage::DEFAULT_MAX_PIXELS;

/// The limit of a list of frames: a longer list is taken for a typing error.
pub const MOST_FRAMES: usize = 10_000_000;

/// A number of pixels, written as `35651584` or `8192x4352`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelCount(pub u64);

impl Default for PixelCount {
    fn default() -> PixelCount {
        PixelCount(DEFAULT_MAX_PIXELS)
    }
}

impl std::fmt::Display for PixelCount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::str::FromStr for PixelCount {
    type Err = String;

    /// Accepts `35651584` and `8192x4352`.
    fn from_str(text: &str) -> Result<PixelCount, String> {
        let number = |digits: &str| digits.parse::<u64>().ok();
        let pixels = match text.split_once(['x', 'X']) {
            Some((width, height)) => {
                number(width).zip(number(height)).and_then(|(width, height)| width.checked_mul(height))
            }
            None => number(text),
        };
        let pixels = pixels.filter(|pixels| *pixels > 0);
        pixels.map(PixelCount).ok_or_else(|| format!("{text:?} is neither a number of pixels nor WIDTHxHEIGHT"))
    }
}

impl<'de> Deserialize<'de> for PixelCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PixelCount, D::Error> {
        /// A settings file may have a number or a text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

/// A number of bytes, written as `1048576`, `512M` or `1.5G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemorySize, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl std::str::FromStr for MemorySize {
    type Err = String;

    /// Accepts `1048576`, `512M`, `1.5G`, `512MiB`: units are powers of 1024.
    fn from_str(text: &str) -> Result<MemorySize, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            unit => return Err(format!("{unit:?} is not a unit of memory: K, M, G or T")),
        };
        let number: f64 = digits.parse().map_err(|_| format!("{digits:?} is not a number"))?;
        let bytes = number * f64::from(1_u32 << (shift % 30)) * if shift >= 30 { f64::from(1 << 30) } else { 1.0 };
        if !(0.0..=1e15).contains(&bytes) {
            return Err(format!("{text} of memory is out of range"));
        }
        Ok(MemorySize(bytes as u64))
    }
}

/// Frame numbers and ranges (both ends included), in the order of the text: `0,10,20-30`.
///
/// # Errors
/// A message of one line, if a part is not a number or range, or there are more than [`MOST_FRAMES`] frames.
pub fn frame_list(list: &str) -> Result<Vec<u32>, String> {
    let mut frames = Vec::new();
    for part in list.split(',').map(str::trim) {
        let fail = || format!("`{part}` is not a frame number or range: write for example 0,10,20-30");
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| fail());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("the range {part} runs backwards"));
        }
        if frames.len() + (last - first) as usize >= MOST_FRAMES {
            return Err(format!("more than {MOST_FRAMES} frames in one list"));
        }
        frames.extend(first..=last);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::{MemorySize, PixelCount, frame_list};

    #[test]
    fn memory_sizes_with_and_without_units() {
        let bytes = |text: &str| text.parse::<MemorySize>().map(|size| size.0);
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(bytes("2t"), Ok(2 << 40));
        assert!(bytes("M").is_err() && bytes("12parsec").is_err() && bytes("-1").is_err() && bytes("9e99").is_err());
    }

    #[test]
    fn pixels_as_a_number_and_as_width_and_height() {
        let pixels = |text: &str| text.parse::<PixelCount>().map(|count| count.0);
        assert_eq!(pixels("35651584"), Ok(35_651_584));
        assert_eq!(pixels("8192x4352"), Ok(crate::DEFAULT_MAX_PIXELS));
        assert_eq!(PixelCount::default().to_string().parse(), Ok(PixelCount::default()));
        for wrong in ["", "0", "-1", "8K", "0x4352", "8192x", "x", "1x2x3", "4294967296x4294967296", "1.5"] {
            assert!(pixels(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_keep_their_order_and_their_duplicates() {
        assert_eq!(frame_list("5,0-2, 5,7-7"), Ok(vec![5, 0, 1, 2, 5, 7]));
        for wrong in ["", "a", "1,", "-1", "3-1", "1-2-3", "0-99999999", "4294967296"] {
            assert!(frame_list(wrong).is_err(), "{wrong}");
        }
    }
}
