//! The arguments of `bench http` and `bench ws` alone.

use clap::{Args, ValueEnum};

use super::{BenchArguments, Output, Scenario};

/// Arguments of the clients.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Clients of a server (http, ws)")]
pub(crate) struct ClientArguments {
    /// The video's name on the server [default: the address's, else the server's first video]
    #[arg(long, value_name = "NAME")]
    pub(crate) video_path: Option<String>,
    /// Frames to request, and their order [default: random]
    #[arg(long, value_enum)]
    pub(crate) manner: Option<RequestPattern>,
    /// Width of the stills in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) width: Option<u32>,
    /// Height of the stills in pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub(crate) height: Option<u32>,
    /// Quality of the stills [default: the server's, with --check 85]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: Option<u8>,
    /// Repeat the requests for this many seconds, instead of each frame once
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) duration: Option<f64>,
    /// Count a response as missing after this many seconds [default: 30]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// Compare every still with this program's own from this copy of the video: a path or an address
    #[arg(long, value_name = "VIDEO")]
    pub(crate) check: Option<String>,
    /// Handling of frames that still wait when another one is requested (ws) [default: fifo]
    #[arg(long, value_enum)]
    pub(crate) order: Option<QueuePolicy>,
    /// Frames that a connection waits for at the same time (ws) [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) pipeline: Option<u16>,
    /// Name frames by number, or by the byte offset of their samples (ws) [default: frame]
    #[arg(long, value_enum)]
    pub(crate) by: Option<FrameAddressing>,
    /// With --by offset: a copy of the video, to find the offsets [default: that of --check]
    #[arg(long, value_name = "VIDEO")]
    pub(crate) copy: Option<String>,
}

/// The requested frames, and their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RequestPattern {
    /// As in the scenario random
    #[default]
    Random,
    /// From the first frame on
    Sequential,
    /// As in the scenario scrub
    Scrub,
}

/// The handling of frames that still wait when another one is requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueuePolicy {
    /// Answer them first
    #[default]
    Fifo,
    /// Drop them; the server reports that
    Latest,
}

/// The name of a frame in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FrameAddressing {
    /// By its number
    #[default]
    Frame,
    /// By the byte offset of its sample
    Offset,
}

/// The quality of `extract`: clients do not know a server's default.
const QUALITY: u8 = 85;

impl ClientArguments {
    /// The quality to request, if any.
    pub(crate) fn quality(&self) -> Option<u8> {
        self.quality.or_else(|| self.check.is_some().then_some(QUALITY))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.001..=1e6).contains(&seconds) { Ok(seconds) } else { Err("must be between 0.001 and 1000000 seconds".into()) }
}

/// Checks that the options fit together.
///
/// # Errors
/// Options without effect for this scenario.
pub(crate) fn check_options(arguments: &BenchArguments) -> Result<(), String> {
    let client = &arguments.client;
    let reject = |options: &[(bool, &'static str)], why: &str| {
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
        return reject(&[&both[..], &only_ws[..]].concat(), "applies to http and ws only");
    }
    let of_engines = [
        (!arguments.engine.is_empty(), "--engine"),
        (arguments.output != Output::Planes, "--output"),
        (arguments.warm > 0, "--warm"),
        (arguments.checkpoint_memory.is_some(), "--checkpoint-memory"),
        (arguments.checkpoint_spacing.is_some(), "--checkpoint-spacing"),
    ];
    reject(&of_engines, "applies to engines, not to http and ws")?;
    if arguments.scenario == Scenario::Http {
        reject(&only_ws, "applies to ws only")?;
    }
    if arguments.indices.is_some() && client.manner.is_some() {
        return Err("--indices and --manner both select frames: use one of them".into());
    }
    let is_by_offset = client.by == Some(FrameAddressing::Offset);
    if is_by_offset && client.copy.is_none() && client.check.is_none() {
        return Err("--by offset needs --copy, to find the offsets of samples".into());
    }
    if !is_by_offset && client.copy.is_some() {
        return Err("--copy needs --by offset".into());
    }
    Ok(())
}
