//! Synthetic pictures for the tests of this folder and of `still`.

use super::matrix::{ColourRange, Matrix, YcbcrView};
use super::planes::{JfifPlanes, PlaneView};
use super::siting::Siting;

/// JFIF planes with the samples `sample(plane, x, y)`; grey without subsampling.
pub(crate) fn planes(
    (width, height): (usize, usize),
    subsampling: Option<(u8, u8)>,
    sample: impl Fn(usize, usize, usize) -> u8,
) -> JfifPlanes {
    let (log2_chroma_w, log2_chroma_h) = subsampling.unwrap_or((0, 0));
    let chroma = (width.div_ceil(1 << log2_chroma_w), height.div_ceil(1 << log2_chroma_h));
    let sizes = [(width, height), chroma, chroma];
    let count = if subsampling.is_some() { 3 } else { 1 };
    let row = |plane, y, width| (0..width).map(move |x| (plane, x, y));
    let data: Vec<Vec<u8>> = (0..count)
        .map(|plane| {
            let places = (0..sizes[plane].1).flat_map(|y| row(plane, y, sizes[plane].0));
            places.map(|(plane, x, y)| sample(plane, x, y)).collect()
        })
        .collect();
    let views: Vec<_> = data
        .iter()
        .zip(sizes)
        .map(|(data, (width, height))| PlaneView { data, stride: width, width, height })
        .collect();
    let (matrix, range, siting) = (Matrix::Bt601, ColourRange::Full, Siting::LEFT);
    let mut out = JfifPlanes::default();
    out.convert(&YcbcrView { planes: &views, depth: 8, log2_chroma_w, log2_chroma_h, matrix, range, siting }).unwrap();
    out
}
