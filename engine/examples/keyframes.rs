//! All key frames of a video. Its index is cached in a folder, so that the next program that opens the video need not
//! build it.
//!
//!     cargo run --release -p bucket-streamer --example keyframes -- https://example.com/cam.mp4 indexes

#![allow(clippy::print_stdout, reason = "an example that prints its results")]

use std::error::Error;

use bucket_streamer::{Engine, IndexCache, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, location, folder] = &arguments[..] else { return Err("usage: keyframes VIDEO FOLDER".into()) };

    let engine = Engine::builder().build();
    // A path, or with the features `remote` and `stores` an address: http(s), s3, gs, az.
    let video = OpenOptions::new().index_cache(Some(IndexCache::open(folder)?)).open(&engine, location)?;
    println!("{} key frames of {}", video.key_frames().len(), video.frame_count());

    // In the order of decoding. A frame that fails does not end the others.
    for (index, frame) in video.keyframes() {
        match frame {
            Ok(frame) => println!("frame {index}: {:.3} s", video.timeline().seconds(frame.pts)),
            Err(error) => println!("frame {index}: {error}"),
        }
    }
    Ok(())
}
