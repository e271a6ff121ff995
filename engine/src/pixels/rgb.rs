//! Converts JFIF's planes to R'G'B', for formats that store that.
//!
//! The result is that of a JPEG of the planes (BT.601, full range), but with chroma located as the planes say, which a
//! JPEG cannot express. Chroma is interpolated linearly, without rounding in between. Grey stays one channel.

use super::planes::JfifPlanes;

/// Fraction bits of interpolated chroma: a quarter horizontally, a quarter vertically.
const FRACTION: i32 = 4;
/// The factor from interpolated chroma, less its middle, to a channel, times 2^(16 - [`FRACTION`]).
const fn factor(value: f64) -> i32 {
    (value * (1 << (16 - FRACTION)) as f64 + 0.5) as i32
}
const RED_OF_CR: i32 = factor(1.402);
const GREEN_OF_CB: i32 = factor(0.344_136_286);
const GREEN_OF_CR: i32 = factor(0.714_136_286);
const BLUE_OF_CB: i32 = factor(1.772);

/// Converts pictures to R'G'B'. Keep it: it reuses its buffers.
#[derive(Debug, Default)]
pub struct RgbConverter {
    blended: Vec<i16>,
    cb: Vec<i16>,
    cr: Vec<i16>,
}

impl RgbConverter {
    /// Fills `out` with the picture row after row without gaps: one byte per pixel with one plane, otherwise three.
    /// Within 1 of exact arithmetic. The planes must fit together, as those of this crate do.
    pub fn convert(&mut self, planes: &JfifPlanes, out: &mut Vec<u8>) {
        let channels = if planes.planes.len() == 1 { 1 } else { 3 };
        out.resize(planes.width * planes.height * channels, 0);
        for (y, row) in out.chunks_exact_mut(planes.width * channels).enumerate() {
            let luma = planes.planes[0].row(y);
            if channels == 1 {
                row.copy_from_slice(luma);
            } else {
                self.chroma(planes, 1, y);
                std::mem::swap(&mut self.cb, &mut self.cr);
                self.chroma(planes, 2, y);
                mix(luma, &self.cb, &self.cr, row);
            }
        }
    }

    /// Fills `cr`, for either chroma plane, with the chroma of a luma row, less its middle, with [`FRACTION`] bits.
    fn chroma(&mut self, planes: &JfifPlanes, plane: usize, y: usize) {
        let plane = &planes.planes[plane];
        let [(near, part), (next, rest)] = planes.siting.rows_for(y, planes.log2_chroma_h, plane.height);
        self.blended.clear();
        let pairs = plane.row(near).iter().zip(plane.row(next));
        self.blended.extend(pairs.map(|(near, next)| part * i16::from(*near) + rest * i16::from(*next) - 512));
        self.cr.resize(planes.width, 0);
        if planes.log2_chroma_w == 0 {
            self.cr.iter_mut().zip(&self.blended).for_each(|(out, sample)| *out = 4 * sample);
        } else {
            spread(&self.blended, planes.siting.is_centred, &mut self.cr);
        }
    }
}

/// Doubles the samples by interpolation: centred samples lie in the middle of a pair, others on its first sample.
fn spread(from: &[i16], is_centred: bool, to: &mut [i16]) {
    let last = from.len() - 1;
    let [before, after] = [from[0], from[last]];
    let left = std::iter::once(before).chain(from.iter().copied());
    let right = from[1..].iter().copied().chain(std::iter::once(after));
    for (((pair, &near), left), right) in to.chunks_mut(2).zip(from).zip(left).zip(right) {
        pair[0] = if is_centred { 3 * near + left } else { 4 * near };
        if let Some(second) = pair.get_mut(1) {
            *second = if is_centred { 3 * near + right } else { 2 * (near + right) };
        }
    }
}

fn mix(luma: &[u8], cb: &[i16], cr: &[i16], row: &mut [u8]) {
    for (((pixel, luma), cb), cr) in row.as_chunks_mut::<3>().0.iter_mut().zip(luma).zip(cb).zip(cr) {
        let luma = (i32::from(*luma) << 16) + (1 << 15);
        let (cb, cr) = (i32::from(*cb), i32::from(*cr));
        let channels = [luma + RED_OF_CR * cr, luma - GREEN_OF_CB * cb - GREEN_OF_CR * cr, luma + BLUE_OF_CB * cb];
        *pixel = channels.map(|channel| (channel >> 16).clamp(0, 255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::super::siting::Siting;
    use super::super::testing::planes;
    use super::*;

    const SUBSAMPLINGS: [Option<(u8, u8)>; 5] = [Some((1, 1)), Some((1, 0)), Some((0, 1)), Some((0, 0)), None];

    fn converted(planes: &JfifPlanes) -> Vec<u8> {
        let mut out = vec![77; 5];
        RgbConverter::default().convert(planes, &mut out);
        out
    }

    #[test]
    fn flat_colours_are_exact_within_one() {
        for subsampling in SUBSAMPLINGS {
            for [y, cb, cr] in
                [[0, 128, 128], [255, 128, 128], [76, 85, 255], [150, 44, 21], [29, 255, 107], [99, 3, 240]]
            {
                let picture = planes((5, 3), subsampling, |plane, _, _| [y, cb, cr][plane]);
                let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
                let exact =
                    [y + 1.402 * cr, y - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr, y + 1.772 * cb];
                let out = converted(&picture);
                if subsampling.is_none() {
                    assert!(out.len() == 15 && out.iter().all(|&v| f64::from(v) == y));
                    continue;
                }
                assert_eq!(out.len(), 45);
                for (found, exact) in out.chunks(3).flat_map(|pixel| pixel.iter().zip(exact)) {
                    assert!((f64::from(*found) - exact.clamp(0.0, 255.0)).abs() < 1.0, "{found} {exact}");
                }
            }
        }
    }

    #[test]
    fn chroma_is_interpolated_from_where_it_lies() {
        // Cr rises along a row, Cb down a column; luma is constant.
        for (width, height) in [(1, 1), (2, 3), (3, 5), (16, 1), (33, 21)] {
            for (subsampling, location) in SUBSAMPLINGS.into_iter().flatten().flat_map(|s| (1..=6).map(move |l| (s, l)))
            {
                let mut picture = planes((width, height), Some(subsampling), |plane, x, y| match plane {
                    0 => 128,
                    1 => (100 + 2 * y) as u8,
                    _ => (100 + 2 * x) as u8,
                });
                picture.siting = Siting::from_location(location);
                // H.273 8.7: left, centre, top left, top, bottom left, bottom.
                let across = if location % 2 == 1 { 0.0 } else { 0.5 };
                let down = [0.5, 0.0, 1.0][(location as usize - 1) / 2];
                let at = |place: usize, length: usize, log2: u8, offset: f64| {
                    let place = if log2 == 0 { place as f64 } else { (place as f64 - offset) / 2.0 };
                    place.clamp(0.0, (length - 1) as f64)
                };
                for (index, pixel) in converted(&picture).chunks(3).enumerate() {
                    let (x, y) = (index % width, index / width);
                    let cr = -28.0 + 2.0 * at(x, picture.planes[2].width, subsampling.0, across);
                    let cb = -28.0 + 2.0 * at(y, picture.planes[1].height, subsampling.1, down);
                    let is_near = |channel: usize, exact: f64| (f64::from(pixel[channel]) - exact).abs() < 1.0;
                    let is_right = is_near(0, 128.0 + 1.402 * cr) && is_near(2, 128.0 + 1.772 * cb);
                    assert!(is_right, "{width}x{height} {subsampling:?} {location}");
                }
            }
        }
    }
}
