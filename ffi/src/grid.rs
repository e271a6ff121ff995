//! Interpolation in a grid over triples of samples, eight look-ups of a row side by side with AVX2.
//!
//! The AVX2 code and the portable code below it do the same integer arithmetic: results are equal on all processors.

/// The values of the four nodes around a cell of the second and third sample, at one node of the first: (0, 0), (1, 0),
/// (0, 1) and (1, 1). Values have [`ColourGrid::FRACTION`] fraction bits.
pub type CornerValues = [i16; 4];

/// A function of three samples, known at the nodes of a grid.
#[derive(Debug)]
pub struct ColourGrid {
    /// By the cell of the second sample, then by that of the third, then by the node of the first.
    corners: Box<[CornerValues]>,
}

impl ColourGrid {
    /// Binary logarithm of the number of cells along each axis.
    pub const LOG2_CELLS: u32 = 6;
    /// Nodes along the first axis.
    pub const NODES: usize = (1 << Self::LOG2_CELLS) + 1;
    /// Number of [`CornerValues`].
    pub const LEN: usize = Self::NODES << (2 * Self::LOG2_CELLS);
    /// Fraction bits of a node's value.
    pub const FRACTION: u32 = 6;
    /// Bits of the first sample; higher ones are ignored.
    pub const FIRST_BITS: u32 = 12;
    /// Bits of the second and third sample; higher ones are ignored.
    pub const OTHER_BITS: u32 = 15;

    /// A grid with these nodes; `None` unless they are [`ColourGrid::LEN`].
    pub fn new(corners: Vec<CornerValues>) -> Option<ColourGrid> {
        (corners.len() == Self::LEN).then(|| ColourGrid { corners: corners.into_boxed_slice() })
    }
}

/// Bits of the position between two nodes of the second and third sample: a product of two fits an `i16`.
const PLACE: u32 = 7;
/// Bits of the position between two nodes of the first sample.
const FIRST_PLACE: u32 = ColourGrid::FIRST_BITS - ColourGrid::LOG2_CELLS;
/// Bits that are dropped between the two steps of the interpolation, so that the results fit an `i16`.
const DROPPED: u32 = 2 * PLACE;
/// Fraction bits at the end.
const SCALE: u32 = ColourGrid::FRACTION + FIRST_PLACE;

/// Fills each row of `out` with a grid's values at the triples of `first`, `second` and `third`, rounded and clamped to
/// 8 bits. The shortest row decides the number of triples.
pub fn interpolate<const N: usize>(
    grids: [&ColourGrid; N],
    first: &[u16],
    [second, third]: [&[i16]; 2],
    mut out: [&mut [u8]; N],
) {
    let length = out.iter().map(|row| row.len()).chain([first.len(), second.len(), third.len()]).min().unwrap_or(0);
    #[cfg(target_arch = "x86_64")]
    let done = if is_x86_feature_detected!("avx2") {
        let out = out.each_mut().map(|row| &mut row[..length]);
        // SAFETY: the processor has AVX2.
        unsafe { avx2::interpolate(grids, &first[..length], [second, third].map(|row| &row[..length]), out) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for index in done..length {
        let at = GridPlace::new(first[index], [second[index], third[index]]);
        for (grid, row) in grids.iter().zip(&mut out) {
            row[index] = at.value(grid);
        }
    }
}

/// A place in the grid.
struct GridPlace {
    /// Index of the lower corners.
    start: usize,
    /// The weight of each corner; their sum is 2^(2·PLACE).
    weights: CornerValues,
    /// The position between the lower and the upper corners.
    first: i32,
}

impl GridPlace {
    fn new(first: u16, others: [i16; 2]) -> GridPlace {
        let [second, third] = others.map(i16::cast_unsigned);
        let shift = ColourGrid::OTHER_BITS - ColourGrid::LOG2_CELLS;
        let cell = |sample: u16| usize::from((sample & ((1 << ColourGrid::OTHER_BITS) - 1)) >> shift);
        let place = |sample: u16| ((sample & ((1 << shift) - 1)) >> (shift - PLACE)) as i16;
        let first = first & ((1 << ColourGrid::FIRST_BITS) - 1);
        let (across, down, one) = (place(second), place(third), 1 << PLACE);
        GridPlace {
            start: ((cell(second) << ColourGrid::LOG2_CELLS) + cell(third)) * ColourGrid::NODES
                + usize::from(first >> FIRST_PLACE),
            weights: [(one - across) * (one - down), across * (one - down), (one - across) * down, across * down],
            first: i32::from(first & ((1 << FIRST_PLACE) - 1)),
        }
    }

    fn value(&self, grid: &ColourGrid) -> u8 {
        let sum = |corners: &CornerValues| -> i32 {
            let products =
                corners.iter().zip(&self.weights).map(|(value, weight)| i32::from(*value) * i32::from(*weight));
            (products.sum::<i32>() + (1 << (DROPPED - 1))) >> DROPPED
        };
        let (lower, upper) = (sum(&grid.corners[self.start]), sum(&grid.corners[self.start + 1]));
        let value = lower * ((1 << FIRST_PLACE) - self.first) + upper * self.first;
        ((value + (1 << (SCALE - 1))) >> SCALE).clamp(0, 255) as u8
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{ColourGrid, CornerValues, DROPPED, FIRST_PLACE, PLACE, SCALE};

    /// Samples of 16 bits.
    trait GridSample {}
    impl GridSample for u16 {}
    impl GridSample for i16 {}

    /// Triples in a step. Those of the lower half are in the lower half of a register, those of the upper half above.
    const STEP: usize = 16;

    /// As [`super::interpolate`], for rows of one length, up to the last whole step. Returns the number of triples.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn interpolate<const N: usize>(
        grids: [&ColourGrid; N],
        first: &[u16],
        [second, third]: [&[i16]; 2],
        mut out: [&mut [u8]; N],
    ) -> usize {
        let rows = first.as_chunks().0.iter().zip(second.as_chunks().0).zip(third.as_chunks().0);
        let mut done = 0;
        for ((first, second), third) in rows {
            let places = GridPlaces::new(load(first), load(second), load(third));
            for (grid, row) in grids.iter().zip(&mut out) {
                row[done..][..STEP].copy_from_slice(&places.values(grid));
            }
            done += STEP;
        }
        done
    }

    /// Sixteen places in a grid.
    struct GridPlaces {
        /// Indices of the lower corners: of the places 0 to 3, 8 to 11, 4 to 7, 12 to 15.
        starts: [u32; STEP],
        /// The weights of the four corners of two places, and of those eight places later.
        weights: [__m256i; 4],
        /// The weights of the lower and the upper corners, of four places and of those eight places later.
        first: [__m256i; 2],
    }

    impl GridPlaces {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn new(first: __m256i, second: __m256i, third: __m256i) -> GridPlaces {
            const SHIFT: i32 = (ColourGrid::OTHER_BITS - ColourGrid::LOG2_CELLS) as i32;
            const NARROW: i32 = SHIFT - PLACE as i32;
            let mask = |bits: i32| _mm256_set1_epi16((1 << bits) - 1);
            let cells = mask(ColourGrid::LOG2_CELLS as i32);
            let across_cell = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(second), cells);
            let down_cell = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(third), cells);
            let column =
                _mm256_add_epi16(_mm256_slli_epi16::<{ ColourGrid::LOG2_CELLS as i32 }>(across_cell), down_cell);
            let node = _mm256_and_si256(_mm256_srli_epi16::<{ FIRST_PLACE as i32 }>(first), cells);
            let stride = _mm256_set1_epi32(ColourGrid::NODES as i32 | 1 << 16);
            let starts = [_mm256_unpacklo_epi16(column, node), _mm256_unpackhi_epi16(column, node)];

            let across = _mm256_and_si256(_mm256_srli_epi16::<NARROW>(second), mask(PLACE as i32));
            let down = _mm256_and_si256(_mm256_srli_epi16::<NARROW>(third), mask(PLACE as i32));
            let both = _mm256_mullo_epi16(across, down);
            let wide_across = _mm256_slli_epi16::<{ PLACE as i32 }>(across);
            let only_across = _mm256_sub_epi16(wide_across, both);
            let only_down = _mm256_sub_epi16(_mm256_slli_epi16::<{ PLACE as i32 }>(down), both);
            let rest = _mm256_sub_epi16(_mm256_set1_epi16(1 << (2 * PLACE)), wide_across);
            let none = _mm256_sub_epi16(rest, only_down);
            let [low, high] = interleaved(none, only_across);
            let [low_down, high_down] = interleaved(only_down, both);
            let upper = _mm256_and_si256(first, mask(FIRST_PLACE as i32));
            GridPlaces {
                starts: store(starts.map(|pairs| _mm256_madd_epi16(pairs, stride))),
                weights: [
                    _mm256_unpacklo_epi32(low, low_down),
                    _mm256_unpackhi_epi32(low, low_down),
                    _mm256_unpacklo_epi32(high, high_down),
                    _mm256_unpackhi_epi32(high, high_down),
                ],
                first: interleaved(_mm256_sub_epi16(_mm256_set1_epi16(1 << FIRST_PLACE), upper), upper),
            }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn values(&self, grid: &ColourGrid) -> [u8; STEP] {
            let halves = [self.four::<0>(grid), self.four::<1>(grid)];
            let words = _mm256_packs_epi32(halves[0], halves[1]);
            let bytes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(words, words));
            let mut out = [0; STEP];
            // SAFETY: 16 bytes are written to 16 bytes.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(bytes)) };
            out
        }

        /// Four values, and those eight places later. `HALF` is 0 for the first places.
        #[inline]
        #[target_feature(enable = "avx2")]
        fn four<const HALF: usize>(&self, grid: &ColourGrid) -> __m256i {
            let starts = |place: usize| [self.starts[8 * HALF + place], self.starts[8 * HALF + 4 + place]];
            let two = |pair: usize| {
                let weights = self.weights[2 * HALF + pair];
                let even = corners(grid, starts(2 * pair));
                let odd = corners(grid, starts(2 * pair + 1));
                let even = _mm256_madd_epi16(even, _mm256_unpacklo_epi64(weights, weights));
                let odd = _mm256_madd_epi16(odd, _mm256_unpackhi_epi64(weights, weights));
                // Lower and upper corners of one place, then of the next.
                let sums = _mm256_add_epi32(_mm256_hadd_epi32(even, odd), _mm256_set1_epi32(1 << (DROPPED - 1)));
                _mm256_srai_epi32::<{ DROPPED as i32 }>(sums)
            };
            let sums = _mm256_packs_epi32(two(0), two(1));
            let values = _mm256_madd_epi16(sums, self.first[HALF]);
            _mm256_srai_epi32::<{ SCALE as i32 }>(_mm256_add_epi32(values, _mm256_set1_epi32(1 << (SCALE - 1))))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn interleaved(even: __m256i, odd: __m256i) -> [__m256i; 2] {
        [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)]
    }

    /// The lower and upper corners at two places.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn corners(grid: &ColourGrid, [low, high]: [u32; 2]) -> __m256i {
        let corners: &[CornerValues] = &grid.corners;
        debug_assert!(low.max(high) as usize + 2 <= corners.len());
        // SAFETY: a start is at most (2^12 - 1) · NODES + 2^6 - 1, as cells and nodes have six bits each: two corners
        // from there on are within the LEN of every grid.
        unsafe {
            let at = |start: u32| _mm_loadu_si128(corners.as_ptr().add(start as usize).cast());
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(at(low)), at(high))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load<T: GridSample>(samples: &[T; STEP]) -> __m256i {
        // SAFETY: 32 bytes are read from 32 bytes.
        unsafe { _mm256_loadu_si256(samples.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(halves: [__m256i; 2]) -> [u32; STEP] {
        let mut out = [[0; STEP / 2]; 2];
        for (half, out) in halves.into_iter().zip(&mut out) {
            // SAFETY: 32 bytes are written to 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), half) };
        }
        let mut all = [0; STEP];
        all.copy_from_slice(out.as_flattened());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grid of values that jump from node to node.
    fn grid(seed: u32) -> ColourGrid {
        let value = |index: usize| ((index as u32 ^ seed).wrapping_mul(0x9e37_79b1) >> 18) as i16;
        ColourGrid::new(
            (0..ColourGrid::LEN).map(|index| [0, 1, 2, 3].map(|corner| value(4 * index + corner))).collect(),
        )
        .unwrap()
    }

    #[test]
    fn every_length_and_processor_gives_the_same_values() {
        let grids = [grid(1), grid(7)];
        let samples = |factor: u32| (0..1000u32).map(move |x| (x.wrapping_mul(factor) >> 7) as u16);
        let firsts: Vec<u16> = samples(2_654_435_761).collect();
        let others = [40_503_011, 3_266_489_917].map(|factor| samples(factor).map(|x| x as i16).collect::<Vec<_>>());
        for length in [0, 1, 15, 16, 17, 48, 1000] {
            let others = others.each_ref().map(|row| &row[..length]);
            let mut out = [vec![9; length], vec![9; length]];
            let [first, second] = &mut out;
            interpolate([&grids[0], &grids[1]], &firsts[..length], others, [first, second]);
            for (grid, out) in grids.iter().zip(&out) {
                let expected = |x: usize| GridPlace::new(firsts[x], others.map(|row| row[x])).value(grid);
                assert!((0..length).all(|x| out[x] == expected(x)), "{length}");
            }
        }
        assert!(ColourGrid::new(vec![[0; 4]; ColourGrid::LEN - 1]).is_none());
    }

    #[test]
    fn a_linear_function_is_interpolated_exactly() {
        let cells = 1 << ColourGrid::LOG2_CELLS;
        let value = |first: usize, second: usize, third: usize| (50 * first + 30 * second + 20 * third) as i16;
        let places = (0..cells).flat_map(|second| (0..cells).map(move |third| (second, third)));
        let corners = places.flat_map(|(second, third)| {
            (0..ColourGrid::NODES).map(move |first| {
                [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(across, down)| value(first, second + across, third + down))
            })
        });
        let grid = ColourGrid::new(corners.collect()).unwrap();
        for (first, second, third) in [(0, 0, 0), (4095, 32767, 32767), (777, 12345, 30001), (4032, 511, 512)] {
            let mut out = [0; 20];
            interpolate([&grid], &[first; 20], [&[second; 20], &[third; 20]], [&mut out]);
            let part = |sample: i16, bits: u32| f64::from(sample) / f64::from(1u32 << (bits - ColourGrid::LOG2_CELLS));
            let exact = 50.0 * part(first as i16, 12) + 30.0 * part(second, 15) + 20.0 * part(third, 15);
            assert!(out.iter().all(|&found| (f64::from(found) - exact / 64.0).abs() < 0.52), "{out:?} {exact}");
        }
    }
}
