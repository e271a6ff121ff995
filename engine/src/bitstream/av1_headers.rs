//! AV1: sequence headers (5.5) and frame headers (5.9), as far as references need them.
//!
//! The frames in slots are left to `av1_refs`, tiles to the decoder.

use super::bits::BitReader;

/// `KEY_FRAME` (6.8.2).
pub const KEY_FRAME: u32 = 0;
/// `INTRA_ONLY_FRAME`.
pub const INTRA_ONLY_FRAME: u32 = 2;
/// `SWITCH_FRAME`.
pub const SWITCH_FRAME: u32 = 3;
/// `PRIMARY_REF_NONE` (3).
pub const PRIMARY_REF_NONE: u32 = 7;

/// The fields of a sequence header (5.5.1) that frame headers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceHeader {
    is_reduced: bool,
    /// Bits of `frame_presentation_time`, if frame headers have one.
    presentation_bits: Option<u32>,
    /// With a decoder model: bits of `buffer_removal_time`, and the number of operating points that have one in frames
    /// of the first layer.
    removal_times: Option<(u32, usize)>,
    /// Bits of `delta_frame_id` and of frame identifiers, if there are any.
    id_bits: Option<(u32, u32)>,
    /// `seq_force_screen_content_tools`, `seq_force_integer_mv`; 2: each frame chooses.
    screen_content: (u32, u32),
    /// `OrderHintBits`; 0 without order hints.
    pub order_hint_bits: u32,
    /// An operating point has more than one layer (`operating_point_idc`), so that the output depends on the chosen
    /// operating point.
    pub is_layered: bool,
}

/// Timing information and decoder model (5.5.3, 5.5.4).
#[derive(Default)]
struct TimingInfo {
    is_equal_interval: bool,
    /// `buffer_delay_length`, `buffer_removal_time_length`, `frame_presentation_time_length`.
    model: Option<[u32; 3]>,
}

impl SequenceHeader {
    /// Reads `sequence_header_obu` (5.5.1) up to the last field that frame headers need. `payload` is the unit without
    /// its header and size; `None` if it ends early.
    pub fn parse(payload: &[u8]) -> Option<SequenceHeader> {
        let mut bits = BitReader::new(payload);
        // seq_profile, still_picture.
        bits.skip(4)?;
        let is_reduced = bits.flag()?;
        let (mut timing, mut removal_times, mut is_layered) = (TimingInfo::default(), 0, false);
        if is_reduced {
            // seq_level_idx.
            bits.skip(5)?;
        } else {
            timing = parse_timing(&mut bits)?;
            let has_initial_delays = bits.flag()?;
            for _ in 0..=bits.bits(5)? {
                let (idc, has_model) = operating_point(&mut bits, &timing, has_initial_delays)?;
                removal_times += usize::from(has_model && (idc == 0 || idc & 0x101 == 0x101));
                is_layered |= (idc & 0xff).count_ones() > 1 || (idc >> 8).count_ones() > 1;
            }
        }
        let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
        bits.skip((width_bits + height_bits) as usize)?;
        let id_bits = if !is_reduced && bits.flag()? {
            let delta = bits.bits(4)? + 2;
            Some((delta, bits.bits(3)? + delta + 1))
        } else {
            None
        };
        // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter.
        bits.skip(3)?;
        let (screen_content, order_hint_bits) = if is_reduced { ((2, 2), 0) } else { tools(&mut bits)? };
        let presentation = timing.model.filter(|_| !timing.is_equal_interval);
        Some(SequenceHeader {
            is_reduced,
            presentation_bits: presentation.map(|[_, _, bits]| bits),
            removal_times: timing.model.map(|[_, bits, _]| (bits, removal_times)),
            id_bits,
            screen_content,
            order_hint_bits,
            is_layered,
        })
    }
}

/// `timing_info` (5.5.3) and `decoder_model_info` (5.5.4), with the flag before each.
fn parse_timing(bits: &mut BitReader) -> Option<TimingInfo> {
    let mut timing = TimingInfo::default();
    if !bits.flag()? {
        return Some(timing);
    }
    bits.skip(64)?;
    timing.is_equal_interval = bits.flag()?;
    if timing.is_equal_interval {
        uvlc(bits)?;
    }
    if bits.flag()? {
        let delay = bits.bits(5)? + 1;
        bits.skip(32)?;
        timing.model = Some([delay, bits.bits(5)? + 1, bits.bits(5)? + 1]);
    }
    Some(timing)
}

/// One operating point: `operating_point_idc`, and whether frames have removal times for it.
fn operating_point(bits: &mut BitReader, timing: &TimingInfo, has_initial_delays: bool) -> Option<(u32, bool)> {
    let idc = bits.bits(12)?;
    if bits.bits(5)? > 7 {
        // seq_tier.
        bits.skip(1)?;
    }
    let mut has_model = false;
    if let Some([delay, ..]) = timing.model {
        has_model = bits.flag()?;
        if has_model {
            // operating_parameters_info (5.5.5).
            bits.skip(2 * delay as usize + 1)?;
        }
    }
    if has_initial_delays && bits.flag()? {
        bits.skip(4)?;
    }
    Some((idc, has_model))
}

/// Reads from `enable_interintra_compound` to `order_hint_bits_minus_1`: the choices of screen content coding, and
/// `OrderHintBits`.
fn tools(bits: &mut BitReader) -> Option<((u32, u32), u32)> {
    // enable_interintra_compound, enable_masked_compound, enable_warped_motion, enable_dual_filter.
    bits.skip(4)?;
    let has_order_hints = bits.flag()?;
    if has_order_hints {
        // enable_jnt_comp, enable_ref_frame_mvs.
        bits.skip(2)?;
    }
    let mut choice = || Some(if bits.flag()? { 2 } else { u32::from(bits.flag()?) });
    let screen_content = choice()?;
    let integer_mv = if screen_content > 0 { choice()? } else { 2 };
    let order_hint_bits = if has_order_hints { bits.bits(3)? + 1 } else { 0 };
    Some(((screen_content, integer_mv), order_hint_bits))
}

/// Skips uvlc() (4.10.3).
fn uvlc(bits: &mut BitReader) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
    }
    if zeros < 32 { bits.skip(zeros) } else { Some(()) }
}

/// Slots that an inter frame reads (5.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameReferences {
    /// `ref_frame_idx`.
    Listed([u32; 7]),
    /// `frame_refs_short_signaling`: `last_frame_idx` and `gold_frame_idx`; the others follow from the order hints of
    /// all slots (7.8).
    FromOrderHints(u32, u32),
}

/// A frame header (5.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Av1FrameHeader {
    /// `show_existing_frame`: the frame in this slot is shown.
    ShowExisting(u32),
    /// The header of a coded frame.
    Frame {
        /// `frame_type`.
        kind: u32,
        /// `show_frame`.
        shown: bool,
        /// `showable_frame`.
        showable: bool,
        /// `error_resilient_mode`.
        error_resilient: bool,
        /// `order_hint`.
        order_hint: u32,
        /// `primary_ref_frame`: an index of the references; the frame begins with the probabilities and segmentation of
        /// that one.
        primary_ref: u32,
        /// `refresh_frame_flags`: slots that it writes.
        refresh: u32,
        /// Slots that it reads; `None` for a frame of intra blocks only.
        references: Option<FrameReferences>,
    },
}

impl Av1FrameHeader {
    /// Reads `uncompressed_header` (5.9.2) up to the references. `sequence` is the active sequence header, of a stream
    /// without layers; `payload` is the unit without its header and size. `None` if it ends early.
    pub fn parse(sequence: &SequenceHeader, payload: &[u8]) -> Option<Av1FrameHeader> {
        let mut bits = BitReader::new(payload);
        if !sequence.is_reduced && bits.flag()? {
            return Some(Av1FrameHeader::ShowExisting(bits.bits(3)?));
        }
        let (kind, shown, showable, error_resilient) =
            if sequence.is_reduced { (KEY_FRAME, true, false, true) } else { frame_kind(sequence, &mut bits)? };
        let is_intra = matches!(kind, KEY_FRAME | INTRA_ONLY_FRAME);
        skip_tools(sequence, &mut bits)?;
        if let Some((_, id)) = sequence.id_bits {
            bits.skip(id as usize)?;
        }
        if kind != SWITCH_FRAME && !sequence.is_reduced {
            // frame_size_override_flag.
            bits.skip(1)?;
        }
        let order_hint = bits.bits(sequence.order_hint_bits)?;
        let primary_ref = if is_intra || error_resilient { PRIMARY_REF_NONE } else { bits.bits(3)? };
        if let Some((length, count)) = sequence.removal_times
            && bits.flag()?
        {
            bits.skip(length as usize * count)?;
        }
        let is_full = kind == SWITCH_FRAME || kind == KEY_FRAME && shown;
        let refresh = if is_full { 0xff } else { bits.bits(8)? };
        if error_resilient && (!is_intra || refresh != 0xff) {
            // ref_order_hint of all slots: the expected contents, not a reference to them.
            bits.skip(8 * sequence.order_hint_bits as usize)?;
        }
        let references = if is_intra { None } else { Some(references(sequence, &mut bits)?) };
        Some(Av1FrameHeader::Frame {
            kind,
            shown,
            showable,
            error_resilient,
            order_hint,
            primary_ref,
            refresh,
            references,
        })
    }
}

/// `frame_type`, `show_frame`, `showable_frame`, `error_resilient_mode`.
fn frame_kind(sequence: &SequenceHeader, bits: &mut BitReader) -> Option<(u32, bool, bool, bool)> {
    let kind = bits.bits(2)?;
    let shown = bits.flag()?;
    if shown && let Some(length) = sequence.presentation_bits {
        bits.skip(length as usize)?;
    }
    let showable = if shown { kind != KEY_FRAME } else { bits.flag()? };
    let error_resilient = kind == SWITCH_FRAME || kind == KEY_FRAME && shown || bits.flag()?;
    Some((kind, shown, showable, error_resilient))
}

/// `disable_cdf_update`, `allow_screen_content_tools`, `force_integer_mv`.
fn skip_tools(sequence: &SequenceHeader, bits: &mut BitReader) -> Option<()> {
    bits.skip(1)?;
    let (screen_content, integer_mv) = sequence.screen_content;
    let has_screen_content = if screen_content == 2 { bits.flag()? } else { screen_content == 1 };
    if has_screen_content && integer_mv == 2 {
        bits.skip(1)?;
    }
    Some(())
}

fn references(sequence: &SequenceHeader, bits: &mut BitReader) -> Option<FrameReferences> {
    if sequence.order_hint_bits > 0 && bits.flag()? {
        return Some(FrameReferences::FromOrderHints(bits.bits(3)?, bits.bits(3)?));
    }
    let mut slots = [0; 7];
    for slot in &mut slots {
        *slot = bits.bits(3)?;
        if let Some((delta, _)) = sequence.id_bits {
            bits.skip(delta as usize)?;
        }
    }
    Some(FrameReferences::Listed(slots))
}
