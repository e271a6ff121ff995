//! One frame as a JPEG file.
//!
//!     cargo run --release -p bucket-streamer --example still -- cam.mp4 120 frame.jpg

use std::error::Error;

use bucket_streamer::pixels::Shape;
use bucket_streamer::still::{StillMaker, StillOptions};
use bucket_streamer::{Engine, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, location, index, file] = &arguments[..] else { return Err("usage: still VIDEO FRAME FILE".into()) };

    let engine = Engine::builder().build();
    let video = OpenOptions::new().open(&engine, location)?;
    let frame = video.frame(index.parse()?)?;

    // The container specifies the rotation of its pictures and the width of their pixels; the other options are free.
    let usual = video.still_options();
    let options = StillOptions { quality: 90, shape: Shape { width: Some(640), ..usual.shape }, ..usual };
    let mut jpeg = Vec::new();
    // A maker keeps its buffers: a program that makes many stills has one for each of its threads.
    StillMaker::new()?.encode(&frame.picture, &options, &mut jpeg)?;
    std::fs::write(file, jpeg)?;
    Ok(())
}
