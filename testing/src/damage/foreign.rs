//! Detects foreign pixels: parts of another video in a picture that its own video does not have.

use std::collections::HashSet;

use bucket_streamer::Frame;

/// Bytes of a row that are compared.
const RUN: usize = 16;
/// Least number of values in a recognisable run, and least difference between its extremes. Every other byte only: the
/// high bytes of deep samples vary little.
const VALUES: usize = 4;
const SPREAD: u8 = 32;

/// Runs of bytes of one video, at any offset: a block of 31 bytes or more contains one at a multiple of 16, at any
/// place in a picture.
#[derive(Debug, Default)]
pub struct ForeignPixels(HashSet<u128>);

impl ForeignPixels {
    /// Adds the runs of a picture of the other video.
    pub fn add(&mut self, picture: &Frame) {
        rows(picture, |_, _, row| self.add_row(row));
    }

    /// Removes the runs of a picture of the victim.
    pub fn except(&mut self, picture: &Frame) {
        rows(picture, |_, _, row| self.except_row(row));
    }

    /// Positions in a picture with content of the other video: plane, row and byte in the row.
    pub fn find(&self, picture: &Frame) -> Vec<(usize, usize, usize)> {
        let mut found = Vec::new();
        rows(picture, |plane, number, row| {
            found.extend(self.find_in_row(row).map(|at| (plane, number, at)));
        });
        found
    }

    /// The number of distinct runs that are recognisable; 0 if nothing can be detected.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn add_row(&mut self, row: &[u8]) {
        self.0.extend(row.windows(RUN).filter(|run| is_recognisable(run)).map(key));
    }

    fn except_row(&mut self, row: &[u8]) {
        row.windows(RUN).for_each(|run| _ = self.0.remove(&key(run)));
    }

    fn find_in_row<'a>(&'a self, row: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let is_foreign = |(_, run): &(usize, &[u8])| self.0.contains(&key(run));
        row.chunks_exact(RUN).enumerate().filter(is_foreign).map(|(at, _)| at * RUN)
    }
}

fn rows(picture: &Frame, mut each: impl FnMut(usize, usize, &[u8])) {
    for index in 0..picture.planes() {
        if let Some(plane) = picture.plane(index) {
            plane.rows().enumerate().for_each(|(number, row)| each(index, number, row));
        }
    }
}

fn is_recognisable(run: &[u8]) -> bool {
    let mut values: Vec<u8> = run.iter().step_by(2).copied().collect();
    values.sort_unstable();
    let spread = values[values.len() - 1] - values[0];
    values.dedup();
    values.len() >= VALUES && spread >= SPREAD
}

fn key(run: &[u8]) -> u128 {
    run.iter().fold(0, |key, &byte| key << 8 | u128::from(byte))
}

/// Asserts that the detection finds planted pixels and ignores others. `engine/tests/damage/` calls it.
pub fn check_that_detection_can_fail() {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..320).map(|_| random.u8(..)).collect();
    let own: Vec<u8> = (0..320).map(|_| random.u8(..)).collect();
    let mut foreign = ForeignPixels::default();
    foreign.add_row(&noise);
    foreign.add_row(&own);
    foreign.add_row(&[128; 320]);
    foreign.except_row(&own);
    assert_eq!(foreign.find_in_row(&own).count(), 0, "what a victim has by itself");
    assert_eq!(foreign.find_in_row(&[128; 320]).count(), 0, "a single grey is not recognisable");
    assert_eq!(foreign.find_in_row(&noise).count(), 20, "all of a row");
    let mut shifted = own.clone();
    shifted[37..37 + 31].copy_from_slice(&noise[101..101 + 31]);
    assert_eq!(foreign.find_in_row(&shifted).collect::<Vec<_>>(), [48], "31 bytes of it at another place");
}
