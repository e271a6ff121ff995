//! The location of chroma samples between luma samples, and interpolation to luma rows.
//!
//! Both conversions to JFIF need chroma at the places of luma: [`jfif`](super::jfif) for the correction of luma, the
//! colour table for the colour itself. `ChromaUpsampler` interpolates any values per chroma sample to a luma row,
//! linearly between the nearest two, with repeated edges. The values are left to the callers.

/// The place of a chroma sample in its block of luma samples (`AVChromaLocation`; H.273 8.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Siting {
    /// Midway between two luma columns; otherwise on the left one.
    pub is_centred: bool,
    /// Its place among luma rows.
    pub row: SitingRow,
}

/// The place of chroma among its luma rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SitingRow {
    /// On the upper row.
    Top,
    /// Midway between both rows.
    Between,
    /// On the lower row.
    Bottom,
}

impl Default for Siting {
    fn default() -> Siting {
        Siting::CENTRED
    }
}

impl Siting {
    /// JFIF's and MPEG-1's: in the middle.
    pub const CENTRED: Siting = Siting { is_centred: true, row: SitingRow::Between };

    /// MPEG-2's, and the default of H.264, H.265, VP9 and AV1.
    pub const LEFT: Siting = Siting { is_centred: false, row: SitingRow::Between };

    /// From FFmpeg's number; [`Siting::LEFT`] if unspecified.
    pub fn from_location(location: u32) -> Siting {
        let (is_centred, row) = match location {
            2 => (true, SitingRow::Between),
            3 => (false, SitingRow::Top),
            4 => (true, SitingRow::Top),
            5 => (false, SitingRow::Bottom),
            6 => (true, SitingRow::Bottom),
            _ => return Siting::LEFT,
        };
        Siting { is_centred, row }
    }

    /// The chroma rows around luma row `y`, with their weights in quarters. `rows` is the number of chroma rows.
    pub(super) fn rows_for(self, y: usize, log2_h: u8, rows: usize) -> [(usize, i16); 2] {
        if log2_h == 0 {
            return [(y, 4), (y, 0)];
        }
        let (own, is_lower) = (y / 2, y % 2 == 1);
        let (own_part, is_other_below) = match (self.row, is_lower) {
            (SitingRow::Top, false) | (SitingRow::Bottom, true) => (4, is_lower),
            (SitingRow::Top, true) | (SitingRow::Bottom, false) => (2, is_lower),
            (SitingRow::Between, _) => (3, is_lower),
        };
        let other = if is_other_below { (own + 1).min(rows - 1) } else { own.saturating_sub(1) };
        [(own, own_part), (other, 4 - own_part)]
    }
}

/// Interpolates values per chroma sample to the places of luma, row by row from top to bottom. Values may use 12 bits
/// and a sign; the result is eight times as large.
#[derive(Clone, Debug, Default)]
pub(super) struct ChromaUpsampler {
    /// The two current chroma rows: row j is at index j % 2.
    rows: [Vec<i16>; 2],
    /// Number of chroma rows filled in.
    filled: usize,
    /// Number of chroma rows.
    height: usize,
    /// A luma row at chroma's horizontal resolution, times four, with repeated ends.
    blended: Vec<i16>,
    /// A luma row, times eight.
    spread: Vec<i16>,
}

impl ChromaUpsampler {
    /// Begins a picture with this many chroma columns and rows, at least one of each.
    pub(super) fn begin(&mut self, width: usize, height: usize) {
        self.rows.iter_mut().for_each(|row| row.resize(width, 0));
        self.blended.resize(width + 2, 0);
        self.spread.resize(2 * width, 0);
        (self.filled, self.height) = (0, height);
    }

    /// Luma row `y`, after those above it: at least as many values as it has columns. Calls `fill` once for each chroma
    /// row, in order.
    #[inline(always)]
    pub(super) fn row(
        &mut self,
        y: usize,
        siting: Siting,
        (log2_w, log2_h): (u8, u8),
        mut fill: impl FnMut(usize, &mut [i16]),
    ) -> &[i16] {
        let [near, far] = siting.rows_for(y, log2_h, self.height);
        while self.filled <= near.0.max(far.0) {
            fill(self.filled, &mut self.rows[self.filled % 2]);
            self.filled += 1;
        }
        let row = |(index, part): (usize, i16)| (self.rows[index % 2].as_slice(), part);
        blend(row(near), row(far), &mut self.blended);
        match (log2_w, siting.is_centred) {
            (0, _) => spread_whole(&self.blended, &mut self.spread),
            (_, false) => spread_left(&self.blended, &mut self.spread),
            (_, true) => spread_centred(&self.blended, &mut self.spread),
        }
        &self.spread
    }
}

/// The weighted sum of two rows, with repeated ends.
#[inline(always)]
fn blend((near, near_part): (&[i16], i16), (far, far_part): (&[i16], i16), out: &mut [i16]) {
    let inside = &mut out[1..];
    for ((near, far), out) in near.iter().zip(far).zip(&mut *inside) {
        *out = near_part * near + far_part * far;
    }
    let last = near.len();
    out[0] = out[1];
    out[last + 1] = out[last];
}

/// Twice the row.
#[inline(always)]
fn spread_whole(row: &[i16], out: &mut [i16]) {
    for (value, out) in row[1..row.len() - 1].iter().zip(out) {
        *out = 2 * value;
    }
}

/// Twice the row at luma's horizontal resolution: an even column has its own value, an odd one the mean of its
/// neighbours.
#[inline(always)]
fn spread_left(row: &[i16], out: &mut [i16]) {
    for ((even, next), out) in row[1..].iter().zip(&row[2..]).zip(out.as_chunks_mut::<2>().0) {
        *out = [2 * even, even + next];
    }
}

/// Twice the row at luma's horizontal resolution: three quarters of the nearest value, a quarter of the next.
#[inline(always)]
fn spread_centred(row: &[i16], out: &mut [i16]) {
    let places = row.iter().zip(&row[1..]).zip(&row[2..]);
    for (((left, own), right), out) in places.zip(out.as_chunks_mut::<2>().0) {
        // (3·own + left) / 2, without leaving 16 bits.
        *out = [own + ((own + left) >> 1), own + ((own + right) >> 1)];
    }
}
