//! The engines that can be measured, and why one is not available.

use bucket_streamer::{Device, DeviceChoice, Error, ErrorKind};

use super::args::EngineName;
use super::peer::{Peer, Way};
use super::setup::Load;

/// An engine that makes rounds, or the reason why it is absent.
pub(crate) enum Contender {
    Ours(EngineName),
    Peer(Peer, Way),
    Absent(String),
}

impl Contender {
    pub(crate) fn of(name: EngineName, load: Load) -> Contender {
        let peer = |way| Peer::find().map_or_else(Contender::Absent, |peer| Contender::Peer(peer, way));
        match name {
            EngineName::Cpu | EngineName::FromKey => Contender::Ours(name),
            EngineName::Nvdec => match Device::open(DeviceChoice::Nvdec(0)) {
                Ok(_) => Contender::Ours(name),
                Err(error) => Contender::Absent(why_not(&error)),
            },
            EngineName::FfmpegCli => peer(Way::AsAsked),
            EngineName::FfmpegPass if load != Load::default() => {
                Contender::Absent("one process cannot be asked by several callers, or at a rate".into())
            }
            EngineName::FfmpegPass => peer(Way::OnePass),
        }
    }

    pub(crate) fn version(&self) -> Option<String> {
        match self {
            Contender::Peer(peer, _) => Some(peer.version.clone()),
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
