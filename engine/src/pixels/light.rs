//! Converts R'G'B' of a stream to the R'G'B' of a still, by way of the light that a display would emit.
//!
//! Viewers display a still as sRGB: BT.709's primaries and the curve of IEC 61966-2-1. Two kinds of stream differ:
//!
//! - *Wide gamut*: SDR with BT.2020's or P3's primaries. The primaries are changed in linear light, with sRGB's curve
//!   on both sides: greys keep their values.
//! - *HDR*: PQ (BT.2100 table 4) and HLG (table 5, with the OOTF for a display of 1000 cd/m²) become light in cd/m².
//!   The largest of R, G and B goes through the EETF of BT.2390-10 (section 5.4.1), and the other two are scaled with
//!   it, which keeps hues. The EETF's target is a display of 203 cd/m², HDR's reference white (BT.2408-7, section 2.1):
//!   dark parts keep their light relative to that white, bright parts are compressed. Then the primaries become
//!   BT.709's.
//!
//! Colours outside of BT.709 are below 0 or above 1 ([`DisplayTransform::apply`]); clipping is left to the caller.
//!
//! All of it is exact to a hundredth of an 8-bit step, and too slow for every pixel: `table` calls it once per node.

/// Light of the brightest SDR white and of HDR's reference white, in cd/m² (BT.2408-7).
pub(super) const SDR_WHITE: f64 = 203.0;

/// The peak of an HDR stream without metadata, and of the reference display of HLG, in cd/m².
pub(super) const USUAL_PEAK: u32 = 1000;

/// The transfer function of R'G'B'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Curve {
    /// An SDR curve: treated as the still's own.
    Sdr,
    /// SMPTE ST 2084, with the peak of the stream in cd/m².
    Pq {
        /// The brightest light of the stream.
        peak: u32,
    },
    /// ARIB STD-B67.
    Hlg,
}

type Vector = [f64; 3];
type Square = [[f64; 3]; 3];

/// The conversion from a stream's R'G'B' to the still's.
#[derive(Clone, Debug)]
pub(super) struct DisplayTransform {
    curve: Curve,
    /// Light for values from 0 to 1: display light in cd/m² for PQ, otherwise relative.
    light: SampledFunction,
    /// HLG's OOTF: the gain in cd/m² for the square root of the scene's luminance.
    ootf: SampledFunction,
    /// The EETF: the factor from light in cd/m² to parts of SDR's white, by the largest of R, G and B: its value in PQ,
    /// and in HLG the square root of its light as a part of the peak.
    eetf: SampledFunction,
    /// The still's R', G' and B' for the square root of light.
    shown: SampledFunction,
    /// Matrix from the stream's linear R, G and B to BT.709's.
    to_bt709: Square,
    /// The weights of R, G and B in luminance.
    luminance: Vector,
}

impl DisplayTransform {
    /// `None` for primaries (H.273 table 2) that are not three colours of light.
    pub(super) fn new(primaries: u32, curve: Curve) -> Option<DisplayTransform> {
        let xyz = to_xyz(primaries)?;
        let to_bt709 = product(&inverse(&to_xyz(1)?), &xyz);
        let (to_light, peak): (fn(f64) -> f64, _) = match curve {
            Curve::Sdr => (srgb_to_light, USUAL_PEAK),
            Curve::Pq { peak } => (pq_to_light, peak),
            Curve::Hlg => (hlg_to_scene, USUAL_PEAK),
        };
        let light = SampledFunction::new(4096, 1.0, to_light);
        let eetf = Eetf::new(f64::from(peak));
        let eetf = SampledFunction::new(2048, 1.0, |place| match curve {
            Curve::Hlg => eetf.factor(f64::from(USUAL_PEAK) * place * place),
            _ => eetf.factor(to_light(place)),
        });
        // HLG's displayed light has the range of its scene: 1 becomes the peak.
        let ootf = SampledFunction::new(2048, 1.0, |root| f64::from(USUAL_PEAK) * root.powf(0.4));
        // Most of BT.2020's red is 1.66 in BT.709.
        let shown = SampledFunction::new(2048, 1.5, |root| light_to_srgb(root * root));
        Some(DisplayTransform { curve, light, ootf, eetf, shown, to_bt709, luminance: xyz[1] })
    }

    /// The still's R'G'B'; colours that it cannot show are outside of 0..=1.
    pub(super) fn apply(&self, rgb: Vector) -> Vector {
        let rgb = rgb.map(|value| value.clamp(0.0, 1.0));
        let light = rgb.map(|value| self.light.at(value));
        let light = match self.curve {
            Curve::Sdr => light,
            Curve::Pq { .. } => {
                let factor = self.eetf.at(largest(rgb));
                light.map(|value| value * factor)
            }
            Curve::Hlg => {
                let light = self.displayed(light);
                let factor = self.eetf.at((largest(light) / f64::from(USUAL_PEAK)).sqrt());
                light.map(|value| value * factor)
            }
        };
        times(&self.to_bt709, light).map(|light| self.shown.at(light.abs().sqrt()).copysign(light))
    }

    /// BT.2100 table 5: the OOTF of HLG, with a gamma of 1.2 for 1000 cd/m².
    fn displayed(&self, scene: Vector) -> Vector {
        let luminance: f64 = scene.iter().zip(self.luminance).map(|(value, weight)| value * weight).sum();
        let gain = self.ootf.at(luminance.sqrt());
        scene.map(|value| gain * value)
    }
}

fn largest(rgb: Vector) -> f64 {
    rgb.into_iter().fold(0.0, f64::max)
}

/// A function of 0 to a limit that is known at evenly spaced places, linear between them, and constant above: PQ's
/// light, the most curved one, is off by 0.000003.
#[derive(Clone, Debug)]
struct SampledFunction {
    values: Vec<f64>,
    /// Steps for one unit of the argument.
    density: f64,
}

impl SampledFunction {
    fn new(steps: usize, most: f64, function: impl Fn(f64) -> f64) -> SampledFunction {
        let density = steps as f64 / most;
        SampledFunction { values: (0..=steps).map(|step| function(step as f64 / density)).collect(), density }
    }

    /// The value for an argument that is not negative.
    fn at(&self, argument: f64) -> f64 {
        let place = argument * self.density;
        // By way of i32, for which there is an instruction.
        let step = (place as i32 as usize).min(self.values.len() - 2);
        let [low, high] = [self.values[step], self.values[step + 1]];
        low + (place - step as f64).min(1.0) * (high - low)
    }
}

/// The curve of IEC 61966-2-1, for values in 0..=1.
fn srgb_to_light(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Its inverse; negative values are mirrored.
fn light_to_srgb(light: f64) -> f64 {
    let size = light.abs();
    let value = if size <= 0.0031308 { size * 12.92 } else { 1.055 * size.powf(1.0 / 2.4) - 0.055 };
    value.copysign(light)
}

/// BT.2100 table 5: the inverse of HLG's OETF.
fn hlg_to_scene(value: f64) -> f64 {
    const A: f64 = 0.17883277;
    const B: f64 = 0.28466892;
    const C: f64 = 0.55991073;
    if value <= 0.5 { value * value / 3.0 } else { (((value - C) / A).exp() + B) / 12.0 }
}

const M1: f64 = 2610.0 / 16384.0;
const M2: f64 = 2523.0 / 4096.0 * 128.0;
const C1: f64 = 3424.0 / 4096.0;
const C2: f64 = 2413.0 / 4096.0 * 32.0;
const C3: f64 = 2392.0 / 4096.0 * 32.0;

/// Light in cd/m² of a PQ value in 0..=1.
fn pq_to_light(value: f64) -> f64 {
    let power = value.powf(1.0 / M2);
    10000.0 * ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1)
}

/// The PQ value of 0 to 10000 cd/m².
fn light_to_pq(light: f64) -> f64 {
    let power = (light / 10000.0).powf(M1);
    ((C1 + C2 * power) / (1.0 + C3 * power)).powf(M2)
}

/// BT.2390-10, section 5.4.1, with black at zero on both sides: light below the knee stays; above it a Hermite spline
/// in PQ values maps the stream's peak to [`SDR_WHITE`].
#[derive(Clone, Debug)]
struct Eetf {
    /// PQ value of the stream's peak.
    white: f64,
    /// PQ value of [`SDR_WHITE`], as a part of `white`.
    most: f64,
    /// Where the spline begins, as a part of `white`.
    knee: f64,
}

impl Eetf {
    /// The EETF of a stream with this peak in cd/m².
    fn new(peak: f64) -> Eetf {
        let white = light_to_pq(peak.max(SDR_WHITE));
        let most = light_to_pq(SDR_WHITE) / white;
        Eetf { white, most, knee: 1.5 * most - 0.5 }
    }

    /// The factor from R, G and B in cd/m² to parts of SDR's white, at most 1 each, if this is the largest of them.
    fn factor(&self, light: f64) -> f64 {
        if light > 0.0 { self.of(light) / light / SDR_WHITE } else { 1.0 / SDR_WHITE }
    }

    fn of(&self, light: f64) -> f64 {
        let value = light_to_pq(light) / self.white;
        if value < self.knee {
            return light;
        }
        if value >= 1.0 {
            return SDR_WHITE;
        }
        let t = (value - self.knee) / (1.0 - self.knee);
        let (t2, t3) = (t * t, t * t * t);
        let bent = (2.0 * t3 - 3.0 * t2 + 1.0) * self.knee
            + (t3 - 2.0 * t2 + t) * (1.0 - self.knee)
            + (-2.0 * t3 + 3.0 * t2) * self.most;
        pq_to_light(bent * self.white)
    }
}

/// CIE 1931 x and y of red, green, blue and white.
fn chromaticities(primaries: u32) -> Option<[[f64; 2]; 4]> {
    const D65: [f64; 2] = [0.3127, 0.3290];
    const C: [f64; 2] = [0.310, 0.316];
    Some(match primaries {
        1 => [[0.640, 0.330], [0.300, 0.600], [0.150, 0.060], D65],
        4 => [[0.67, 0.33], [0.21, 0.71], [0.14, 0.08], C],
        5 => [[0.64, 0.33], [0.29, 0.60], [0.15, 0.06], D65],
        6 | 7 => [[0.630, 0.340], [0.310, 0.595], [0.155, 0.070], D65],
        8 => [[0.681, 0.319], [0.243, 0.692], [0.145, 0.049], C],
        9 => [[0.708, 0.292], [0.170, 0.797], [0.131, 0.046], D65],
        11 => [[0.680, 0.320], [0.265, 0.690], [0.150, 0.060], [0.314, 0.351]],
        12 => [[0.680, 0.320], [0.265, 0.690], [0.150, 0.060], D65],
        22 => [[0.630, 0.340], [0.295, 0.605], [0.155, 0.077], D65],
        _ => return None,
    })
}

/// Matrix from linear R, G and B to CIE XYZ under D65; other whites are adapted by Bradford's method, as in ICC
/// profiles.
fn to_xyz(primaries: u32) -> Option<Square> {
    const BRADFORD: Square = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]];
    let [red, green, blue, white] = chromaticities(primaries)?;
    let xyz = |[x, y]: [f64; 2]| [x / y, 1.0, (1.0 - x - y) / y];
    let columns = [xyz(red), xyz(green), xyz(blue)];
    let unscaled: Square = [0, 1, 2].map(|row| columns.map(|column| column[row]));
    let parts = times(&inverse(&unscaled), xyz(white));
    let scaled = unscaled.map(|row| [row[0] * parts[0], row[1] * parts[1], row[2] * parts[2]]);
    let [from, to] = [white, [0.3127, 0.3290]].map(|white| times(&BRADFORD, xyz(white)));
    let cones = product(&BRADFORD, &scaled);
    let adapted = [0, 1, 2].map(|row| cones[row].map(|value| value * to[row] / from[row]));
    Some(product(&inverse(&BRADFORD), &adapted))
}

fn times(matrix: &Square, vector: Vector) -> Vector {
    matrix.map(|row| row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2])
}

fn product(left: &Square, right: &Square) -> Square {
    left.map(|row| [0, 1, 2].map(|column| (0..3).map(|inner| row[inner] * right[inner][column]).sum()))
}

/// By cofactors; the matrices here are far from singular.
fn inverse(m: &Square) -> Square {
    let cofactor = |row: usize, column: usize| {
        let at = |down: usize, right: usize| m[(row + down) % 3][(column + right) % 3];
        at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
    };
    let determinant: f64 = (0..3).map(|column| m[0][column] * cofactor(0, column)).sum();
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| cofactor(column, row) / determinant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64, most: f64) {
        assert!((left - right).abs() <= most, "{left} is not {right}");
    }

    #[test]
    fn curves_have_the_values_that_the_standards_print() {
        // BT.2408-7 table 1 and BT.2100: reference white, and the ends.
        near(light_to_pq(203.0), 0.5807, 0.0001);
        near(light_to_pq(1000.0), 0.7518, 0.0001);
        near(light_to_pq(10000.0), 1.0, 1e-9);
        near(pq_to_light(light_to_pq(42.0)), 42.0, 1e-9);
        near(hlg_to_scene(1.0), 1.0, 1e-6);
        near(hlg_to_scene(0.5), 1.0 / 12.0, 1e-9);
        // HLG's 75 % is reference white too.
        let light = DisplayTransform::new(9, Curve::Hlg).unwrap();
        near(light.displayed([hlg_to_scene(0.75); 3])[0], 203.0, 1.0);
    }

    /// The functions without samples in between.
    fn exact(light: &DisplayTransform, peak: f64, rgb: Vector) -> Vector {
        let rgb = rgb.map(|value| value.clamp(0.0, 1.0));
        let shown = match light.curve {
            Curve::Sdr => rgb.map(srgb_to_light),
            Curve::Pq { .. } => {
                let light = rgb.map(pq_to_light);
                light.map(|value| value * Eetf::new(peak).factor(largest(light)))
            }
            Curve::Hlg => {
                let scene = rgb.map(hlg_to_scene);
                let luminance: f64 = scene.iter().zip(light.luminance).map(|(value, weight)| value * weight).sum();
                let light = scene.map(|value| 1000.0 * luminance.powf(0.2) * value);
                light.map(|value| value * Eetf::new(peak).factor(largest(light)))
            }
        };
        times(&light.to_bt709, shown).map(light_to_srgb)
    }

    #[test]
    fn samples_of_functions_are_exact_to_a_hundredth_of_a_step() {
        // The EETF for a peak of 203 cd/m² has a corner there.
        let most = |curve| if curve == (Curve::Pq { peak: 203 }) { 0.1 } else { 0.01 };
        let pq = [203, 250, 1000, 4000, 10000].map(|peak| (Curve::Pq { peak }, f64::from(peak)));
        for (curve, peak) in pq.into_iter().chain([(Curve::Hlg, 1000.0), (Curve::Sdr, 1000.0)]) {
            let light = DisplayTransform::new(9, curve).unwrap();
            for index in 0..20000u32 {
                let value = |shift: u32| f64::from(index.wrapping_mul(0x9e37_79b1).rotate_left(shift) >> 20) / 4000.0;
                let rgb = [value(0), value(9), value(21)];
                for (found, expected) in light.apply(rgb).into_iter().zip(exact(&light, peak, rgb)) {
                    let [found, expected] = [found, expected].map(|value| value.clamp(0.0, 1.0));
                    assert!(
                        (found - expected).abs() * 255.0 < most(curve),
                        "{curve:?} {rgb:?}: {found} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn bt2020_becomes_bt709_by_the_matrix_of_bt2407() {
        let light = DisplayTransform::new(9, Curve::Sdr).unwrap();
        let printed = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]];
        for (row, printed) in light.to_bt709.iter().zip(printed) {
            row.iter().zip(printed).for_each(|(value, printed)| near(*value, printed, 0.0002));
        }
        light.luminance.iter().zip([0.2627, 0.6780, 0.0593]).for_each(|(value, printed)| near(*value, printed, 1e-4));
    }

    #[test]
    fn white_stays_white_and_grey_grey() {
        for primaries in [1, 4, 5, 6, 7, 8, 9, 11, 12, 22] {
            let light = DisplayTransform::new(primaries, Curve::Sdr).unwrap();
            for grey in [0.0, 0.25, 0.5, 1.0] {
                light.apply([grey; 3]).iter().for_each(|value| near(*value, grey, 1e-5));
            }
        }
        assert!(DisplayTransform::new(2, Curve::Hlg).is_none() && DisplayTransform::new(10, Curve::Hlg).is_none());
    }

    #[test]
    fn tone_mapping_leaves_the_dark_alone_and_ends_at_white() {
        for peak in [400.0, 1000.0, 4000.0, 10000.0] {
            let eetf = Eetf::new(peak);
            near(eetf.of(peak), SDR_WHITE, 1e-6);
            near(eetf.of(1.0), 1.0, 1e-9);
            let lights: Vec<f64> = (0..=1000).map(|step| eetf.of(f64::from(step) / 1000.0 * peak)).collect();
            assert!(lights.is_sorted() && lights.iter().all(|&light| light <= SDR_WHITE + 1e-6), "{peak}");
        }
        near(Eetf::new(100.0).of(150.0), 150.0, 0.0);
        near(Eetf::new(100.0).of(250.0), SDR_WHITE, 0.0);
    }
}
