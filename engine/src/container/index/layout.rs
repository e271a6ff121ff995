//! The fields of an index file and their types. `docs/index-format.md` describes their meaning; `restore` checks their
//! values.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::column::RunLengthColumn;
use super::identity::ContentIdentity;

/// Identifies an index file.
pub(super) const FORMAT: &str = "bucket-streamer index";
/// Incremented when readers of the version before would fail.
pub(super) const VERSION: u32 = 1;

/// The fields of every version.
#[derive(Debug, Deserialize)]
pub(super) struct IndexHeader {
    pub(super) format: String,
    pub(super) version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IndexFields {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) made_by: String,
    pub(super) file: ContentIdentity,
    pub(super) container: String,
    pub(super) streams: Vec<StreamFields>,
    pub(super) track: usize,
    pub(super) codec: ParameterFields,
    pub(super) descriptions: Vec<Base64Bytes>,
    /// 0 for Annex B.
    pub(super) nal_length_size: u8,
    pub(super) time_base: [i32; 2],
    pub(super) sample_aspect_ratio: [i32; 2],
    pub(super) samples: SampleColumns,
    pub(super) frames: RunLengthColumn,
    pub(super) parameter_sets: Option<Vec<ParameterSetFields>>,
    pub(super) transport_stream: Option<TransportStreamFields>,
    pub(super) resident: ResidentFields,
    /// Not parsed here, since this section has its own version.
    #[serde(default)]
    pub(super) references: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamFields {
    pub(super) number: usize,
    pub(super) kind: String,
    pub(super) codec: String,
    pub(super) size: Option<[usize; 2]>,
    pub(super) track: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ParameterFields {
    pub(super) name: String,
    pub(super) tag: u32,
    pub(super) configuration: Base64Bytes,
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
    pub(super) color: ColorFields,
    pub(super) video_delay: i32,
    pub(super) alpha_mode: u32,
    pub(super) side_data: BTreeMap<String, Vec<i32>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ColorFields {
    pub(super) primaries: u32,
    pub(super) transfer: u32,
    pub(super) matrix: u32,
    pub(super) range: u32,
    pub(super) chroma_location: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SampleColumns {
    pub(super) count: u32,
    pub(super) size: RunLengthColumn,
    /// Distance from the end of the preceding sample.
    pub(super) gap: RunLengthColumn,
    pub(super) pts: RunLengthColumn,
    /// For samples that have one.
    pub(super) dts: RunLengthColumn,
    pub(super) duration: RunLengthColumn,
    pub(super) description: RunLengthColumn,
    pub(super) key: RunLengthColumn,
    pub(super) discard: RunLengthColumn,
    pub(super) silent: RunLengthColumn,
    pub(super) without_dts: RunLengthColumn,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ParameterSetFields {
    pub(super) sample: u32,
    pub(super) unit: Base64Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TransportStreamFields {
    pub(super) pid: u16,
    pub(super) distance: u64,
    pub(super) samples: RunLengthColumn,
    pub(super) skip: RunLengthColumn,
    pub(super) length: RunLengthColumn,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResidentFields {
    pub(super) samples: RunLengthColumn,
    pub(super) data: Vec<Base64Bytes>,
}

/// Bytes, as base64.
#[derive(Debug)]
pub(super) struct Base64Bytes(pub(super) Vec<u8>);

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Base64Bytes).map_err(serde::de::Error::custom)
    }
}
