//! Converts JFIF planes to 4:2:0, for WebP files and contact sheets.

use super::planes::{JfifPlanes, Plane};

/// Fills `out` with `source` in 4:2:0; grey gets neutral chroma. Each chroma sample becomes the mean of those in its
/// square of luma.
pub(crate) fn to_420(source: &JfifPlanes, out: &mut JfifPlanes) {
    let halve = (1 - source.log2_chroma_w, 1 - source.log2_chroma_h);
    out.reshape(source.width, source.height, 3, 1, 1);
    for (index, to) in out.planes.iter_mut().enumerate() {
        match source.planes.get(index) {
            Some(from) if index == 0 => (0..to.height).for_each(|y| to.row_mut(y).copy_from_slice(from.row(y))),
            Some(from) => average(from, halve, to),
            None => to.data.fill(128),
        }
    }
    out.repeat_edges();
}

fn average(from: &Plane, (halve_x, halve_y): (u8, u8), to: &mut Plane) {
    for y in 0..to.height {
        let upper = from.row(y << halve_y);
        let lower = from.row(((y << halve_y) + usize::from(halve_y)).min(from.height - 1));
        let sum = |x: usize| u16::from(upper[x]) + u16::from(lower[x]);
        for (x, out) in to.row_mut(y).iter_mut().enumerate() {
            let left = x << halve_x;
            let right = (left + usize::from(halve_x)).min(from.width - 1);
            *out = ((sum(left) + sum(right) + 2) / 4) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::planes;
    use super::*;

    #[test]
    fn chroma_becomes_means() {
        for size in [(1, 1), (3, 5), (16, 2), (33, 21)] {
            for subsampling in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let source = planes(size, Some(subsampling), |plane, x, y| (plane * 40 + 3 * x + 5 * y) as u8);
                let mut out = JfifPlanes::default();
                to_420(&source, &mut out);
                out.check().unwrap();
                assert_eq!((out.log2_chroma_w, out.log2_chroma_h), (1, 1));
                assert_eq!(out.planes[0].row(size.1 - 1), source.planes[0].row(size.1 - 1));
                let from = &source.planes[2];
                let at = |x: usize, y: usize| u32::from(from.row(y.min(from.height - 1))[x.min(from.width - 1)]);
                for (x, y) in (0..out.planes[2].width).flat_map(|x| (0..out.planes[2].height).map(move |y| (x, y))) {
                    let (wide, high) = (2 - usize::from(subsampling.0), 2 - usize::from(subsampling.1));
                    let places = (0..4).map(|i| at(x * wide + (i % 2).min(wide - 1), y * high + (i / 2).min(high - 1)));
                    assert_eq!(u32::from(out.planes[2].row(y)[x]), (places.sum::<u32>() + 2) / 4);
                }
            }
        }
    }

    #[test]
    fn grey_has_no_colour() {
        let mut out = planes((9, 9), Some((0, 0)), |_, _, _| 1);
        to_420(&planes((5, 3), None, |_, x, _| x as u8), &mut out);
        out.check().unwrap();
        assert_eq!(out.planes[0].row(2), [0, 1, 2, 3, 4]);
        assert!(out.planes[1..].iter().all(|plane| plane.data.iter().all(|&v| v == 128)));
    }
}
