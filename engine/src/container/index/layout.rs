//! The fields of an index file and their types. `docs/index-format.md` has their meaning; `restore` checks their
//! values.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::column::Column;
use super::identity::Identity;

/// Identifies an index file.
pub(super) const FORMAT: &str = "bucket-streamer index";
/// Incremented when readers of the version before would fail.
pub(super) const VERSION: u32 = 1;

/// The fields of every version.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) made_by: String,
    pub(super) file: Identity,
    pub(super) container: String,
    pub(super) streams: Vec<Stream>,
    pub(super) track: usize,
    pub(super) codec: Parameters,
    pub(super) descriptions: Vec<Blob>,
    /// 0 for Annex B.
    pub(super) nal_length_size: u8,
    pub(super) time_base: [i32; 2],
    pub(super) sample_aspect_ratio: [i32; 2],
    pub(super) samples: Samples,
    pub(super) frames: Column,
    pub(super) parameter_sets: Option<Vec<ParameterSet>>,
    pub(super) transport_stream: Option<TransportStream>,
    pub(super) resident: Resident,
    /// Raw, since this section has a version of its own.
    #[serde(default)]
    pub(super) references: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) number: usize,
    pub(super) kind: String,
    pub(super) codec: String,
    pub(super) size: Option<[usize; 2]>,
    pub(super) track: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parameters {
    pub(super) name: String,
    pub(super) tag: u32,
    pub(super) configuration: Blob,
    pub(super) pixel_format: Option<String>,
    pub(super) bits_per_coded_sample: i32,
    pub(super) bits_per_raw_sample: i32,
    pub(super) profile: i32,
    pub(super) level: i32,
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) sample_aspect_ratio: [i32; 2],
    pub(super) frame_rate: [i32; 2],
    pub(super) field_order: u32,
    pub(super) color: Color,
    pub(super) video_delay: i32,
    pub(super) alpha_mode: u32,
    pub(super) side_data: BTreeMap<String, Vec<i32>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Color {
    pub(super) primaries: u32,
    pub(super) transfer: u32,
    pub(super) matrix: u32,
    pub(super) range: u32,
    pub(super) chroma_location: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Samples {
    pub(super) count: u32,
    pub(super) size: Column,
    /// Distance from the end of the preceding sample.
    pub(super) gap: Column,
    pub(super) pts: Column,
    /// For samples that have one.
    pub(super) dts: Column,
    pub(super) duration: Column,
    pub(super) description: Column,
    pub(super) key: Column,
    pub(super) discard: Column,
    pub(super) silent: Column,
    pub(super) without_dts: Column,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ParameterSet {
    pub(super) sample: u32,
    pub(super) unit: Blob,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TransportStream {
    pub(super) pid: u16,
    pub(super) distance: u64,
    pub(super) samples: Column,
    pub(super) skip: Column,
    pub(super) length: Column,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Resident {
    pub(super) samples: Column,
    pub(super) data: Vec<Blob>,
}

/// Bytes, as base64.
#[derive(Debug)]
pub(super) struct Blob(pub(super) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Blob).map_err(serde::de::Error::custom)
    }
}
