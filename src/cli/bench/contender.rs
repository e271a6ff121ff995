//! Who can be measured, and why somebody cannot.

use super::args::EngineName;
use super::peer::{Peer, Way};
use super::setup::Load;

/// Who makes rounds.
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
            EngineName::Nvdec => Contender::Absent(no_nvdec()),
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

/// Why frames cannot come from the graphics card.
fn no_nvdec() -> String {
    match ffi::missing_library(&["libcuda.so.1", "libnvcuvid.so.1"]) {
        Some(library) => format!("no {}", library.trim_end_matches(".so.1")),
        None => "not built: this version decodes on the CPU only".into(),
    }
}
