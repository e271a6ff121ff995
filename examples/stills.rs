//! What true colours cost a still: the way to JFIF, libjpeg-turbo's compression, and both, for one picture.
//!
//!     cargo run --release --example stills -- VIDEO [FRAME] [ROUNDS]
//!
//! Times are medians of processor time of this thread, so that others on the machine disturb less. The last column is
//! what `docs/colour.md` promises to keep below 1.25 for BT.709 in 8 bits.

#![allow(clippy::print_stdout, reason = "an example that measures")]

use std::error::Error;

use bucket_streamer::picture::{ColourConverter, StillMaker, StillOptions, colour};
use bucket_streamer::{Engine, Frame};
use ffi::{JpegEncoder, JpegPlane, JpegSubsampling};
use nix::sys::resource::{UsageWho, getrusage};

const QUALITY: u8 = 85;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: stills VIDEO [FRAME] [ROUNDS]")?;
    let index = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(25), |text| text.parse())?;
    let video = Engine::new(Some(1)).open_path(&name)?;
    let picture = video.frame(index)?.picture;
    let colour = video.colour_options();
    let mut converter = ColourConverter::new();
    let mut planes = Default::default();
    let first = timed(|| Ok(converter.to_jfif(&picture, &colour, &mut planes)?))?;
    let convert = median(rounds, || Ok(converter.to_jfif(&picture, &colour, &mut planes)?))?;

    let (mut encoder, mut bytes) = (JpegEncoder::new()?, Vec::new());
    let views: Vec<_> =
        planes.planes.iter().map(|plane| JpegPlane { data: &plane.data, stride: plane.stride }).collect();
    let (size, subsampling) = ((planes.width, planes.height), subsampling(&picture));
    let compress = median(rounds, || Ok(encoder.encode(&views, size, subsampling, QUALITY, &mut bytes)?))?;

    let (mut jpeg, options) =
        (StillMaker::new()?, StillOptions { quality: QUALITY, colour, ..StillOptions::default() });
    jpeg.encode(&picture, &options, &mut bytes)?;
    let both = median(rounds, || Ok(jpeg.encode(&picture, &options, &mut bytes).map(drop)?))?;

    let hdr = if colour::is_hdr_picture(&picture) { ", HDR" } else { "" };
    println!("{name}: {}x{} {}{hdr}, quality {QUALITY}", size.0, size.1, picture.format().name());
    println!("the first picture to JFIF {first:.2} ms, with its table");
    println!("to JFIF {convert:.2} ms, compression {compress:.2} ms, both {both:.2} ms: {:.2} of it", both / compress);
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

/// Milliseconds of processor time.
fn timed(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let now = || -> Result<f64, Box<dyn Error>> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        Ok((user.tv_sec() + system.tv_sec()) as f64 * 1e3 + (user.tv_usec() + system.tv_usec()) as f64 / 1e3)
    };
    let begin = now()?;
    work()?;
    Ok(now()? - begin)
}

fn median(rounds: usize, mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = (0..rounds.max(1)).map(|_| timed(&mut work)).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
