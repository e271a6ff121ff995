//! The engines that can be measured, and the reasons why one is not available.

use bucket_streamer::{Device, DeviceChoice, Error, ErrorKind};

use super::args::EngineName;
use super::ffmpeg_cli::{FfmpegCli, FfmpegMode};
use super::setup::RequestLoad;

/// An engine that runs rounds, or the reason why it is absent.
pub(crate) enum Contender {
    OwnEngine(EngineName),
    FfmpegCli(FfmpegCli, FfmpegMode),
    Absent(String),
}

impl Contender {
    pub(crate) fn of(name: EngineName, load: RequestLoad) -> Contender {
        let peer = |way| FfmpegCli::find().map_or_else(Contender::Absent, |peer| Contender::FfmpegCli(peer, way));
        match name {
            EngineName::Cpu | EngineName::FromKey => Contender::OwnEngine(name),
            EngineName::Nvdec => match Device::open(DeviceChoice::Nvdec(0)) {
                Ok(_) => Contender::OwnEngine(name),
                Err(error) => Contender::Absent(why_not(&error)),
            },
            EngineName::FfmpegCli => peer(FfmpegMode::PerRequest),
            EngineName::FfmpegPass if load != RequestLoad::default() => {
                Contender::Absent("one process cannot serve several callers, or a rate".into())
            }
            EngineName::FfmpegPass => peer(FfmpegMode::SinglePass),
        }
    }

    pub(crate) fn version(&self) -> Option<String> {
        match self {
            Contender::FfmpegCli(peer, _) => Some(peer.version.clone()),
            _ => None,
        }
    }
}

/// The reason why the GPU is not available, in the driver's words.
fn why_not(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Device(why) => why.clone(),
        _ => error.to_string(),
    }
}
