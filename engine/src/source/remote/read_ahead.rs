//! Predicts a reader's next range: a growing window for sequential reads, nothing for random access. Fetching is left
//! to `http`.

use crate::source::ByteRange;

/// The sequential prefetcher of one reader; it observes reads that miss.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Ranges are rounded to multiples of this.
    block: u64,
    /// The first and the largest window.
    first: u64,
    most: u64,
    /// A gap that does not end a sequence.
    gap: u64,
    /// The current sequence of reads, and its window.
    begin: u64,
    next: u64,
    window: u64,
}

impl ReadAhead {
    /// For a reader that has the first `next` bytes.
    pub(super) fn new(block: u64, first: u64, most: u64, gap: u64, next: u64) -> ReadAhead {
        ReadAhead { block: block.max(1), first, most, gap, begin: 0, next, window: first }
    }

    /// The range to fetch for a read of `range`, which is not in memory.
    pub(super) fn miss(&mut self, range: ByteRange) -> ByteRange {
        let continues = (self.begin..=self.next.saturating_add(self.gap)).contains(&range.start);
        if continues && range.end() > self.next {
            self.window = (2 * self.window).min(self.most);
            self.next = range.end().max(self.next + self.window).next_multiple_of(self.block);
            return ByteRange { start: range.start, len: self.next - range.start };
        }
        self.begin = range.start - range.start % self.block;
        self.next = range.end().next_multiple_of(self.block);
        self.window = self.first;
        ByteRange { start: self.begin, len: self.next - self.begin }
    }

    /// The range to fetch after a read of `range`, before the next miss. `None` until a sequence has continued twice.
    pub(super) fn pass(&mut self, range: ByteRange) -> Option<ByteRange> {
        let is_in_run = self.begin <= range.start && range.end() <= self.next;
        if self.window < 4 * self.first || !is_in_run || self.next - range.end() > self.window / 2 {
            return None;
        }
        self.window = (2 * self.window).min(self.most);
        let ahead = ByteRange { start: self.next, len: self.window };
        self.next = ahead.end();
        Some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::ReadAhead;
    use crate::source::ByteRange;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, len: end - start }
    }

    #[test]
    fn sequential_reads_grow_the_window_and_a_jump_reads_one_block() {
        let mut ahead = ReadAhead::new(100, 100, 500, 50, 100);
        assert_eq!(ahead.miss(range(100, 130)), range(100, 300), "behind what was read at first");
        assert_eq!(ahead.pass(range(130, 290)), None, "once is not enough");
        assert_eq!(ahead.miss(range(310, 340)), range(310, 700), "with a gap");
        assert_eq!(ahead.pass(range(340, 490)), None, "far from the end");
        assert_eq!(ahead.pass(range(490, 510)), Some(range(700, 1200)), "not more than that");
        assert_eq!(ahead.miss(range(5010, 5020)), range(5000, 5100));
        assert_eq!(ahead.pass(range(5090, 5100)), None, "one jump is no sequence");
        assert_eq!(ahead.miss(range(9010, 9120)), range(9000, 9200));
        assert_eq!(ahead.miss(range(9050, 9060)), range(9000, 9100), "evicted and read again: no sequence");
    }
}
