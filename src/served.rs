//! What a server keeps with a video: made once, gone with it.

use std::sync::OnceLock;

use crate::container::Sample;

/// What a server has found out about a video.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// What tells this version of the video from all others of its name.
    pub(crate) tag: OnceLock<u128>,
    by_offset: OnceLock<ByOffset>,
}

/// Samples by where they begin in the file.
#[derive(Debug, PartialEq, Eq)]
enum ByOffset {
    /// As in decode order, each after the one before.
    Ascending,
    /// In this order; those that begin at the same byte in decode order.
    Sorted(Box<[u32]>),
}

impl Served {
    /// Finds out where samples lie, unless somebody has.
    pub(crate) fn look_at(&self, samples: &[Sample]) {
        self.order(samples);
    }

    fn order(&self, samples: &[Sample]) -> &ByOffset {
        self.by_offset.get_or_init(|| ByOffset::of(samples))
    }

    /// The samples of a video that begin at bytes `first..end`, by where they begin. In a transport stream several may
    /// begin in one packet. Nothing is searched from end to end, but for the first time that somebody asks.
    pub(crate) fn samples_within<'a>(
        &'a self,
        samples: &'a [Sample],
        first: u64,
        end: u64,
    ) -> impl DoubleEndedIterator<Item = u32> + 'a {
        let order = self.order(samples);
        let (first, end) = (order.before(samples, first), order.before(samples, end));
        (first..end.max(first)).map(|place| match order {
            ByOffset::Ascending => place as u32,
            ByOffset::Sorted(order) => order[place],
        })
    }

    /// The last sample in decode order that begins at one of the bytes `first..end`.
    pub(crate) fn last_within(&self, samples: &[Sample], first: u64, end: u64) -> Option<u32> {
        let mut within = self.samples_within(samples, first, end);
        match self.order(samples) {
            ByOffset::Ascending => within.next_back(),
            ByOffset::Sorted(_) => within.max(),
        }
    }
}

impl ByOffset {
    fn of(samples: &[Sample]) -> ByOffset {
        if samples.is_sorted_by(|a, b| a.offset < b.offset) {
            return ByOffset::Ascending;
        }
        let mut order: Box<[u32]> = (0..samples.len() as u32).collect();
        order.sort_unstable_by_key(|&sample| (samples[sample as usize].offset, sample));
        ByOffset::Sorted(order)
    }

    /// How many samples begin before a byte.
    fn before(&self, samples: &[Sample], byte: u64) -> usize {
        match self {
            ByOffset::Ascending => samples.partition_point(|sample| sample.offset < byte),
            ByOffset::Sorted(order) => order.partition_point(|&sample| samples[sample as usize].offset < byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ByOffset, Served};
    use crate::container::Sample;

    #[test]
    fn samples_are_found_by_where_they_begin_in_whatever_order_they_lie() {
        let sample = |&offset: &u64| Sample {
            offset,
            size: 1,
            description: 0,
            key: false,
            discard: false,
            silent: false,
            pts: 0,
            dts: None,
            duration: 0,
        };
        for offsets in [&[10, 20, 30, 40][..], &[30, 10, 40, 20], &[10, 10, 30, 30, 30, 5], &[7], &[]] {
            let samples: Vec<Sample> = offsets.iter().map(sample).collect();
            let served = Served::default();
            for first in 0..45 {
                for end in [0, first, first + 1, first + 15, 50] {
                    let mut expected: Vec<u32> = (0..offsets.len() as u32).collect();
                    expected.retain(|&sample| (first..end).contains(&offsets[sample as usize]));
                    assert_eq!(served.last_within(&samples, first, end), expected.last().copied());
                    expected.sort_by_key(|&sample| offsets[sample as usize]);
                    assert_eq!(served.samples_within(&samples, first, end).collect::<Vec<_>>(), expected);
                }
            }
            let is_ascending = offsets.is_sorted_by(|a, b| a < b);
            assert_eq!(served.by_offset.get() == Some(&ByOffset::Ascending), is_ascending);
        }
    }
}
