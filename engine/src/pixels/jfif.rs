//! Converts decoded YCbCr planes to the planes of a JPEG: BT.601 matrix, full range, 8 bits.
//!
//! JFIF has one kind of YCbCr, and most video another: BT.709 or BT.2020, limited range, 10 bits. The conversion from
//! one YCbCr to another is a 3x3 matrix of a simple form, so no RGB is computed:
//!
//! ```text
//! Y'  = gain·(Y - black) + a·Cb + b·Cr      a, b are 0 if the matrix is BT.601 already
//! Cb' =                    c·Cb + d·Cr      chroma does not depend on luma: it stays at its own resolution
//! Cr' =                    e·Cb + f·Cr
//! ```
//!
//! Luma needs the chroma at its place. Where chroma is subsampled, the *correction* `a·Cb + b·Cr` is interpolated
//! instead of Cb and Cr: the result is the same, since both are linear, at half the work. `siting` has the places of
//! chroma. The output keeps the siting of the source. JFIF's chroma is centred, so chroma sited left is displayed a
//! quarter of a chroma sample to the side; moving it would blur it.
//!
//! Left to other modules: `colour` completes the colour description and chooses the conversion; `table` changes
//! primaries and transfer function (wide gamut, HDR) and converts R'G'B'; `scale` changes the size; encoders take
//! [`JfifPlanes`]. Rotation and interlacing are left to `still`.

use super::error::PictureError;
use super::matrix::{ColourRange, Matrix, YcbcrView};
use super::planes::{JfifPlanes, PlaneView};

impl JfifPlanes {
    /// Fills the planes with the picture of `view`, in BT.601, full range, 8 bits, at the same size and subsampling.
    /// Results are within 0.6 of exact arithmetic, clamped to 0..=255. BT.601 in full range and 8 bits is copied.
    /// Colours outside of the R'G'B' cube stay outside: a JPEG's reader clamps them.
    ///
    /// # Errors
    /// If `view` is not a picture of these kinds, or its planes are too short. The planes then keep their earlier
    /// content.
    pub fn convert(&mut self, view: &YcbcrView<'_>) -> Result<(), PictureError> {
        view.check()?;
        let luma = view.planes[0];
        self.reshape(luma.width, luma.height, view.planes.len(), view.log2_chroma_w, view.log2_chroma_h);
        self.siting = view.siting;
        if view.is_jfif_already() {
            self.copy(view.planes);
        } else if view.depth == 8 {
            self.convert_samples::<1>(view);
        } else {
            self.convert_samples::<2>(view);
        }
        self.repeat_edges();
        Ok(())
    }

    fn copy(&mut self, planes: &[PlaneView<'_>]) {
        for (plane, view) in self.planes.iter_mut().zip(planes) {
            for y in 0..plane.height {
                plane.row_mut(y).copy_from_slice(view.row::<1>(y).as_flattened());
            }
        }
    }

    fn convert_samples<const N: usize>(&mut self, view: &YcbcrView<'_>) {
        let fixed = FixedPointMatrix::new(view);
        let (source, planes) = (view.planes, self.planes.as_mut_slice());
        if let ([_, cb, cr], [_, to_cb, to_cr]) = (source, &mut *planes) {
            for y in 0..cb.height {
                fixed.chroma_row(cb.row::<N>(y), cr.row::<N>(y), to_cb.row_mut(y), to_cr.row_mut(y));
            }
        }
        match (source, fixed.to_luma) {
            ([_, cb, cr], Some(mix)) => {
                let subsampling = (view.log2_chroma_w, view.log2_chroma_h);
                self.corrections.begin(cb.width, cb.height);
                for y in 0..self.height {
                    let row = self.corrections.row(y, view.siting, subsampling, |chroma_y, out| {
                        fixed.correction_row(mix, cb.row::<N>(chroma_y), cr.row::<N>(chroma_y), out);
                    });
                    fixed.corrected_luma_row(source[0].row::<N>(y), row, planes[0].row_mut(y));
                }
            }
            _ => {
                for y in 0..self.height {
                    fixed.luma_row(source[0].row::<N>(y), planes[0].row_mut(y));
                }
            }
        }
    }
}

/// Fraction bits of intermediate results. With 6, the largest fits an `i16`: 255·64·255/219 for white with the largest
/// correction of luma (under 44·64) on top.
const FRACTION: u32 = 6;

/// The conversion in fixed point.
///
/// Samples of every depth become unsigned 16-bit ones and are multiplied by unsigned 16-bit factors; the upper half of
/// the product is kept. SSE2 computes eight of these in an instruction (`pmulhuw`), and has none for 32-bit products.
/// LLVM finds the instruction reliably for the unsigned products below, and only sometimes for signed ones.
struct FixedPointMatrix {
    /// Shift to 16 bits. Variable for 8-bit samples too: LLVM would merge a literal 8 with the factor, which makes
    /// 32-bit products of 16-bit ones and doubled the time of luma.
    shift: u32,
    /// Factor from 16-bit luma to [`FRACTION`], in 1/65536.
    luma_gain: u16,
    /// Black level, and the half that makes the final shift round.
    luma_bias: i16,
    /// The correction of luma; `None` if luma does not depend on chroma.
    to_luma: Option<Mix>,
    to_cb: Mix,
    to_cr: Mix,
}

/// A weighted sum of Cb and Cr.
#[derive(Clone, Copy)]
struct Mix {
    cb: Factor,
    cr: Factor,
    bias: i16,
}

/// A factor of 16-bit chroma, in 1/65536. A negative factor is applied to the complement of the sample.
#[derive(Clone, Copy)]
struct Factor {
    size: u16,
    complement: u16,
}

impl Factor {
    fn new(value: f64) -> Self {
        let complement = if value < 0.0 { 0xffff } else { 0 };
        Self { size: (value.abs() * 65536.0).round() as u16, complement }
    }

    #[inline(always)]
    fn times(self, sample: u16) -> u16 {
        high_product(sample ^ self.complement, self.size)
    }
}

impl Mix {
    /// `bias` is the result for grey.
    fn new(factors: [f64; 2], bias: f64) -> Self {
        let [cb, cr] = factors.map(Factor::new);
        // Grey is half of full scale, and so is its complement. Rounding down loses a half on average in each product.
        let of_grey = (f64::from(cb.size) + f64::from(cr.size)) / 2.0;
        Self { cb, cr, bias: (bias - of_grey + 1.0).round() as i16 }
    }

    /// The sum with [`FRACTION`] bits, within one and a half steps.
    #[inline(always)]
    fn of(self, cb: u16, cr: u16) -> i16 {
        (self.cb.times(cb) + self.cr.times(cr)).wrapping_add_signed(self.bias) as i16
    }
}

#[inline(always)]
fn high_product(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

impl FixedPointMatrix {
    fn new(view: &YcbcrView<'_>) -> Self {
        let depth = i32::from(view.depth);
        // Luma and chroma steps of the output per step of the source at 16 bits.
        let full = 255.0 / ((2f64.powi(depth) - 1.0) * 2f64.powi(16 - depth));
        let (black, luma_gain, chroma_gain) = match view.range {
            ColourRange::Limited => (16.0, 255.0 / 219.0 / 256.0, 255.0 / view.matrix.chroma_steps() / 256.0),
            ColourRange::Full => (0.0, full, full),
        };
        let one = f64::from(1 << FRACTION);
        let [to_luma, to_cb, to_cr] = view.matrix.to_bt601().map(|row| row.map(|factor| factor * chroma_gain * one));
        let middle = 128.5 * one;
        Self {
            shift: 16 - u32::from(view.depth),
            luma_gain: (luma_gain * one * 65536.0).round() as u16,
            luma_bias: ((0.5 - black * 256.0 * luma_gain) * one).round() as i16,
            to_luma: (view.matrix != Matrix::Bt601).then(|| Mix::new(to_luma, 0.0)),
            to_cb: Mix::new(to_cb, middle),
            to_cr: Mix::new(to_cr, middle),
        }
    }

    /// A sample at 16 bits. Bits above the depth are dropped.
    #[inline(always)]
    fn widen<const N: usize>(&self, sample: [u8; N]) -> u16 {
        let value = if N == 1 { u16::from(sample[0]) } else { u16::from_le_bytes([sample[0], sample[1]]) };
        value << self.shift
    }

    #[inline(always)]
    fn luma<const N: usize>(&self, sample: [u8; N], bias: i16) -> i16 {
        high_product(self.widen(sample), self.luma_gain) as i16 + bias
    }

    fn chroma_row<const N: usize>(&self, cb: &[[u8; N]], cr: &[[u8; N]], to_cb: &mut [u8], to_cr: &mut [u8]) {
        for (((cb, cr), to_cb), to_cr) in cb.iter().zip(cr).zip(to_cb).zip(to_cr) {
            let (cb, cr) = (self.widen(*cb), self.widen(*cr));
            *to_cb = whole(self.to_cb.of(cb, cr));
            *to_cr = whole(self.to_cr.of(cb, cr));
        }
    }

    fn luma_row<const N: usize>(&self, luma: &[[u8; N]], out: &mut [u8]) {
        for (luma, out) in luma.iter().zip(out) {
            *out = whole(self.luma(*luma, self.luma_bias));
        }
    }

    /// The correction of luma for a chroma row.
    fn correction_row<const N: usize>(&self, mix: Mix, cb: &[[u8; N]], cr: &[[u8; N]], out: &mut [i16]) {
        for ((cb, cr), out) in cb.iter().zip(cr).zip(out) {
            *out = mix.of(self.widen(*cb), self.widen(*cr));
        }
    }

    /// A luma row with a correction that is eight times too large.
    fn corrected_luma_row<const N: usize>(&self, luma: &[[u8; N]], correction: &[i16], out: &mut [u8]) {
        let bias = self.luma_bias + LOST;
        for ((luma, correction), out) in luma.iter().zip(correction).zip(out) {
            *out = whole(self.luma(*luma, bias) + (correction >> 3));
        }
    }
}

/// Steps that a corrected luma loses on average by rounding down: a half in its product, a half in its correction.
const LOST: i16 = 1;

/// Rounded down to an integer, clamped to 8 bits.
#[inline(always)]
fn whole(value: i16) -> u8 {
    (value >> FRACTION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests;
