//! The containers that this crate reads. Parsing is left to libavformat.

use std::fmt;

/// A supported container format, as libavformat detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// MP4, QuickTime and related formats (ISO/IEC 14496-12).
    Mp4,
    /// Matroska and WebM.
    Matroska,
    /// An MPEG-2 transport stream.
    MpegTs,
    /// A raw H.265 or H.264 byte stream.
    AnnexB,
    /// IVF, of VP9 or AV1.
    Ivf,
    /// A low-overhead byte stream of AV1 OBUs (AV1 specification, 5.2).
    Obu,
    /// AV1's length-delimited byte stream (AV1 specification, Annex B).
    Av1,
}

impl Container {
    const ALL: [Container; 7] = [
        Container::Mp4,
        Container::Matroska,
        Container::MpegTs,
        Container::AnnexB,
        Container::Ivf,
        Container::Obu,
        Container::Av1,
    ];

    /// The name in index files and in the records of `info`: `mp4`, `matroska`, `mpegts`, `annexb`, `ivf`, `obu`,
    /// `av1`.
    pub fn name(self) -> &'static str {
        match self {
            Container::Mp4 => "mp4",
            Container::Matroska => "matroska",
            Container::MpegTs => "mpegts",
            Container::AnnexB => "annexb",
            Container::Ivf => "ivf",
            Container::Obu => "obu",
            Container::Av1 => "av1",
        }
    }

    /// The container with this name; `None` for other names. The inverse of [`Container::name`].
    pub fn from_name(name: &str) -> Option<Container> {
        Container::ALL.into_iter().find(|container| container.name() == name)
    }

    /// The container of an FFmpeg demuxer that reads packet by packet: one in `FORMATS` other than `mov`.
    pub(super) fn of_demuxer(name: &str) -> Option<Container> {
        match name {
            "matroska,webm" => Some(Container::Matroska),
            "hevc" | "h264" => Some(Container::AnnexB),
            other => Container::from_name(other).filter(|&container| container != Container::Mp4),
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Container;

    #[test]
    fn names_are_those_of_the_index_format() {
        let names = ["mp4", "matroska", "mpegts", "annexb", "ivf", "obu", "av1"];
        assert_eq!(Container::ALL.map(Container::name), names);
        assert_eq!(names.map(Container::from_name), Container::ALL.map(Some));
        assert_eq!(Container::from_name("mov"), None);
        let of = ["matroska,webm", "mpegts", "hevc", "h264", "ivf", "obu", "av1", "mp4"].map(Container::of_demuxer);
        let expected = [Container::Matroska, Container::MpegTs, Container::AnnexB, Container::AnnexB];
        assert_eq!(of[..4], expected.map(Some));
        assert_eq!(of[4..], [Some(Container::Ivf), Some(Container::Obu), Some(Container::Av1), None]);
    }
}
