//! Converts a [`Track`] to the fields of an index file.

use std::collections::{BTreeMap, HashMap};

use ffi::{CodecParameters, PaddedBytes};

use super::column::Column;
use super::identity::Identity;
use super::layout::{
    Blob, Color, FORMAT, Layout, ParameterSet, Parameters, Resident, Samples, Stream, TransportStream, VERSION,
};
use super::references;
use crate::bitstream::Framing;
use crate::bitstream::parameter_sets::History;
use crate::container::{References, Sample, StreamSummary, Track, ts};

pub(super) fn layout(track: &Track, file: Identity, references: Option<&References>) -> Layout {
    let pair = |(first, second)| [first, second];
    Layout {
        format: FORMAT.to_owned(),
        version: VERSION,
        made_by: concat!("bucket-streamer ", env!("CARGO_PKG_VERSION")).to_owned(),
        file,
        container: track.container.name().to_owned(),
        streams: track.streams.iter().map(stream).collect(),
        track: track.track,
        codec: parameters(&track.parameters),
        descriptions: track.descriptions.iter().cloned().map(Blob).collect(),
        nal_length_size: match track.framing {
            Framing::AnnexB => 0,
            Framing::Length(size) => size,
        },
        time_base: pair(track.time_base),
        sample_aspect_ratio: pair(track.sample_aspect_ratio),
        samples: samples(&track.samples),
        frames: Column::of_steps(track.frames.iter().map(|&sample| i64::from(sample))),
        parameter_sets: track.history.as_ref().map(parameter_sets),
        transport_stream: track.elsewhere.grid.map(|grid| transport_stream(grid, &track.elsewhere.scattered)),
        resident: resident(&track.elsewhere.resident),
        references: references.map(references::section),
    }
}

fn stream(summary: &StreamSummary) -> Stream {
    Stream {
        number: summary.stream,
        kind: summary.kind.name().to_owned(),
        codec: summary.codec.to_owned(),
        size: summary.size.map(|(width, height)| [width, height]),
        track: summary.track,
    }
}

fn parameters(parameters: &CodecParameters) -> Parameters {
    let values = parameters.values();
    let color = values.color;
    Parameters {
        name: values.codec,
        tag: values.codec_tag,
        configuration: Blob(values.extradata),
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
        color: Color {
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

fn samples(samples: &[Sample]) -> Samples {
    let those = |wanted: fn(&Sample) -> bool| {
        Column::of_steps((0..).zip(samples).filter(move |(_, sample)| wanted(sample)).map(|(index, _)| index))
    };
    let mut end = 0_u64;
    let gap = samples.iter().map(|sample| {
        let gap = sample.offset.wrapping_sub(end);
        end = sample.offset.wrapping_add(u64::from(sample.size));
        gap as i64
    });
    Samples {
        count: samples.len() as u32,
        size: Column::of(samples.iter().map(|sample| i64::from(sample.size))),
        gap: Column::of(gap),
        pts: Column::of_steps(samples.iter().map(|sample| sample.pts)),
        dts: Column::of_steps(samples.iter().filter_map(|sample| sample.dts)),
        duration: Column::of(samples.iter().map(|sample| sample.duration)),
        description: Column::of(samples.iter().map(|sample| i64::from(sample.description))),
        key: those(|sample| sample.key),
        discard: those(|sample| sample.discard),
        silent: those(|sample| sample.silent),
        without_dts: those(|sample| sample.dts.is_none()),
    }
}

fn parameter_sets(history: &History) -> Vec<ParameterSet> {
    history.changes().map(|(sample, unit)| ParameterSet { sample, unit: Blob(unit.to_vec()) }).collect()
}

fn transport_stream(grid: ts::Grid, scattered: &HashMap<u32, ts::Scattered>) -> TransportStream {
    let places: BTreeMap<u32, ts::Scattered> = scattered.iter().map(|(&sample, &place)| (sample, place)).collect();
    TransportStream {
        pid: grid.pid,
        distance: grid.distance,
        samples: Column::of_steps(places.keys().map(|&sample| i64::from(sample))),
        skip: Column::of(places.values().map(|place| i64::from(place.skip))),
        length: Column::of(places.values().map(|place| (place.end - place.packet) as i64)),
    }
}

fn resident(resident: &HashMap<u32, PaddedBytes>) -> Resident {
    let data: BTreeMap<u32, &PaddedBytes> = resident.iter().map(|(&sample, data)| (sample, data)).collect();
    Resident {
        samples: Column::of_steps(data.keys().map(|&sample| i64::from(sample))),
        data: data.values().map(|data| Blob(data.data().to_vec())).collect(),
    }
}
