//! The engine's overhead over libavcodec: interleaved rounds, medians and ratios.
//!
//! `cargo run --release -p bucket-streamer-bench --features harness --bin measure -- CLIP [ROUNDS]` decodes the clip from end to end with the engine and with a
//! bare loop over the same packets (same decoder, same threads), and reads all of its samples in three ways: as views of
//! the map, through libavformat over the map, and through libavformat over plain reads of the file.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use bucket_streamer::source::{ByteRange, FileSource, Source};
use bucket_streamer::{Video, process};
use ffi::{Decoder, DecoderOutput, Demuxer, Input, Packet, SendStatus, Threads};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    process::dedicate()?;
    let mut arguments = std::env::args().skip(1);
    let clip = arguments.next().ok_or("usage: measure CLIP [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(7), |rounds| rounds.parse())?;

    let opened = Instant::now();
    let video = bucket_streamer_bench::engine().build().open_path(&clip)?;
    let open_ms = opened.elapsed().as_secs_f64() * 1e3;
    let counted = video.opened_with();
    println!("{clip}: {} samples, opened in {open_ms:.2} ms", video.track().samples.len());
    println!("opening took {} reads of {} bytes in all", counted.requests, counted.bytes);

    for threads in [1, 2] {
        let video = bucket_streamer_bench::engine().threads(threads).build().open_path(&clip)?;
        let (mut engine, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            engine.push(seconds(|| play(&video))?);
            bare.push(seconds(|| bare_loop(&video, threads))?);
        }
        report(&format!("decode all, {threads} thread(s): engine against bare loop"), &engine, &bare);
    }

    let (mut views, mut mapped, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        views.push(seconds(|| read_views(&video))?);
        mapped.push(seconds(|| demux(Box::new(MappedInput(FileSource::open(&clip)?))))?);
        plain.push(seconds(|| demux(Box::new(FileInput::open(&clip)?)))?);
    }
    report("open and demux all packets: AVIO over the map against AVIO over file reads", &mapped, &plain);
    report("read all samples: views of the map against AVIO over file reads", &views, &plain);
    Ok(())
}

fn seconds(run: impl FnOnce() -> Result<usize, Failure>) -> Result<f64, Failure> {
    let started = Instant::now();
    let count = run()?;
    let seconds = started.elapsed().as_secs_f64();
    if count == 0 { Err("nothing was decoded or read".into()) } else { Ok(seconds) }
}

/// Medians of both, and the median, least and greatest of the ratios round by round.
fn report(what: &str, ours: &[f64], other: &[f64]) {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let ratios = sorted(&ours.iter().zip(other).map(|(ours, other)| ours / other).collect::<Vec<_>>());
    let median = |values: &[f64]| values[values.len() / 2];
    println!(
        "{what}: {:.2} ms, {:.2} ms; ratio {:.3} (from {:.3} to {:.3})",
        median(&sorted(ours)) * 1e3,
        median(&sorted(other)) * 1e3,
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

fn play(video: &Video) -> Result<usize, Failure> {
    let mut frames = 0;
    video.play(&mut |_| {
        frames += 1;
        ControlFlow::Continue(())
    })?;
    Ok(frames)
}

/// The least work of decoding these samples: one decoder, packets that are views of the map, nothing else.
fn bare_loop(video: &Video, threads: usize) -> Result<usize, Failure> {
    let track = video.track();
    let threads = if threads == 1 { Threads::One } else { Threads::Frame(threads) };
    let mut decoder = Decoder::open(&track.parameters, threads, false)?;
    let mut frames = 0;
    let mut take = |decoder: &mut Decoder| {
        while let Ok(DecoderOutput::Picture(_)) = decoder.receive() {
            frames += 1;
        }
    };
    for (index, sample) in (0..).zip(&track.samples) {
        let range = ByteRange { start: sample.offset, len: u64::from(sample.size) };
        let packet = Packet::new(&video.source().read_padded(range)?, index, Some(sample.pts))?;
        while decoder.send(&packet)? == SendStatus::Full {
            take(&mut decoder);
        }
        take(&mut decoder);
    }
    decoder.send_end()?;
    take(&mut decoder);
    Ok(frames)
}

fn read_views(video: &Video) -> Result<usize, Failure> {
    let mut sum = 0;
    for sample in &video.track().samples {
        let range = ByteRange { start: sample.offset, len: u64::from(sample.size) };
        sum += touch(video.source().read_padded(range)?.data());
    }
    Ok(sum)
}

/// Reads a byte of every cache line: a decoder reads at least as much.
fn touch(data: &[u8]) -> usize {
    data.iter().step_by(64).fold(1, |sum: usize, &byte| sum.wrapping_add(usize::from(byte))).max(1)
}

fn demux(input: Box<dyn Input>) -> Result<usize, Failure> {
    let mut demuxer = Demuxer::open(input, "mov,matroska,mpegts,hevc,h264,ivf,obu,av1")?;
    demuxer.keep_only(Some(0));
    let mut sum = 0;
    while let Some(packet) = demuxer.read()? {
        sum += touch(packet.packet.data());
    }
    Ok(sum)
}

struct MappedInput(FileSource);

impl Input for MappedInput {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let len = (into.len() as u64).min(self.0.len().saturating_sub(offset));
        let bytes = self.0.read(ByteRange { start: offset, len }).map_err(io::Error::other)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

struct FileInput(File, u64);

impl FileInput {
    fn open(path: &str) -> io::Result<FileInput> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(FileInput(file, len))
    }
}

impl Input for FileInput {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }
}
