//! Converts the fields of an index file to a [`Track`]. The file may be malicious: columns are expanded only after
//! their length is checked, and only values that opening the video could have produced are accepted.

use std::collections::HashMap;

use ffi::{CodecParameters, PaddedBytes, ParameterValues, SideData};

use super::layout::{
    IndexFields, ParameterFields, ParameterSetFields, ResidentFields, SampleColumns, StreamFields,
    TransportStreamFields,
};
use super::{bad, references};
use crate::bitstream::parameter_sets::{ParameterSetHistory, identify};
use crate::bitstream::{Codec, Framing};
use crate::container::scan::RESIDENT_LIMIT;
use crate::container::{
    Container, IndexBudget, NoncontiguousSamples, SAMPLE_BYTES, Sample, StreamKind, StreamSummary, Track, sample_limit,
    ts,
};
use crate::error::Result;

/// The track of a file of `length` bytes.
pub(super) fn track(layout: &IndexFields, length: u64) -> Result<Track> {
    let codec = Codec::from_name(&layout.codec.name)
        .ok_or_else(|| bad(format!("this build has no decoder for {:?}", shortened(&layout.codec.name))))?;
    let container = known(&layout.container, Container::from_name)?;
    let samples = samples(&layout.samples, length)?;
    let count = samples.len();
    let frames = layout.frames.steps("frames", samples.iter().filter(|sample| sample.is_displayable()).count())?;
    let frames = frames.into_iter().map(|sample| u32::try_from(sample).unwrap_or(u32::MAX)).collect();
    let mut track = Track {
        container,
        streams: layout.streams.iter().map(stream).collect::<Result<_>>()?,
        track: layout.track,
        codec,
        parameters: CodecParameters::from_values(&parameters(&layout.codec)?).map_err(bad)?,
        descriptions: layout.descriptions.iter().map(|description| description.0.clone()).collect(),
        framing: framing(layout.nal_length_size)?,
        time_base: layout.time_base.into(),
        sample_aspect_ratio: layout.sample_aspect_ratio.into(),
        history: layout.parameter_sets.as_deref().map(|sets| history(sets, codec, count)).transpose()?,
        noncontiguous: noncontiguous(layout, &samples, length)?,
        references: None,
        samples,
        frames,
    };
    check_ranges(&track, length)?;
    track.problem().map_or(Ok(()), |problem| Err(bad(problem)))?;
    if let Some(section) = layout.references.as_deref() {
        track.references = references::of(section, &track)?;
    }
    Ok(track)
}

/// Looks up a codec, container or format by its name in the index file.
fn known<T>(name: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T> {
    from_name(name).ok_or_else(|| bad(format!("it has an unknown name, {:?}", shortened(name))))
}

fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}

fn stream(stream: &StreamFields) -> Result<StreamSummary> {
    Ok(StreamSummary {
        stream: stream.number,
        kind: known(&stream.kind, StreamKind::from_name)?,
        codec: ffi::codec_name(&stream.codec),
        size: stream.size.map(|[width, height]| (width, height)),
        track: stream.track,
    })
}

fn framing(nal_length_size: u8) -> Result<Framing> {
    match nal_length_size {
        0 => Ok(Framing::AnnexB),
        1..=4 => Ok(Framing::Length(nal_length_size)),
        _ => Err(bad("its NAL units have lengths of more than four bytes")),
    }
}

fn parameters(parameters: &ParameterFields) -> Result<ParameterValues> {
    let color = &parameters.color;
    let side = |(kind, numbers): (&String, &Vec<i32>)| {
        let from_name = |name: &str| SideData::KINDS.into_iter().find(|known| *known == name);
        Ok(SideData { kind: known(kind, from_name)?, numbers: numbers.clone() })
    };
    Ok(ParameterValues {
        codec: parameters.name.clone(),
        codec_tag: parameters.tag,
        extradata: parameters.configuration.0.clone(),
        pixel_format: parameters.pixel_format.clone(),
        bits_per_coded_sample: parameters.bits_per_coded_sample,
        bits_per_raw_sample: parameters.bits_per_raw_sample,
        profile: parameters.profile,
        level: parameters.level,
        width: parameters.width,
        height: parameters.height,
        sample_aspect_ratio: parameters.sample_aspect_ratio.into(),
        frame_rate: parameters.frame_rate.into(),
        field_order: parameters.field_order,
        color: ffi::Color {
            primaries: color.primaries,
            transfer: color.transfer,
            matrix: color.matrix,
            range: color.range,
            chroma_location: color.chroma_location,
        },
        video_delay: parameters.video_delay,
        alpha_mode: parameters.alpha_mode,
        side_data: parameters.side_data.iter().map(side).collect::<Result<_>>()?,
    })
}

fn samples(columns: &SampleColumns, length: u64) -> Result<Vec<Sample>> {
    let (count, limit) = (columns.count as usize, sample_limit(length));
    if count > limit {
        return Err(bad(format!("it has {count} samples, above the {limit} that a file of this size may have")));
    }
    IndexBudget::charge(count * SAMPLE_BYTES)?;
    let size = columns.size.values::<u32>("samples.size", count)?;
    let gap = columns.gap.values::<i64>("samples.gap", count)?;
    let pts = columns.pts.steps("samples.pts", count)?;
    let duration = columns.duration.values::<i64>("samples.duration", count)?;
    let description = columns.description.values::<u16>("samples.description", count)?;
    let mut end = 0_u64;
    let mut samples = Vec::with_capacity(count);
    for at in 0..count {
        let offset = end.wrapping_add_signed(gap[at]);
        end = offset
            .checked_add(u64::from(size[at]))
            .filter(|&end| size[at] > 0 && end <= i64::MAX as u64)
            .ok_or_else(|| bad(format!("sample {at} has an impossible range: {} bytes at byte {offset}", size[at])))?;
        samples.push(Sample {
            offset,
            size: size[at],
            description: description[at],
            key: false,
            discard: false,
            silent: false,
            pts: pts[at],
            dts: None,
            duration: duration[at],
        });
    }
    flags(columns, &mut samples)?;
    Ok(samples)
}

/// Sets the flags of samples, and the decoding times, which the samples of `without_dts` lack.
fn flags(columns: &SampleColumns, samples: &mut [Sample]) -> Result<()> {
    let count = samples.len();
    let key = columns.key.samples("samples.key", count)?;
    key.into_iter().for_each(|sample| samples[sample as usize].key = true);
    let discard = columns.discard.samples("samples.discard", count)?;
    discard.into_iter().for_each(|sample| samples[sample as usize].discard = true);
    let silent = columns.silent.samples("samples.silent", count)?;
    silent.into_iter().for_each(|sample| samples[sample as usize].silent = true);
    let without = columns.without_dts.samples("samples.without_dts", count)?;
    let dts = columns.dts.steps("samples.dts", count - without.len())?;
    let (mut dts, mut without) = (dts.into_iter(), without.into_iter().peekable());
    for (index, sample) in (0_u32..).zip(samples) {
        sample.dts = if without.next_if_eq(&index).is_some() { None } else { dts.next() };
    }
    Ok(())
}

fn history(sets: &[ParameterSetFields], codec: Codec, samples: usize) -> Result<ParameterSetHistory> {
    let mut history = ParameterSetHistory::default();
    let mut before = 0;
    for set in sets {
        let in_order = set.sample >= before && (set.sample as usize) < samples;
        if !in_order || identify(codec, &set.unit.0).is_none() {
            return Err(bad("its parameter sets are of an unknown kind, or not in the order of samples"));
        }
        before = set.sample;
        if !history.note_unit(set.sample, codec, &set.unit.0) {
            return Err(bad("it has more parameter sets than any stream"));
        }
    }
    Ok(history)
}

fn noncontiguous(layout: &IndexFields, samples: &[Sample], length: u64) -> Result<NoncontiguousSamples> {
    let resident = resident(&layout.resident, samples)?;
    let resident_bytes = resident.values().map(|data| data.len() as u64).sum();
    let mut elsewhere = NoncontiguousSamples { resident, resident_bytes, ..NoncontiguousSamples::default() };
    if let Some(stream) = &layout.transport_stream {
        elsewhere.packet_layout = Some(packet_layout(stream)?);
        elsewhere.scattered = scattered(stream, samples, length)?;
    }
    Ok(elsewhere)
}

fn packet_layout(stream: &TransportStreamFields) -> Result<ts::TsPacketLayout> {
    let fits = stream.pid <= 0x1fff && [188, 192, 204].contains(&stream.distance);
    fits.then_some(ts::TsPacketLayout { pid: stream.pid, distance: stream.distance })
        .ok_or_else(|| bad("its transport packets are of an unknown kind"))
}

fn scattered(stream: &TransportStreamFields, samples: &[Sample], length: u64) -> Result<HashMap<u32, ts::TsLocation>> {
    let list = stream.samples.samples("transport_stream.samples", samples.len())?;
    let skip = stream.skip.values::<u8>("transport_stream.skip", list.len())?;
    let lengths = stream.length.values::<u64>("transport_stream.length", list.len())?;
    let places = list.into_iter().zip(skip).zip(lengths).map(|((sample, skip), span)| {
        let at = &samples[sample as usize];
        let end = at.offset.checked_add(span).filter(|&end| end <= length && u64::from(at.size) <= span);
        let end = end.ok_or_else(|| bad(format!("the packets of sample {sample} have an impossible range")))?;
        Ok((sample, ts::TsLocation { packet: at.offset, skip: u16::from(skip), end }))
    });
    places.collect()
}

fn resident(resident: &ResidentFields, samples: &[Sample]) -> Result<HashMap<u32, PaddedBytes>> {
    let list = resident.samples.samples("resident.samples", samples.len())?;
    let bytes: u64 = resident.data.iter().map(|data| data.0.len() as u64).sum();
    let fit =
        |(&sample, data): (&u32, &super::layout::Base64Bytes)| samples[sample as usize].size as usize == data.0.len();
    if list.len() != resident.data.len() || bytes > RESIDENT_LIMIT || !list.iter().zip(&resident.data).all(fit) {
        return Err(bad("the samples that it contains have wrong lengths"));
    }
    Ok(list.into_iter().zip(&resident.data).map(|(sample, data)| (sample, PaddedBytes::copy_of(&[&data.0]))).collect())
}

/// Samples of a container that was read to its end lie within the file. The tables of a truncated MP4 may name missing
/// bytes: only reading these is an error.
fn check_ranges(track: &Track, length: u64) -> Result<()> {
    let elsewhere = &track.noncontiguous;
    let is_in_place = |sample| !elsewhere.resident.contains_key(&sample) && !elsewhere.scattered.contains_key(&sample);
    let outside = |(index, sample): &(u32, &Sample)| sample.range().end() > length && is_in_place(*index);
    match (0_u32..).zip(&track.samples).find(outside) {
        Some((index, sample)) if track.container != Container::Mp4 => {
            let end = sample.range().end();
            Err(bad(format!("sample {index} ends at byte {end}, the file at byte {length}")))
        }
        _ => Ok(()),
    }
}
