//! Converts a [`Track`] to the fields of an index file.

use std::collections::{BTreeMap, HashMap};

use ffi::{CodecParameters, PaddedBytes};

use super::column::RunLengthColumn;
use super::identity::ContentIdentity;
use super::layout::{
    Base64Bytes, ColorFields, FORMAT, IndexFields, ParameterFields, ParameterSetFields, ResidentFields, SampleColumns,
    StreamFields, TransportStreamFields, VERSION,
};
use super::references;
use crate::bitstream::Framing;
use crate::bitstream::parameter_sets::ParameterSetHistory;
use crate::container::{Sample, StreamSummary, Track, TrackReferences, ts};

pub(super) fn layout(track: &Track, file: ContentIdentity, references: Option<&TrackReferences>) -> IndexFields {
    let pair = |(first, second)| [first, second];
    IndexFields {
        format: FORMAT.to_owned(),
        version: VERSION,
        made_by: concat!("bucket-streamer ", env!("CARGO_PKG_VERSION")).to_owned(),
        file,
        container: track.container.name().to_owned(),
        streams: track.streams.iter().map(stream).collect(),
        track: track.track,
        codec: parameters(&track.parameters),
        descriptions: track.descriptions.iter().cloned().map(Base64Bytes).collect(),
        nal_length_size: match track.framing {
            Framing::AnnexB => 0,
            Framing::Length(size) => size,
        },
        time_base: pair(track.time_base),
        sample_aspect_ratio: pair(track.sample_aspect_ratio),
        samples: samples(&track.samples),
        frames: RunLengthColumn::of_steps(track.frames.iter().map(|&sample| i64::from(sample))),
        parameter_sets: track.history.as_ref().map(parameter_sets),
        transport_stream: track
            .noncontiguous
            .packet_layout
            .map(|grid| transport_stream(grid, &track.noncontiguous.scattered)),
        resident: resident(&track.noncontiguous.resident),
        references: references.map(references::section),
    }
}

fn stream(summary: &StreamSummary) -> StreamFields {
    StreamFields {
        number: summary.stream,
        kind: summary.kind.name().to_owned(),
        codec: summary.codec.to_owned(),
        size: summary.size.map(|(width, height)| [width, height]),
        track: summary.track,
    }
}

fn parameters(parameters: &CodecParameters) -> ParameterFields {
    let values = parameters.values();
    let color = values.color;
    ParameterFields {
        name: values.codec,
        tag: values.codec_tag,
        configuration: Base64Bytes(values.extradata),
        pixel_format: values.pixel_format,
        bits_per_coded_sample: values.bits_per_coded_sample,
        bits_per_raw_sample: values.bits_per_raw_sample,
        profile: values.profile,
        level: values.level,
        width: values.width,
        height: values.height,
        sample_aspect_ratio: values.sample_aspect_ratio.into(),
        frame_rate: values.frame_rate.into(),
        field_order: values.field_order,
        color: ColorFields {
            primaries: color.primaries,
            transfer: color.transfer,
            matrix: color.matrix,
            range: color.range,
            chroma_location: color.chroma_location,
        },
        video_delay: values.video_delay,
        alpha_mode: values.alpha_mode,
        side_data: values.side_data.into_iter().map(|side| (side.kind.to_owned(), side.numbers)).collect(),
    }
}

fn samples(samples: &[Sample]) -> SampleColumns {
    let those = |has_flag: fn(&Sample) -> bool| {
        RunLengthColumn::of_steps(
            (0..).zip(samples).filter(move |(_, sample)| has_flag(sample)).map(|(index, _)| index),
        )
    };
    let mut end = 0_u64;
    let gap = samples.iter().map(|sample| {
        let gap = sample.offset.wrapping_sub(end);
        end = sample.offset.wrapping_add(u64::from(sample.size));
        gap as i64
    });
    SampleColumns {
        count: samples.len() as u32,
        size: RunLengthColumn::of(samples.iter().map(|sample| i64::from(sample.size))),
        gap: RunLengthColumn::of(gap),
        pts: RunLengthColumn::of_steps(samples.iter().map(|sample| sample.pts)),
        dts: RunLengthColumn::of_steps(samples.iter().filter_map(|sample| sample.dts)),
        duration: RunLengthColumn::of(samples.iter().map(|sample| sample.duration)),
        description: RunLengthColumn::of(samples.iter().map(|sample| i64::from(sample.description))),
        key: those(|sample| sample.key),
        discard: those(|sample| sample.discard),
        silent: those(|sample| sample.silent),
        without_dts: those(|sample| sample.dts.is_none()),
    }
}

fn parameter_sets(history: &ParameterSetHistory) -> Vec<ParameterSetFields> {
    history.changes().map(|(sample, unit)| ParameterSetFields { sample, unit: Base64Bytes(unit.to_vec()) }).collect()
}

fn transport_stream(grid: ts::TsPacketLayout, scattered: &HashMap<u32, ts::TsLocation>) -> TransportStreamFields {
    let places: BTreeMap<u32, ts::TsLocation> = scattered.iter().map(|(&sample, &place)| (sample, place)).collect();
    TransportStreamFields {
        pid: grid.pid,
        distance: grid.distance,
        samples: RunLengthColumn::of_steps(places.keys().map(|&sample| i64::from(sample))),
        skip: RunLengthColumn::of(places.values().map(|place| i64::from(place.skip))),
        length: RunLengthColumn::of(places.values().map(|place| (place.end - place.packet) as i64)),
    }
}

fn resident(resident: &HashMap<u32, PaddedBytes>) -> ResidentFields {
    let data: BTreeMap<u32, &PaddedBytes> = resident.iter().map(|(&sample, data)| (sample, data)).collect();
    ResidentFields {
        samples: RunLengthColumn::of_steps(data.keys().map(|&sample| i64::from(sample))),
        data: data.values().map(|data| Base64Bytes(data.data().to_vec())).collect(),
    }
}
