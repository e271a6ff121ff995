//! The cost of correct colours in a still: the conversion to JFIF, libjpeg-turbo's compression, and both, for one
//! picture.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin stills -- VIDEO [FRAME] [ROUNDS]
//!
//! Prints medians, and the least times, which other processes disturb less. The time of both, divided by that of
//! compression alone, should stay below 1.25 for 1080p in BT.709 and 8 bits.

#![allow(clippy::print_stdout, reason = "an example that measures")]

use std::error::Error;
use std::time::Instant;

use bucket_streamer::pixels::{ColourConverter, colour};
use bucket_streamer::still::{StillMaker, StillOptions};
use bucket_streamer::{Frame, process};
use ffi::{JpegEncoder, JpegPlane, JpegSubsampling};

const QUALITY: u8 = 85;

fn main() -> Result<(), Box<dyn Error>> {
    process::dedicate()?;
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: stills VIDEO [FRAME] [ROUNDS]")?;
    let index = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(25), |text| text.parse())?;
    let video = bucket_streamer_bench::engine().threads(1).build().open_path(&name)?;
    let picture = video.frame(index)?.picture;
    let colour = video.colour_options();
    let mut converter = ColourConverter::new();
    let mut planes = Default::default();
    let first = timed(&mut || Ok(converter.to_jfif(&picture, &colour, &mut planes)?))?;
    let views: Vec<_> =
        planes.planes.iter().map(|plane| JpegPlane { data: &plane.data, stride: plane.stride }).collect();
    let (size, subsampling) = ((planes.width, planes.height), subsampling(&picture));
    let options = StillOptions { quality: QUALITY, colour, ..StillOptions::default() };
    let (mut encoder, mut jpeg, mut other) = (JpegEncoder::new()?, StillMaker::new()?, Default::default());
    let (mut bytes, mut more_bytes) = (Vec::new(), Vec::new());
    let [convert, compress, both] = measured(
        rounds,
        [
            &mut || Ok(converter.to_jfif(&picture, &colour, &mut other)?),
            &mut || Ok(encoder.encode(&views, size, subsampling, QUALITY, &mut bytes)?),
            &mut || Ok(jpeg.encode(&picture, &options, &mut more_bytes).map(drop)?),
        ],
    )?;

    let hdr = if colour::is_hdr_picture(&picture) { ", HDR" } else { "" };
    println!("{name}: {}x{} {}{hdr}, quality {QUALITY}", size.0, size.1, picture.format().name());
    println!("the first picture to JFIF {first:.2} ms, with its table");
    for (name, which) in [("median", 0), ("least", 1)] {
        let [convert, compress, both] = [convert, compress, both].map(|times| times[which]);
        let ratio = both / compress;
        println!("{name}: to JFIF {convert:.2} ms, compression {compress:.2} ms, both {both:.2} ms: {ratio:.2} of it");
    }
    Ok(())
}

fn subsampling(picture: &Frame) -> JpegSubsampling {
    match (picture.format().components(), picture.format().chroma_shift()) {
        (1, _) => JpegSubsampling::Gray,
        (_, (0, 0)) => JpegSubsampling::Yuv444,
        (_, (1, 0)) => JpegSubsampling::Yuv422,
        (_, (0, _)) => JpegSubsampling::Yuv440,
        _ => JpegSubsampling::Yuv420,
    }
}

type TimedWork<'a> = &'a mut dyn FnMut() -> Result<(), Box<dyn Error>>;

/// The duration in milliseconds.
fn timed(work: TimedWork<'_>) -> Result<f64, Box<dyn Error>> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The median and the least time of each piece of work over many rounds; a round runs all of them in turn.
fn measured<const N: usize>(rounds: usize, mut works: [TimedWork<'_>; N]) -> Result<[[f64; 2]; N], Box<dyn Error>> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds.max(1) {
        for (work, times) in works.iter_mut().zip(&mut times) {
            times.push(timed(work)?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[0]]
    }))
}
