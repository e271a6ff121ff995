//! The expected stills: those that this program makes of a copy of the video, played from its first sample on.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bucket_streamer::Result;
use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillMaker, StillOptions};
use md5::{Digest, Md5};

use crate::args::{BenchArguments, ClientArguments};
use crate::host::BenchContext;

/// The MD5 of a still.
pub(super) type StillMd5 = [u8; 16];

/// The MD5 of each expected still, by frame.
pub(super) type StillMd5s = HashMap<u32, StillMd5>;

/// The MD5 of a still.
pub(super) fn sum(still: &[u8]) -> StillMd5 {
    Md5::digest(still).into()
}

/// The byte offsets of a frame's sample, and of a sync sample at which decoding may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleOffsets {
    pub(super) offset: u64,
    pub(super) irap_offset: u64,
}

/// The stills of these frames, without those that a sequential decode leaves out or that are damaged.
///
/// # Errors
/// The error that makes the copy unreadable.
pub(super) fn sums(
    copy: &str,
    arguments: &BenchArguments,
    context: &BenchContext,
    frames: &[u32],
) -> Result<StillMd5s> {
    let engine = context.engine.clone().checkpoint_memory(0).build();
    let video = context.opening.open(&engine, copy)?;
    let (ClientArguments { width, height, .. }, quality) = (&arguments.client, arguments.client.quality());
    let usual = video.still_options();
    let shape = Shape { width: *width, height: *height, fit: Fit::Contain };
    let options = StillOptions { shape, quality: quality.unwrap_or(usual.quality), ..usual };
    let requested: BTreeSet<u32> = frames.iter().copied().collect();
    let last = requested.last().copied().unwrap_or(0);
    let (mut maker, mut bytes, mut sums, mut failed) = (StillMaker::new()?, Vec::new(), StillMd5s::new(), Ok(()));
    video.play(&mut |frame| {
        if requested.contains(&frame.index) && !frame.is_corrupt() {
            if let Err(error) = maker.encode(&frame.picture, &options, &mut bytes) {
                failed = Err(error);
                return ControlFlow::Break(());
            }
            sums.insert(frame.index, sum(&bytes));
        }
        // A frame may be shown late, but not later than its GOP.
        if sums.len() == requested.len() || frame.index > last + 1000 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    failed.map(|()| sums)
}

/// The offsets of all frames' samples; none for a sample that an edit list shows more than once, because it would be
/// several frames.
///
/// # Errors
/// The error that makes the copy unreadable.
pub(super) fn sample_offsets(copy: &str, context: &BenchContext) -> Result<Vec<Option<SampleOffsets>>> {
    let engine = context.engine.clone().threads(1).build();
    let video = context.opening.open(&engine, copy)?;
    let (samples, frames) = (&video.track().samples, &video.track().frames);
    let mut times: HashMap<u64, usize> = HashMap::new();
    frames.iter().for_each(|&sample| *times.entry(samples[sample as usize].offset).or_default() += 1);
    let spot = |&sample: &u32| {
        let before = &samples[..=sample as usize];
        let irap = before.iter().rev().find(|sample| sample.key).unwrap_or(&before[0]);
        let offset = samples[sample as usize].offset;
        (times.get(&offset) == Some(&1)).then_some(SampleOffsets { offset, irap_offset: irap.offset })
    };
    Ok(frames.iter().map(spot).collect())
}
