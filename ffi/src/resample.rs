//! Weighted sums of adjacent samples along one axis of a plane, with AVX2 where the processor has it.
//!
//! A plane is resampled in two steps: [`blend_rows`] makes a row of the new height, in 16 bits, and [`weigh_columns`]
//! brings it to the new width. The AVX2 code and the portable code do the same integer arithmetic: results are equal on
//! all processors. Which samples make an output sample, and their weights, are left to the caller.

use std::ops::Range;

/// Fraction bits between the two steps.
const FRACTION: u32 = 6;
/// Fraction bits of weights, the more the better: sizes below 1, and below 2.
const PRECISIONS: [u32; 2] = [15, 14];
/// Weights of an output sample are padded with zeros to a multiple of this.
const LANES: usize = 16;

/// The input samples of each output sample along an axis, with their weights.
#[derive(Debug, Clone)]
pub struct FilterTaps {
    starts: Vec<usize>,
    /// By output sample, `stride` each.
    weights: Vec<i16>,
    stride: usize,
    /// Number of weights before the padding: the most of an output sample.
    used: usize,
    /// Fraction bits of a weight.
    precision: u32,
    /// The input samples that are used.
    inputs: Range<usize>,
    /// Length of a row for [`weigh_columns`]: its input samples, and padding behind them.
    row_length: usize,
}

impl FilterTaps {
    /// For each output sample the first input sample and the weights from there on, with a sum of 1. Their sizes must
    /// add up to less than 2: then no sum of products overflows.
    pub fn new(outputs: &[(usize, Vec<f64>)]) -> FilterTaps {
        let sizes = outputs.iter().flat_map(|(_, weights)| weights).map(|weight| weight.abs());
        let largest = sizes.fold(0.0, f64::max);
        let fits = |precision: &u32| largest * f64::from(1u32 << precision) < f64::from(i16::MAX);
        let precision = PRECISIONS.into_iter().find(fits).unwrap_or(PRECISIONS[1]);
        let used = outputs.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0).max(1);
        let stride = used.next_multiple_of(LANES);
        let starts: Vec<usize> = outputs.iter().map(|(start, _)| *start).collect();
        let end = outputs.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
        let inputs = starts.iter().copied().min().unwrap_or(0)..end;
        let row_length = starts.iter().max().map_or(0, |start| start + stride).max(end);
        let mut taps = FilterTaps { starts, weights: vec![], stride, used, precision, inputs, row_length };
        for (index, (_, weights)) in outputs.iter().enumerate() {
            // Sums are rounded instead of weights, so that an even area keeps its value.
            let (mut sum, mut rounded) = (0.0, 0);
            taps.weights.extend(weights.iter().map(|weight| {
                sum += weight;
                let before = rounded;
                rounded = (sum * f64::from(1u32 << precision)).round() as i32;
                (rounded - before) as i16
            }));
            taps.weights.resize((index + 1) * stride, 0);
        }
        taps
    }
}

/// Rows of 8-bit samples.
#[derive(Debug, Clone, Copy)]
pub struct SampleRows<'a> {
    /// Row after row.
    pub data: &'a [u8],
    /// Bytes from the start of a row to the start of the next.
    pub stride: usize,
}

/// Fills `out` with output row `y` of `taps`, in the columns that `across` uses, for [`weigh_columns`] with `across`.
///
/// # Panics
/// If `taps` has no such row, or the source lacks a sample that it uses.
pub fn blend_rows(source: SampleRows<'_>, taps: &FilterTaps, y: usize, across: &FilterTaps, out: &mut Vec<i16>) {
    let columns = across.inputs.clone();
    out.resize(across.row_length, 0);
    let weights = &taps.weights[y * taps.stride..][..taps.stride];
    let used = weights.iter().rposition(|&weight| weight != 0).map_or(0, |last| last + 1);
    let rows = BlendedRows {
        data: &source.data[taps.starts[y] * source.stride..],
        stride: source.stride,
        weights: &weights[..used],
        shift: taps.precision - FRACTION,
    };
    let needed = used.saturating_sub(1).saturating_mul(source.stride).saturating_add(columns.end);
    assert!(rows.data.len() >= needed, "the source has all rows");
    #[cfg(target_arch = "x86_64")]
    let done = if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; the source has all rows, see above, and `out` is no shorter than the columns.
        unsafe { avx2::blend(&rows, columns.clone(), out) }
    } else {
        columns.start
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = columns.start;
    rows.blend(done..columns.end, out);
}

/// Fills `out` with the output samples of `taps` for a row of [`blend_rows`].
///
/// # Panics
/// If the row was made for other taps, or `out` has another length than their outputs.
pub fn weigh_columns(row: &[i16], taps: &FilterTaps, out: &mut [u8]) {
    assert!(row.len() >= taps.row_length && out.len() == taps.starts.len(), "the row is that of these taps");
    #[cfg(target_arch = "x86_64")]
    let done = if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and the lengths were checked.
        unsafe { avx2::weigh(row, taps, out) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    weigh(row, taps, done, out);
}

/// The rows of an output row.
struct BlendedRows<'a> {
    /// From the first row on.
    data: &'a [u8],
    stride: usize,
    /// One for each row.
    weights: &'a [i16],
    /// Bits that are dropped at the end.
    shift: u32,
}

impl BlendedRows<'_> {
    fn blend(&self, columns: Range<usize>, out: &mut [i16]) {
        const WIDTH: usize = 16;
        let half = (1 << self.shift) >> 1;
        for begin in columns.clone().step_by(WIDTH) {
            let width = WIDTH.min(columns.end - begin);
            let mut sums = [half; WIDTH];
            for (row, weight) in self.weights.iter().enumerate() {
                let samples = &self.data[row * self.stride + begin..][..width];
                for (sum, sample) in sums.iter_mut().zip(samples) {
                    *sum += i32::from(*sample) * i32::from(*weight);
                }
            }
            for (sum, out) in sums.iter().zip(&mut out[begin..][..width]) {
                *out = (sum >> self.shift).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            }
        }
    }
}

/// The outputs from `done` on.
fn weigh(row: &[i16], taps: &FilterTaps, done: usize, out: &mut [u8]) {
    let shift = taps.precision + FRACTION;
    let starts = taps.starts.iter().zip(taps.weights.chunks_exact(taps.stride)).zip(out);
    for ((start, weights), out) in starts.skip(done) {
        let products = row[*start..].iter().zip(&weights[..taps.used]);
        let sum: i32 = products.map(|(sample, weight)| i32::from(*sample) * i32::from(*weight)).sum();
        *out = ((sum + ((1 << shift) >> 1)) >> shift).clamp(0, 255) as u8;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{BlendedRows, FRACTION, FilterTaps, LANES};

    /// Columns in a step of [`blend`].
    const COLUMNS: usize = 32;
    /// Outputs in a step of [`weigh`].
    const OUTPUTS: usize = 8;

    /// Blends columns in whole steps and returns the first one that is left.
    ///
    /// # Safety
    /// The rows of all weights have samples up to the end of `columns`, and so has `out`.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn blend(rows: &BlendedRows<'_>, columns: Range<usize>, out: &mut [i16]) -> usize {
        let shift = _mm_cvtsi32_si128(rows.shift as i32);
        let half = _mm256_set1_epi32((1 << rows.shift) >> 1);
        let mut column = columns.start;
        while column + COLUMNS <= columns.end {
            let mut sums = [half; 4];
            let mut row = rows.data.as_ptr().wrapping_add(column);
            let (pairs, last) = rows.weights.as_chunks::<2>();
            for &weights in pairs {
                // SAFETY: these rows have weights, and so, by contract, the samples of this step.
                let two = unsafe { [load(row), load(row.wrapping_add(rows.stride))] };
                add(&mut sums, two, weights);
                row = row.wrapping_add(2 * rows.stride);
            }
            if let [weight] = last {
                // SAFETY: as above.
                add(&mut sums, [unsafe { load(row) }, _mm256_setzero_si256()], [*weight, 0]);
            }
            // Columns 0 to 7 and 16 to 23, then 8 to 15 and 24 to 31.
            let words = [
                _mm256_packs_epi32(_mm256_sra_epi32(sums[0], shift), _mm256_sra_epi32(sums[1], shift)),
                _mm256_packs_epi32(_mm256_sra_epi32(sums[2], shift), _mm256_sra_epi32(sums[3], shift)),
            ];
            let low = _mm256_permute2x128_si256::<0x20>(words[0], words[1]);
            let high = _mm256_permute2x128_si256::<0x31>(words[0], words[1]);
            // SAFETY: by contract, `out` has the 32 columns of this step.
            unsafe {
                let out: *mut __m256i = out.as_mut_ptr().add(column).cast();
                _mm256_storeu_si256(out, low);
                _mm256_storeu_si256(out.add(1), high);
            }
            column += COLUMNS;
        }
        column
    }

    /// # Safety
    /// 32 bytes can be read.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load<T>(from: *const T) -> __m256i {
        // SAFETY: as the caller guarantees.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    /// Adds the weighted samples of two rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(sums: &mut [__m256i; 4], [upper, lower]: [__m256i; 2], [first, second]: [i16; 2]) {
        let weights = _mm256_set1_epi32(i32::from(first.cast_unsigned()) | i32::from(second) << 16);
        let zero = _mm256_setzero_si256();
        let (low, high) = (_mm256_unpacklo_epi8(upper, lower), _mm256_unpackhi_epi8(upper, lower));
        let wide = [
            _mm256_unpacklo_epi8(low, zero),
            _mm256_unpackhi_epi8(low, zero),
            _mm256_unpacklo_epi8(high, zero),
            _mm256_unpackhi_epi8(high, zero),
        ];
        for (sum, wide) in sums.iter_mut().zip(wide) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(wide, weights));
        }
    }

    /// Makes outputs in whole steps and returns their number.
    ///
    /// # Safety
    /// `row` has the `row_length` of `taps`, and `out` their outputs.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn weigh(row: &[i16], taps: &FilterTaps, out: &mut [u8]) -> usize {
        // SAFETY: as the caller guarantees; the stride is that number of lanes.
        unsafe {
            match taps.stride / LANES {
                1 => weigh_blocks::<1>(row, taps, out),
                2 => weigh_blocks::<2>(row, taps, out),
                _ => weigh_blocks::<0>(row, taps, out),
            }
        }
    }

    /// As [`weigh`]. `BLOCKS` is the stride in lanes, or 0 for any.
    ///
    /// # Safety
    /// As [`weigh`], and the stride is what `BLOCKS` says.
    #[target_feature(enable = "avx2")]
    unsafe fn weigh_blocks<const BLOCKS: usize>(row: &[i16], taps: &FilterTaps, out: &mut [u8]) -> usize {
        let shift = taps.precision + FRACTION;
        let half = _mm256_set1_epi32((1 << shift) >> 1);
        let shift = _mm_cvtsi32_si128(shift as i32);
        let blocks = if BLOCKS == 0 { taps.stride / LANES } else { BLOCKS };
        let mut weights = taps.weights.as_ptr();
        let mut done = 0;
        for (starts, out) in taps.starts.as_chunks::<OUTPUTS>().0.iter().zip(out.as_chunks_mut::<OUTPUTS>().0) {
            let mut sums = [_mm256_setzero_si256(); OUTPUTS];
            for (sum, start) in sums.iter_mut().zip(starts) {
                let mut samples = row.as_ptr().wrapping_add(*start);
                for _ in 0..blocks {
                    // SAFETY: a row has a start and a stride at least, and each output has a stride of weights.
                    let products = unsafe { _mm256_madd_epi16(load(samples), load(weights)) };
                    *sum = _mm256_add_epi32(*sum, products);
                    samples = samples.wrapping_add(LANES);
                    weights = weights.wrapping_add(LANES);
                }
            }
            let low = four([sums[0], sums[1], sums[2], sums[3]]);
            let high = four([sums[4], sums[5], sums[6], sums[7]]);
            let halves = [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)];
            let sums = _mm256_add_epi32(_mm256_add_epi32(halves[0], halves[1]), half);
            let sums = _mm256_sra_epi32(sums, shift);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            *out = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes();
            done += OUTPUTS;
        }
        done
    }

    /// The sums of the halves of four registers: the lower ones, then the upper ones.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn four([first, second, third, fourth]: [__m256i; 4]) -> __m256i {
        _mm256_hadd_epi32(_mm256_hadd_epi32(first, second), _mm256_hadd_epi32(third, fourth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taps of a triangle, for `outputs` of `inputs` samples.
    fn triangle(inputs: usize, outputs: usize) -> FilterTaps {
        let step = inputs as f64 / outputs as f64;
        let of = |index: usize| {
            let (centre, reach) = ((index as f64 + 0.5) * step - 0.5, step.max(1.0));
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(inputs - 1);
            let weights: Vec<f64> = (first..=last).map(|at| 1.0 - (at as f64 - centre).abs() / reach).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| weight / sum).collect())
        };
        FilterTaps::new(&(0..outputs).map(of).collect::<Vec<_>>())
    }

    #[test]
    fn every_size_and_processor_gives_the_same_samples() {
        for (width, to) in [(1, 1), (31, 7), (32, 33), (100, 9), (333, 64), (64, 200)] {
            let (height, stride) = (23, width + 5);
            let data: Vec<u8> =
                (0..height * stride).map(|x| ((x as u32).wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
            for rows in [1, 7, 23, 40] {
                let (down, across) = (triangle(height, rows), triangle(width, to));
                let source = SampleRows { data: &data, stride };
                for y in 0..rows {
                    let (mut row, mut out, mut expected) = (vec![], vec![0; to], vec![0; to]);
                    blend_rows(source, &down, y, &across, &mut row);
                    let mut expected_row = vec![0; row.len()];
                    let weights = &down.weights[y * down.stride..][..down.used];
                    let weights = &weights[..weights.iter().rposition(|&weight| weight != 0).unwrap() + 1];
                    let shift = down.precision - FRACTION;
                    let data = &data[down.starts[y] * stride..];
                    BlendedRows { data, stride, weights, shift }.blend(0..width, &mut expected_row);
                    assert_eq!(row, expected_row);
                    weigh_columns(&row, &across, &mut out);
                    weigh(&row, &across, 0, &mut expected);
                    assert_eq!(out, expected, "{width} to {to}, {height} to {rows}");
                }
            }
        }
    }

    #[test]
    fn an_even_area_keeps_its_value() {
        for (from, to) in [(1, 1), (7, 3), (50, 200), (4000, 3), (65535, 1)] {
            for value in [0, 1, 128, 255] {
                let (taps, mut row, mut out) = (triangle(from, to), vec![], vec![0; to]);
                let data = vec![value; from];
                blend_rows(SampleRows { data: &data, stride: from }, &triangle(1, 1), 0, &taps, &mut row);
                weigh_columns(&row, &taps, &mut out);
                assert!(out.iter().all(|&sample| sample == value), "{from} to {to}: {value} is {out:?}");
                let mut row = vec![];
                for y in 0..to {
                    blend_rows(SampleRows { data: &data, stride: 1 }, &taps, y, &triangle(1, 1), &mut row);
                    assert_eq!(row[0], i16::from(value) << FRACTION);
                }
            }
        }
    }
}
