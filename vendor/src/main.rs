//! `scripts/vendor`: fetches, verifies and builds the vendored sources, and prints the paths of the results.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use bucket_streamer_vendor::{VendorError, ensure, ensure_with_http, fetch, pins};

const USAGE: &str = "\
usage: scripts/vendor COMMAND
  list              the pinned sources: version, licence, content checksum, carriers
  fetch             bring and verify all sources (into vendor/sources)
  content NAME DIR  print the content checksum of a source unpacked in DIR
  verify            check the sources that are there
  build             build the sources that the cache lacks, and print the path of the prefix
  path NAME         print a path of the vendored build: ffmpeg, ffprobe, prefix, dav1d;
                    ffmpeg-http: the same ffmpeg built once more, to read over HTTP (bench/remote)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["list"] => list(),
        ["fetch"] => pins::ALL.iter().try_for_each(|pin| fetch::ensure(pin).map(|dir| println!("{}", dir.display()))),
        ["verify"] => pins::ALL.iter().try_for_each(|pin| fetch::verify(pin, &fetch::source_dir(pin))),
        ["content", name, dir] => content(name, dir),
        ["build"] => path("prefix"),
        ["path", name @ ("ffmpeg" | "ffmpeg-http" | "ffprobe" | "prefix" | "dav1d")] => path(name),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vendor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), VendorError> {
    for pin in pins::ALL {
        println!(
            "{} {} ({})\n  {}\n  content sha256 {}",
            pin.name, pin.version, pin.licence, pin.homepage, pin.content_sha256
        );
        for carrier in pin.carriers {
            println!("  {carrier:?}");
        }
    }
    Ok(())
}

/// Prints the content checksum of an unpacked source, for a new pin.
fn content(name: &str, dir: &str) -> Result<(), VendorError> {
    let pin = pins::ALL
        .iter()
        .find(|pin| pin.name == name)
        .ok_or_else(|| VendorError::Unfit(format!("no pin is called {name}")))?;
    println!("{}", fetch::content_sha256(pin, dir.as_ref())?);
    Ok(())
}

fn path(name: &str) -> Result<(), VendorError> {
    let say = &mut |message: &str| eprintln!("vendor: {message}");
    let prefix = if name == "ffmpeg-http" { ensure_with_http(say)? } else { ensure(say)? };
    let path = match name {
        "ffmpeg-http" => prefix.program("ffmpeg"),
        "prefix" => prefix.ffmpeg,
        "dav1d" => prefix.dav1d,
        program => prefix.program(program),
    };
    println!("{}", path.display());
    Ok(())
}
