//! The device that decodes pictures.

use bucket_streamer::DeviceChoice;
use clap::Args;

/// `--device`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeviceOption {
    /// Device for decoding: the CPU, an NVIDIA GPU, or the one that takes less time
    #[arg(long, value_name = "auto|cpu|nvdec[:N]", default_value = "cpu")]
    pub(crate) device: DeviceName,
}

/// The device, as it is typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceName(pub(crate) DeviceChoice);

impl std::str::FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceName, String> {
        text.parse().map(DeviceName)
    }
}

#[cfg(feature = "server")]
impl<'de> serde::Deserialize<'de> for DeviceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DeviceName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
