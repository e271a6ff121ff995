//! What can be typed for `bench http` and `bench ws` alone.

use clap::{Args, ValueEnum};

use super::{BenchArguments, Output, Scenario};

/// Arguments of the clients.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Clients of a server (http, ws)")]
pub(crate) struct ClientArguments {
    /// The video, as the server calls it [default: what the address says, else the first that it has]
    #[arg(long, value_name = "NAME")]
    pub(crate) video_path: Option<String>,
    /// Which frames are asked for, in which order [default: random]
    #[arg(long, value_enum)]
    pub(crate) manner: Option<Manner>,
    /// Width of the stills in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the stills in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// Quality of the stills [default: the server's, with --check 85]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: Option<u8>,
    /// For so many seconds, over and over, instead of each frame once
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) duration: Option<f64>,
    /// An answer that has not come after so many seconds is missing [default: 30]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// Compares every still with what this program makes of this copy of the video: a path or an address
    #[arg(long, value_name = "VIDEO")]
    pub(crate) check: Option<String>,
    /// What becomes of frames that still wait when another one is asked for (ws) [default: fifo]
    #[arg(long, value_enum)]
    pub(crate) order: Option<Order>,
    /// Frames that a connection waits for at the same time (ws) [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) pipeline: Option<u16>,
    /// How a frame is named: by its number, or by its sample's place in the file (ws) [default: frame]
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
    /// With --by offset: a copy of the video that says where samples are [default: that of --check]
    #[arg(long, value_name = "VIDEO")]
    pub(crate) copy: Option<String>,
}

/// Which frames, in which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manner {
    /// As in the scenario random
    #[default]
    Random,
    /// From the first one on
    Sequential,
    /// As in the scenario scrub
    Scrub,
}

/// What becomes of frames that still wait when another one is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// They come first
    #[default]
    Fifo,
    /// They are given up, and the server says so
    Latest,
}

/// How a frame is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// By its number
    #[default]
    Frame,
    /// By the place of its sample in the file
    Offset,
}

/// The quality of `extract`: servers have defaults of their own, which nobody else knows.
const QUALITY: u8 = 85;

impl ClientArguments {
    /// What is asked for, if anything is.
    pub(crate) fn quality(&self) -> Option<u8> {
        self.quality.or_else(|| self.check.is_some().then_some(QUALITY))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.001..=1e6).contains(&seconds) { Ok(seconds) } else { Err("between 0.001 and 1000000 seconds".into()) }
}

/// What does not go together, for the user.
///
/// # Errors
/// Options that would say nothing where they stand.
pub(crate) fn fitting(arguments: &BenchArguments) -> Result<(), String> {
    let client = &arguments.client;
    let refused = |options: &[(bool, &'static str)], why: &str| {
        let option = options.iter().find(|option| option.0);
        option.map_or(Ok(()), |(_, name)| Err(format!("{name} {why}")))
    };
    let only_ws = [
        (client.order.is_some(), "--order"),
        (client.pipeline.is_some(), "--pipeline"),
        (client.by.is_some(), "--by"),
        (client.copy.is_some(), "--copy"),
    ];
    if !arguments.scenario.is_of_server() {
        let both = [
            (client.video_path.is_some(), "--video-path"),
            (client.manner.is_some(), "--manner"),
            (client.width.is_some(), "--width"),
            (client.height.is_some(), "--height"),
            (client.quality.is_some(), "--quality"),
            (client.duration.is_some(), "--duration"),
            (client.timeout.is_some(), "--timeout"),
            (client.check.is_some(), "--check"),
        ];
        return refused(&[&both[..], &only_ws[..]].concat(), "is for http and ws");
    }
    let of_engines = [
        (!arguments.engine.is_empty(), "--engine"),
        (arguments.output != Output::Planes, "--output"),
        (arguments.warm > 0, "--warm"),
        (arguments.checkpoint_memory.is_some(), "--checkpoint-memory"),
        (arguments.checkpoint_spacing.is_some(), "--checkpoint-spacing"),
    ];
    refused(&of_engines, "is for engines, not for http and ws")?;
    if arguments.scenario == Scenario::Http {
        refused(&only_ws, "is for ws")?;
    }
    if arguments.indices.is_some() && client.manner.is_some() {
        return Err("--indices says which frames, --manner cannot".into());
    }
    let is_by_offset = client.by == Some(By::Offset);
    if is_by_offset && client.copy.is_none() && client.check.is_none() {
        return Err("--by offset wants --copy, which says where samples are".into());
    }
    if !is_by_offset && client.copy.is_some() {
        return Err("--copy is for --by offset".into());
    }
    Ok(())
}
