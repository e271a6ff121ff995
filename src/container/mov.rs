//! MP4 and MOV: the index from the tables alone (`moov`, and the `moof` of fragments), no sample read.
//!
//! libavformat parses the boxes and applies edit lists, so that frames are numbered as its sequential decode shows
//! them; its finished index is read out through a shim (`ffi/shim/mov.c`).

use std::sync::Arc;

use ffi::{Demuxer, MovSample};

use super::pictures::{PictureReader, Place};
use super::{Elsewhere, Sample, Track, choose, order, sane_time_base, summaries, unreadable};
use crate::bitstream::Framing;
use crate::error::{ErrorKind, Result};
use crate::source::Source;

pub(super) fn index(demuxer: &mut Demuxer, source: &Arc<dyn Source>, track: usize) -> Result<Track> {
    let no_memory = |error| ErrorKind::NotAVideo(format!("{error}"));
    let mut streams = demuxer.streams().map_err(no_memory)?;
    let (chosen, codec) = choose(&streams, track)?;
    if demuxer.mov_is_encrypted(chosen) {
        return Err(ErrorKind::Encrypted.into());
    }
    demuxer.mov_read_fragments().map_err(unreadable)?;
    let samples: Vec<Sample> = demuxer.mov_samples(chosen).into_iter().filter_map(sample).collect();
    let streams_summary = summaries(&streams);
    let stream = streams.swap_remove(chosen);
    let descriptions = demuxer.mov_descriptions(chosen);
    let frames = order::by_pts(&samples);
    if frames.is_empty() {
        return Err(ErrorKind::NoFrames.into());
    }
    let is_told = order::is_told_by_pts(&samples, &frames);
    let mut track = Track {
        container: "mp4",
        streams: streams_summary,
        track,
        codec,
        framing: Framing::of(codec, stream.parameters.extradata()),
        parameters: stream.parameters,
        descriptions: if descriptions.len() > 1 { descriptions } else { Vec::new() },
        time_base: sane_time_base(stream.time_base),
        sample_aspect_ratio: stream.sample_aspect_ratio,
        samples,
        frames,
        history: None,
        elsewhere: Elsewhere::default(),
    };
    if !is_told {
        order_by_pictures(&mut track, &**source);
    }
    Ok(track)
}

/// Tables that give two samples one time do not order them: the slice headers do. The one case in which samples are read.
fn order_by_pictures(track: &mut Track, source: &dyn Source) {
    let mut pictures = PictureReader::new(track.codec, track.framing, &track.parameters);
    if !pictures.reorders() {
        return;
    }
    let mut last = Place { sequence: 0, picture_order_count: 0 };
    let mut places = Vec::with_capacity(track.samples.len());
    for sample in 0..track.samples.len() as u32 {
        if let Ok(data) = track.read(source, sample, false) {
            last = pictures.read(&data).0;
        }
        places.push(last);
    }
    track.frames = order::by_picture_order(&track.samples, &places);
}

/// `None` for an entry that names no bytes: libavformat skips it too.
fn sample(raw: MovSample) -> Option<Sample> {
    Some(Sample {
        offset: u64::try_from(raw.offset).ok()?,
        size: Some(raw.size).filter(|&size| size > 0)?,
        description: u16::try_from(raw.description).unwrap_or(0),
        key: raw.key,
        discard: raw.discard,
        silent: false,
        pts: raw.pts,
        dts: Some(raw.dts),
        duration: raw.duration,
    })
}
