//! The picture of a sample according to its slice headers: its position in output order, and whether it is a second
//! field.
//!
//! libavcodec's parser reads the headers. Needed if a container has no times, or impossible ones.

use ffi::{CodecParameters, PaddedBytes, Parser, PictureStructure};

use crate::bitstream::{Codec, Framing, h264, hevc, vp9};

/// A sample's position in output order.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputPosition {
    /// Pictures are ordered within a coded video sequence, and follow those of earlier sequences.
    pub(super) sequence: u32,
    /// Picture order count.
    pub(super) picture_order_count: i32,
}

/// Reads samples in decode order.
pub(super) struct PictureReader {
    codec: Codec,
    framing: Framing,
    parser: Option<Parser>,
    sequence: u32,
    /// The last sample ended its coded video sequence.
    ended: bool,
    /// A first field without its second one.
    open_field: Option<PictureStructure>,
}

impl PictureReader {
    pub(super) fn new(codec: Codec, framing: Framing, parameters: &CodecParameters) -> PictureReader {
        // Only H.264 and H.265 have reordering or field pairs that the parser must report.
        let parser = matches!(codec, Codec::Hevc | Codec::H264).then(|| Parser::new(parameters, true)).flatten();
        PictureReader { codec, framing, parser, sequence: 0, ended: false, open_field: None }
    }

    /// True if decode order is not output order.
    pub(super) fn reorders(&self) -> bool {
        self.parser.is_some()
    }

    /// The position of the next sample's picture, and whether the sample has no picture of its own.
    pub(super) fn read(&mut self, sample: &PaddedBytes) -> (OutputPosition, bool) {
        if self.codec == Codec::Vp9 {
            let is_hidden = vp9::facts(sample.data()).is_some_and(|facts| !facts.shown);
            return (OutputPosition { sequence: 0, picture_order_count: 0 }, is_hidden);
        }
        let starts = self.starts_sequence(sample.data());
        let starts = starts || (self.codec == Codec::Hevc && hevc::begins_after_end(self.framing, sample.data()));
        self.sequence += u32::from(starts || self.ended);
        self.ended = self.codec == Codec::Hevc && hevc::ends_sequence(self.framing, sample.data());
        let unit = self.parser.as_mut().and_then(|parser| parser.parse(sample, 0).ok()?.1);
        let structure = unit.map_or(PictureStructure::Frame, |unit| unit.structure);
        let picture_order_count = unit.map_or(0, |unit| unit.picture_order_count);
        (OutputPosition { sequence: self.sequence, picture_order_count }, self.is_second_field(structure))
    }

    /// Two consecutive fields of opposite parity are one picture (H.264 7.4.1.2.4).
    fn is_second_field(&mut self, structure: PictureStructure) -> bool {
        let pairs = match (self.open_field, structure) {
            (_, PictureStructure::Frame) | (None, _) => false,
            (Some(first), second) => first != second,
        };
        self.open_field = (structure != PictureStructure::Frame && !pairs).then_some(structure);
        pairs
    }

    /// True if picture order restarts here: at an IDR picture, in H.265 also at a BLA.
    fn starts_sequence(&self, data: &[u8]) -> bool {
        self.framing.units(data).any(|unit| match self.codec {
            Codec::Hevc => hevc::header(unit).is_some_and(|(kind, layer)| layer == 0 && matches!(kind, 16..=20)),
            Codec::H264 => h264::kind(unit) == Some(5),
            _ => false,
        })
    }
}
