//! Samples by their byte offset in the file, for requests by byte offsets.

use bucket_streamer::container::Sample;

/// The samples of a track, sorted by their byte offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SampleOrder {
    /// The same as decode order, because offsets increase strictly.
    Ascending,
    /// Numbers of samples in the order of offsets; those with the same offset in decode order.
    Sorted(Box<[u32]>),
}

impl SampleOrder {
    /// Sorts all samples of a track. Takes no memory if they are sorted already.
    pub(crate) fn of(samples: &[Sample]) -> SampleOrder {
        if samples.is_sorted_by(|a, b| a.offset < b.offset) {
            return SampleOrder::Ascending;
        }
        let mut order: Box<[u32]> = (0..samples.len() as u32).collect();
        order.sort_unstable_by_key(|&sample| (samples[sample as usize].offset, sample));
        SampleOrder::Sorted(order)
    }

    /// The samples that begin at the bytes `first..end`, sorted by their offsets, from a binary search. In a transport
    /// stream several samples may begin in one packet and share its offset.
    pub(crate) fn samples_within<'a>(
        &'a self,
        samples: &'a [Sample],
        first: u64,
        end: u64,
    ) -> impl DoubleEndedIterator<Item = u32> + 'a {
        let (first, end) = (self.before(samples, first), self.before(samples, end));
        (first..end.max(first)).map(|place| match self {
            SampleOrder::Ascending => place as u32,
            SampleOrder::Sorted(order) => order[place],
        })
    }

    /// The last sample in decode order that begins at one of the bytes `first..end`.
    pub(crate) fn last_within(&self, samples: &[Sample], first: u64, end: u64) -> Option<u32> {
        let mut within = self.samples_within(samples, first, end);
        match self {
            SampleOrder::Ascending => within.next_back(),
            SampleOrder::Sorted(_) => within.max(),
        }
    }

    /// The number of samples that begin before a byte.
    fn before(&self, samples: &[Sample], byte: u64) -> usize {
        match self {
            SampleOrder::Ascending => samples.partition_point(|sample| sample.offset < byte),
            SampleOrder::Sorted(order) => order.partition_point(|&sample| samples[sample as usize].offset < byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SampleOrder;
    use bucket_streamer::container::Sample;

    #[test]
    fn samples_in_any_order_are_found_by_their_offset() {
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
            let order = SampleOrder::of(&samples);
            for first in 0..45 {
                for end in [0, first, first + 1, first + 15, 50] {
                    let mut expected: Vec<u32> = (0..offsets.len() as u32).collect();
                    expected.retain(|&sample| (first..end).contains(&offsets[sample as usize]));
                    assert_eq!(order.last_within(&samples, first, end), expected.last().copied());
                    expected.sort_by_key(|&sample| offsets[sample as usize]);
                    assert_eq!(order.samples_within(&samples, first, end).collect::<Vec<_>>(), expected);
                }
            }
            let is_ascending = offsets.is_sorted_by(|a, b| a < b);
            assert_eq!((order == SampleOrder::Ascending), is_ascending);
        }
    }
}
