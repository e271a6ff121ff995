//! Emits results: their order, their form (files, bytes or JSON lines), and the counts of them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use bucket_streamer::{Error, ErrorKind, OmittedFrames, Result, Video};
use indicatif::ProgressBar;

use super::arguments::ExtractArguments;
use crate::console::{report, say};
use crate::options::Format;
use crate::output::{Destination, FrameLine, OutputRecord};
use crate::selection::RequestedIndex;

/// A worker's result: its place in the output order, the frame, and the record or error.
pub(super) type ExtractedFrame = (u32, u32, Result<OutputRecord>);

pub(super) fn is_write_error(record: &Result<OutputRecord>) -> bool {
    matches!(record.as_ref().map_err(Error::kind), Err(ErrorKind::Write { .. }))
}

/// The order in which results are emitted.
pub(super) enum OutputOrder<'a> {
    /// The order of the requests.
    Requested(&'a [RequestedIndex]),
    /// The order of the decoder.
    Decoder,
}

/// Counts and state of a run so far.
pub(super) struct OutputTally {
    pub(super) done: usize,
    pub(super) failed: usize,
    /// Output cannot continue.
    pub(super) broken: bool,
    pub(super) is_hdr_reported: bool,
    pub(super) bar: ProgressBar,
}

impl Default for OutputTally {
    fn default() -> OutputTally {
        OutputTally { done: 0, failed: 0, broken: false, is_hdr_reported: false, bar: ProgressBar::hidden() }
    }
}

/// Emits results.
pub(super) struct Emitter<'a> {
    pub(super) arguments: &'a ExtractArguments,
    pub(super) video: &'a Video,
    pub(super) destination: &'a Destination,
    pub(super) tally: &'a mut OutputTally,
    /// Set when output cannot continue.
    pub(super) stop: &'a AtomicBool,
}

impl Emitter<'_> {
    /// Emits results in this order until there are no more, or until output cannot continue.
    pub(super) fn collect(&mut self, results: impl IntoIterator<Item = ExtractedFrame>, order: OutputOrder<'_>) {
        // A write error is not reordered: the results before it may never arrive.
        let mut is_over = false;
        let results =
            results.into_iter().take_while(|(_, _, record)| !std::mem::replace(&mut is_over, is_write_error(record)));
        match order {
            OutputOrder::Decoder => self.collect_in_decoder_order(results),
            OutputOrder::Requested(requests) => self.collect_in_request_order(results, requests),
        }
    }

    fn collect_in_decoder_order(&mut self, results: impl Iterator<Item = ExtractedFrame>) {
        let (mut waiting, mut next) = (HashMap::new(), 0);
        for (key, index, record) in results {
            if is_write_error(&record) {
                self.emit(index, &record);
                return;
            }
            waiting.insert(key, (index, record));
            while let Some((index, record)) = waiting.remove(&next) {
                self.emit(index, &record);
                next += 1;
            }
        }
    }

    fn collect_in_request_order(&mut self, results: impl Iterator<Item = ExtractedFrame>, requests: &[RequestedIndex]) {
        let mut uses: HashMap<u32, usize> = HashMap::new();
        requests.iter().flatten().for_each(|index| *uses.entry(*index).or_default() += 1);
        let (mut waiting, mut requests) = (HashMap::new(), requests.iter().peekable());
        for (_, index, record) in results {
            if is_write_error(&record) {
                self.emit(index, &record);
            }
            waiting.insert(index, record);
            self.emit_ready(&mut requests, &mut waiting, &mut uses);
            if self.tally.broken {
                // Returning drops the receiver, which ends the work.
                return;
            }
        }
        if !self.tally.broken {
            // Only a bug leaves a frame without a result; the frames behind it must still be emitted.
            let name = self.video.source().name();
            for index in requests.clone().flatten() {
                let none = || ErrorKind::Still(format!("{name}: frame {index}: no result: this is a bug")).into();
                waiting.entry(*index).or_insert_with(|| Err(none()));
            }
        }
        self.emit_ready(&mut requests, &mut waiting, &mut uses);
    }

    /// Emits requests from the front as long as their results have arrived.
    fn emit_ready<'r>(
        &mut self,
        requests: &mut std::iter::Peekable<impl Iterator<Item = &'r RequestedIndex>>,
        waiting: &mut HashMap<u32, Result<OutputRecord>>,
        uses: &mut HashMap<u32, usize>,
    ) {
        while let Some(request) = requests.peek() {
            match request {
                Err(error) => self.emit_error(None, error),
                Ok(index) => {
                    let Some(record) = waiting.get(index) else { return };
                    self.emit(*index, record);
                    let left = uses.entry(*index).or_insert(1);
                    *left -= 1;
                    if *left == 0 {
                        waiting.remove(index);
                    }
                }
            }
            requests.next();
        }
    }

    fn emit(&mut self, index: u32, record: &Result<OutputRecord>) {
        match record {
            Ok(record) => self.emit_record(record),
            Err(error) => self.emit_error(Some(index), error),
        }
    }

    fn emit_record(&mut self, record: &OutputRecord) {
        self.tally.done += 1;
        self.tally.bar.inc(1);
        let arguments = self.arguments;
        if arguments.json {
            self.write(json(&record.line).as_bytes());
        } else if arguments.format == Format::Framemd5 {
            let (pts, md5) = (record.line.pts.unwrap_or(0), record.line.md5.as_deref().unwrap_or(""));
            let (duration, size) = (record.duration, record.raw_size);
            self.write(format!("0, {pts:>10}, {pts:>10}, {duration:>8}, {size:>8}, {md5}\n").as_bytes());
        } else if *self.destination == Destination::StandardOutput {
            self.write(&record.bytes);
        }
    }

    fn emit_error(&mut self, index: Option<u32>, error: &Error) {
        self.tally.failed += 1;
        self.tally.bar.inc(1);
        if self.arguments.json {
            let known = index.map_or_else(FrameLine::default, |index| FrameLine::of(self.video, index));
            self.write(json(&FrameLine { error: Some(error.message()), ..known }).as_bytes());
        }
        // After output breaks, the first error is enough.
        if !self.tally.broken {
            self.tally.bar.suspend(|| report(error));
        }
        if matches!(error.kind(), ErrorKind::Write { .. }) {
            self.stop();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.tally.broken {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            // A closed pipe is no error: the reader needs no more.
            if error.kind() != io::ErrorKind::BrokenPipe {
                say(&format!("bucket-streamer: standard output: {error}"));
            }
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.tally.broken = true;
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The reason why a sequential decode omitted frames.
pub(super) fn reason(left_out: &OmittedFrames) -> String {
    match (left_out.unreadable.first(), left_out.damage) {
        (Some(error), _) => format!("which could not be read or depend on bytes that could not ({})", error.message()),
        (None, Some(error)) => format!("which could not be decoded ({error})"),
        (None, None) => "which a sequential decode does not show".to_owned(),
    }
}

fn json(line: &FrameLine) -> String {
    serde_json::to_string(line).expect("plain data") + "\n"
}

/// Frame numbers as ranges, at most eight: `0-2, 7`.
pub(crate) fn ranges(frames: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &frame in frames {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == frame => *last = frame,
            _ => ranges.push((frame, frame)),
        }
    }
    let show = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let more = if ranges.len() > 8 { ", ..." } else { "" };
    ranges.iter().take(8).map(show).collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn frame_numbers_are_listed_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 7, 9, 10]), "0-2, 7, 9-10");
        assert_eq!(ranges(&(0..40).step_by(2).collect::<Vec<_>>()), "0, 2, 4, 6, 8, 10, 12, 14, ...");
    }
}
