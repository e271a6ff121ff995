//! The frames of a training sample as planes with their times: COUNT of them from START on, at FRAMES_PER_SECOND.
//!
//!     cargo run --release -p bucket-streamer --example batch -- cam.mp4 12.5 16 4

#![allow(clippy::print_stdout, reason = "an example that prints its results")]

use std::error::Error;

use bucket_streamer::time::{self, Nanos};
use bucket_streamer::{Engine, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, location, start, count, rate] = &arguments[..] else {
        return Err("usage: batch VIDEO START COUNT FRAMES_PER_SECOND".into());
    };
    let (start, count, rate): (Nanos, u32, f64) = (time::parse(start)?, count.parse()?, rate.parse()?);

    let engine = Engine::builder().build();
    let video = OpenOptions::new().open(&engine, location)?;

    // The frame on display at each time; past the end of the video it is the last one.
    let times = (0..count).map(|number| Nanos(start.0 + (f64::from(number) * 1e9 / rate) as i64));
    let indices = times.map(|time| video.index_at(time, true)).collect::<bucket_streamer::Result<Vec<u32>>>()?;

    // One request for all: pictures that several of the frames refer to are decoded once.
    for frame in video.frames_in_order(indices) {
        let frame = frame?;
        // Rows are in the decoder's buffer; a copy is made only here, without the gaps between rows.
        let planes: Vec<Vec<u8>> = frame.planes().map(|plane| plane.rows().flatten().copied().collect()).collect();
        let (time, sizes) = (video.timeline().seconds(frame.pts), planes.iter().map(Vec::len).collect::<Vec<_>>());
        println!("{time:.3} s: frame {}, {:?}, planes of {sizes:?} bytes", frame.index, frame.format());
    }
    Ok(())
}
