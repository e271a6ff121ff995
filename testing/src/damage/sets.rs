//! Rewrites picture sizes in parameter sets, sequence headers and frame headers.

use bucket_streamer::bitstream::Codec;
use bucket_streamer::bitstream::bits::unescape;

/// Bits that can be read and replaced.
struct BitEditor {
    bits: Vec<bool>,
    at: usize,
}

impl BitEditor {
    fn of(bytes: &[u8]) -> BitEditor {
        let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
        BitEditor { bits, at: 0 }
    }

    fn u(&mut self, count: usize) -> Option<u64> {
        let bits = self.bits.get(self.at..self.at + count)?;
        self.at += count;
        Some(bits.iter().fold(0, |value, &bit| value << 1 | u64::from(bit)))
    }

    fn ue(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.u(1)? == 0 {
            zeros += 1;
        }
        Some((1 << zeros) - 1 + self.u(zeros)?)
    }

    /// Replaces the next code with `value`, and moves past it.
    fn replace_ue(&mut self, value: u64) -> Option<()> {
        let start = self.at;
        self.ue()?;
        let length = (value + 1).ilog2() as usize;
        let code = (0..=2 * length).rev().map(|bit| bit <= length && (value + 1) >> bit & 1 == 1);
        self.bits.splice(start..self.at, code);
        self.at = start + 2 * length + 1;
        Some(())
    }

    fn replace_u(&mut self, count: usize, value: u64) -> Option<()> {
        (count >= 64 || value >> count == 0).then_some(())?;
        for bit in (0..count).rev() {
            *self.bits.get_mut(self.at)? = value >> bit & 1 == 1;
            self.at += 1;
        }
        Some(())
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| (0..8).fold(0, |byte, at| byte << 1 | u8::from(bits.get(at) == Some(&true)));
        self.bits.chunks(8).map(byte).collect()
    }
}

/// Inserts emulation prevention (H.264, H.265 7.4.1).
fn escape(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut unit = header.to_vec();
    for &byte in payload {
        if byte <= 3 && unit.ends_with(&[0, 0]) {
            unit.push(3);
        }
        unit.push(byte);
    }
    unit
}

/// Is this NAL unit a sequence parameter set?
pub(super) fn is_sps(codec: Codec, unit: &[u8]) -> bool {
    match (codec, unit.first()) {
        (Codec::H264, Some(byte)) => byte & 31 == 7,
        (Codec::Hevc, Some(byte)) => byte >> 1 & 63 == 33,
        _ => false,
    }
}

/// A sequence parameter set with another size in pixels, multiples of 16; cropping stays.
pub(super) fn resized_sps(codec: Codec, unit: &[u8], (width, height): (u64, u64)) -> Option<Vec<u8>> {
    let header = if codec == Codec::H264 { 1 } else { 2 };
    let mut bits = BitEditor::of(&unescape(unit.get(header..)?));
    if codec == Codec::H264 {
        to_size_h264(&mut bits)?;
        bits.replace_ue(width / 16 - 1)?;
        bits.replace_ue(height / 16 - 1)?;
    } else {
        to_size_hevc(&mut bits)?;
        bits.replace_ue(width)?;
        bits.replace_ue(height)?;
    }
    // The stop bit is the last one; the rest of the last byte follows from it.
    let last = bits.bits.iter().rposition(|&bit| bit)?;
    bits.bits.truncate(last + 1);
    Some(escape(&unit[..header], &bits.bytes()))
}

/// 7.3.2.1.1 up to `pic_width_in_mbs_minus1`.
fn to_size_h264(bits: &mut BitEditor) -> Option<()> {
    let profile = bits.u(8)?;
    bits.u(16)?;
    bits.ue()?;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128) {
        if bits.ue()? == 3 {
            bits.u(1)?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.u(1)?;
        // No scaling matrices.
        (bits.u(1)? == 0).then_some(())?;
    }
    bits.ue()?;
    match bits.ue()? {
        0 => _ = bits.ue()?,
        1 => {
            bits.u(1)?;
            bits.ue()?;
            bits.ue()?;
            for _ in 0..bits.ue()? {
                bits.ue()?;
            }
        }
        _ => (),
    }
    bits.ue()?;
    bits.u(1)?;
    Some(())
}

/// 7.3.2.2.1 up to `pic_width_in_luma_samples`, of one temporal layer.
fn to_size_hevc(bits: &mut BitEditor) -> Option<()> {
    bits.u(4)?;
    let layers = bits.u(3)? as usize;
    bits.u(1 + 88 + 8)?;
    if layers > 0 {
        let present: Vec<(u64, u64)> = (0..layers).map(|_| Some((bits.u(1)?, bits.u(1)?))).collect::<Option<_>>()?;
        bits.u(2 * (8 - layers))?;
        for (profile, level) in present {
            bits.u(88 * profile as usize)?;
            bits.u(8 * level as usize)?;
        }
    }
    bits.ue()?;
    if bits.ue()? == 3 {
        bits.u(1)?;
    }
    Some(())
}

/// A VP9 key frame with another size (6.2); `None` for other frames.
pub(super) fn resized_vp9(frame: &[u8], (width, height): (u64, u64)) -> Option<Vec<u8>> {
    let mut bits = BitEditor::of(frame);
    (bits.u(2)? == 2).then_some(())?;
    let profile = bits.u(1)? | bits.u(1)? << 1;
    bits.u(usize::from(profile == 3))?;
    // Neither show_existing_frame nor a frame other than a key frame.
    (bits.u(2)? == 0).then_some(())?;
    bits.u(2)?;
    (bits.u(24)? == 0x49_83_42).then_some(())?;
    bits.u(usize::from(profile >= 2))?;
    let is_rgb = bits.u(3)? == 7;
    match (is_rgb, profile & 1) {
        (false, 1) => bits.u(4)?,
        (true, 0) => return None,
        _ => bits.u(1)?,
    };
    bits.replace_u(16, width - 1)?;
    bits.replace_u(16, height - 1)?;
    Some(bits.bytes())
}

/// The payload of an AV1 sequence header with another maximum size (5.5.1), which is that of its frames.
pub(super) fn resized_av1(payload: &[u8], (width, height): (u64, u64)) -> Option<Vec<u8>> {
    let mut bits = BitEditor::of(payload);
    bits.u(3 + 1)?;
    if bits.u(1)? == 1 {
        bits.u(5)?;
    } else {
        // No timing information.
        (bits.u(1)? == 0).then_some(())?;
        let has_delays = bits.u(1)? == 1;
        for _ in 0..=bits.u(5)? {
            bits.u(12)?;
            if bits.u(5)? > 7 {
                bits.u(1)?;
            }
            if has_delays && bits.u(1)? == 1 {
                bits.u(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (bits.u(4)? as usize + 1, bits.u(4)? as usize + 1);
    bits.replace_u(width_bits, width - 1)?;
    bits.replace_u(height_bits, height - 1)?;
    Some(bits.bytes())
}
