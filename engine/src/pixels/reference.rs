//! A reference for tests: colour by the formulas of the standards, in `f64`, by way of R'G'B' at every luma place. It
//! shares no code with the implementation.

use super::matrix::{ColourRange, Matrix, YcbcrView};
use super::planes::{JfifPlanes, PlaneView};
use super::siting::Siting;

/// The kind of a test picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) size: (usize, usize),
    pub(super) depth: u8,
    /// Columns and rows of luma per chroma sample, 1 or 2 each; `None` for gray pictures.
    pub(super) block: Option<(usize, usize)>,
    pub(super) is_full: bool,
    /// Kr and Kb; `None` for G', B', R'.
    pub(super) weights: Option<(f64, f64)>,
    /// `AVChromaLocation`.
    pub(super) location: u32,
}

/// H.273 table 4, with the engine's names.
pub(super) const MATRICES: [(Matrix, (f64, f64)); 5] = [
    (Matrix::Bt601, (0.299, 0.114)),
    (Matrix::Bt709, (0.2126, 0.0722)),
    (Matrix::Bt2020, (0.2627, 0.0593)),
    (Matrix::Fcc, (0.30, 0.11)),
    (Matrix::Smpte240m, (0.212, 0.087)),
];

impl Kind {
    /// Columns and rows of a plane.
    fn plane(&self, plane: usize) -> (usize, usize) {
        let (across, down) = if plane == 0 { (1, 1) } else { self.block.unwrap_or((1, 1)) };
        (self.size.0.div_ceil(across), self.size.1.div_ceil(down))
    }

    fn is_luma_like(&self, plane: usize) -> bool {
        plane == 0 || self.weights.is_none()
    }

    /// The inverse of H.273 equations 20 to 31.
    fn value(&self, plane: usize, code: f64) -> f64 {
        let steps = f64::from(1u32 << (self.depth - 8));
        let full = f64::from((1u32 << self.depth) - 1);
        match (self.is_luma_like(plane), self.is_full) {
            (true, false) => (code / steps - 16.0) / 219.0,
            (true, true) => code / full,
            (false, false) => (code / steps - 128.0) / 224.0,
            (false, true) => (code - 128.0 * steps) / full,
        }
    }

    /// H.273 equations 20 to 31.
    fn code(&self, plane: usize, value: f64) -> u16 {
        let steps = f64::from(1u32 << (self.depth - 8));
        let full = f64::from((1u32 << self.depth) - 1);
        let code = match (self.is_luma_like(plane), self.is_full) {
            (true, false) => (value * 219.0 + 16.0) * steps,
            (true, true) => value * full,
            (false, false) => (value * 224.0 + 128.0) * steps,
            (false, true) => value * full + 128.0 * steps,
        };
        code.round().clamp(0.0, full) as u16
    }

    fn components(&self, [red, green, blue]: [f64; 3]) -> [f64; 3] {
        let Some((kr, kb)) = self.weights else { return [green, blue, red] };
        let luma = kr * red + (1.0 - kr - kb) * green + kb * blue;
        [luma, (blue - luma) / (2.0 - 2.0 * kb), (red - luma) / (2.0 - 2.0 * kr)]
    }

    fn rgb(&self, [first, second, third]: [f64; 3]) -> [f64; 3] {
        let Some((kr, kb)) = self.weights else { return [third, first, second] };
        let red = first + (2.0 - 2.0 * kr) * third;
        let blue = first + (2.0 - 2.0 * kb) * second;
        [red, (first - kr * red - kb * blue) / (1.0 - kr - kb), blue]
    }
}

/// A picture in memory.
pub(super) struct Picture {
    pub(super) kind: Kind,
    codes: Vec<Vec<u16>>,
    bytes: Vec<Vec<u8>>,
}

impl Picture {
    /// Made from R'G'B' at luma places; a chroma sample is taken at the upper left of its block.
    pub(super) fn new(kind: Kind, rgb: impl Fn(usize, usize) -> [f64; 3]) -> Picture {
        let count = if kind.block.is_some() { 3 } else { 1 };
        let (mut codes, mut bytes) = (vec![], vec![]);
        for plane in 0..count {
            let ((width, height), (across, down)) = (kind.plane(plane), kind.block.unwrap_or((1, 1)));
            let (across, down) = if plane == 0 { (1, 1) } else { (across, down) };
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (x * across, y * down)));
            let row: Vec<u16> = places.map(|(x, y)| kind.code(plane, kind.components(rgb(x, y))[plane])).collect();
            bytes.push(match kind.depth {
                8 => row.iter().map(|&code| code as u8).collect(),
                _ => row.iter().flat_map(|code| code.to_le_bytes()).collect(),
            });
            codes.push(row);
        }
        Picture { kind, codes, bytes }
    }

    /// Calls `work` with the engine's view of the picture.
    pub(super) fn view<T>(&self, matrix: Matrix, work: impl FnOnce(&YcbcrView<'_>) -> T) -> T {
        let views: Vec<_> = self.bytes.iter().enumerate().map(|(plane, data)| self.plane_view(plane, data)).collect();
        let (across, down) = self.kind.block.unwrap_or((1, 1));
        work(&YcbcrView {
            planes: &views,
            depth: self.kind.depth,
            log2_chroma_w: across as u8 - 1,
            log2_chroma_h: down as u8 - 1,
            matrix,
            range: if self.kind.is_full { ColourRange::Full } else { ColourRange::Limited },
            siting: Siting::from_location(self.kind.location),
        })
    }

    fn plane_view<'a>(&self, plane: usize, data: &'a [u8]) -> PlaneView<'a> {
        let (width, height) = self.kind.plane(plane);
        PlaneView { data, stride: width * if self.kind.depth == 8 { 1 } else { 2 }, width, height }
    }

    fn code_at(&self, plane: usize, x: f64, y: f64) -> f64 {
        let (width, height) = self.kind.plane(plane);
        let inside = |place: f64, length: usize| place.clamp(0.0, length as f64 - 1.0) as usize;
        f64::from(self.codes[plane][inside(y, height) * width + inside(x, width)])
    }

    /// A plane's code at a luma place: bilinear between the samples around it, located as in H.273 figure 1.
    fn code_between(&self, plane: usize, x: usize, y: usize) -> f64 {
        if plane == 0 {
            return self.code_at(0, x as f64, y as f64);
        }
        let (across, down) = self.kind.block.unwrap_or((1, 1));
        let offset_x = if matches!(self.kind.location, 2 | 4 | 6) { 0.5 } else { 0.0 };
        let offset_y = match self.kind.location {
            3 | 4 => 0.0,
            5 | 6 => 1.0,
            _ => 0.5,
        };
        let x = if across == 2 { (x as f64 - offset_x) / 2.0 } else { x as f64 };
        let y = if down == 2 { (y as f64 - offset_y) / 2.0 } else { y as f64 };
        let mix = |part: f64, a: f64, b: f64| a + part * (b - a);
        let row = |y| mix(x - x.floor(), self.code_at(plane, x.floor(), y), self.code_at(plane, x.floor() + 1.0, y));
        mix(y - y.floor(), row(y.floor()), row(y.floor() + 1.0))
    }

    /// The stream's R'G'B' at a luma place.
    pub(super) fn rgb_at(&self, x: usize, y: usize) -> [f64; 3] {
        let value = |plane| self.kind.value(plane, self.code_between(plane, x, y));
        if self.kind.block.is_none() { [value(0); 3] } else { self.kind.rgb([value(0), value(1), value(2)]) }
    }

    /// Absolute differences between the colours of a JPEG's reader and `expected` of the stream's R'G'B', in 1/255: the
    /// mean and the largest. The reader places the file's chroma as in the stream.
    pub(super) fn errors(&self, jfif: &JfifPlanes, expected: impl Fn([f64; 3]) -> [f64; 3]) -> (f64, f64) {
        let codes = jfif
            .planes
            .iter()
            .map(|plane| (0..plane.height).flat_map(|y| plane.row(y)).map(|&code| u16::from(code)).collect::<Vec<_>>());
        let weights = Some((0.299, 0.114));
        let kind = Kind { depth: 8, is_full: true, weights, ..self.kind };
        let still = Picture { kind, codes: codes.collect(), bytes: vec![] };
        let (mut sum, mut most, mut count) = (0.0, 0.0_f64, 0.0);
        for (x, y) in (0..kind.size.1).flat_map(|y| (0..kind.size.0).map(move |x| (x, y))) {
            let pairs = still.rgb_at(x, y).into_iter().zip(expected(self.rgb_at(x, y)));
            for (seen, expected) in pairs {
                let error = (seen.clamp(0.0, 1.0) - expected.clamp(0.0, 1.0)).abs() * 255.0;
                (sum, most, count) = (sum + error, most.max(error), count + 1.0);
            }
        }
        (sum / count, most)
    }
}

/// Eight colour bars at 100, 75 and 40 per cent, one below the other, as R'G'B'.
pub(super) fn bars((width, height): (usize, usize)) -> impl Fn(usize, usize) -> [f64; 3] {
    move |x, y| {
        let bar = 7 - x * 8 / width;
        let level = [1.0, 0.75, 0.4][y * 3 / height];
        [bar & 2, bar & 4, bar & 1].map(|bit| if bit > 0 { level } else { 0.0 })
    }
}

/// Hues horizontally, greys to colours vertically, at a varying brightness: no edges.
pub(super) fn waves((width, height): (usize, usize)) -> impl Fn(usize, usize) -> [f64; 3] {
    move |x, y| {
        let (across, down) = (x as f64 / width as f64, y as f64 / height as f64);
        let level = 0.45 + 0.4 * (across * 9.0).sin() * (down * 5.0).cos();
        [0.0, 1.0, 2.0].map(|third| {
            let hue = (std::f64::consts::TAU * (across * 2.0 + third / 3.0)).cos();
            (level * (1.0 + 0.6 * down * hue)).clamp(0.0, 1.0)
        })
    }
}

/// The colours of HDR and wide gamut on an SDR display.
pub(super) mod display {
    /// BT.2100 table 4, EOTF, in cd/m².
    fn pq(value: f64) -> f64 {
        let (m1, m2, c1, c2, c3) = (0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875);
        let root = value.powf(1.0 / m2);
        10000.0 * ((root - c1).max(0.0) / (c2 - c3 * root)).powf(1.0 / m1)
    }

    fn pq_back(light: f64) -> f64 {
        let (m1, m2, c1, c2, c3) = (0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875);
        let root = (light / 10000.0).powf(m1);
        ((c1 + c2 * root) / (1.0 + c3 * root)).powf(m2)
    }

    /// BT.2100 table 5, EOTF for 1000 cd/m² and black at 0.
    fn hlg(rgb: [f64; 3]) -> [f64; 3] {
        let a = 0.17883277_f64;
        let (b, c) = (1.0 - 4.0 * a, 0.5 - a * (4.0 * a).ln());
        let scene = rgb.map(|e| if e <= 0.5 { e.powi(2) / 3.0 } else { (b + ((e - c) / a).exp()) / 12.0 });
        let luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2];
        scene.map(|e| 1000.0 * luminance.powf(1.2 - 1.0) * e)
    }

    /// BT.2390-10 5.4.1, steps 1 to 4, for black at 0 and a target of 203 cd/m².
    fn bt2390(light: f64, peak: f64) -> f64 {
        let e1 = (pq_back(light) / pq_back(peak)).min(1.0);
        let max_lum = pq_back(203.0) / pq_back(peak);
        let ks = 1.5 * max_lum - 0.5;
        let e2 = if e1 < ks || ks >= 1.0 {
            e1
        } else {
            let t = (e1 - ks) / (1.0 - ks);
            (2.0 * t.powi(3) - 3.0 * t.powi(2) + 1.0) * ks
                + (t.powi(3) - 2.0 * t.powi(2) + t) * (1.0 - ks)
                + (-2.0 * t.powi(3) + 3.0 * t.powi(2)) * max_lum
        };
        pq(e2 * pq_back(peak))
    }

    /// BT.2407-0 (annex 2): BT.2020's primaries to BT.709's.
    fn bt709([r, g, b]: [f64; 3]) -> [f64; 3] {
        [
            1.660491 * r - 0.587641 * g - 0.072850 * b,
            -0.124550 * r + 1.132900 * g - 0.008349 * b,
            -0.018151 * r - 0.100579 * g + 1.118730 * b,
        ]
    }

    fn sdr(light: [f64; 3]) -> [f64; 3] {
        let curve = |v: f64| if v < 0.0031308 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        bt709(light).map(|value| curve(value.clamp(0.0, 1.0)))
    }

    fn mapped(light: [f64; 3], peak: f64) -> [f64; 3] {
        let most = light[0].max(light[1]).max(light[2]).max(1e-9);
        sdr(light.map(|value| value * bt2390(most, peak) / most / 203.0))
    }

    pub(in super::super) fn of_pq(rgb: [f64; 3], peak: f64) -> [f64; 3] {
        mapped(rgb.map(|value| pq(value.clamp(0.0, 1.0))), peak)
    }

    pub(in super::super) fn of_hlg(rgb: [f64; 3]) -> [f64; 3] {
        mapped(hlg(rgb.map(|value| value.clamp(0.0, 1.0))), 1000.0)
    }

    pub(in super::super) fn of_wide_gamut(rgb: [f64; 3]) -> [f64; 3] {
        let curve = |v: f64| if v < 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
        sdr(rgb.map(|value| curve(value.clamp(0.0, 1.0))))
    }
}
