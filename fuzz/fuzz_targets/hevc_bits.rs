//! Writes bits and NAL units of H.265.

/// Writes bits, from the most significant.
#[derive(Default)]
pub struct FuzzBitWriter {
    bytes: Vec<u8>,
    free: u32,
}

impl FuzzBitWriter {
    pub fn u(&mut self, count: u32, value: u32) -> &mut FuzzBitWriter {
        for at in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            *self.bytes.last_mut().expect("one") |= ((value >> at & 1) as u8) << self.free;
        }
        self
    }

    pub fn flag(&mut self, value: bool) -> bool {
        self.u(1, u32::from(value));
        value
    }

    pub fn ue(&mut self, value: u32) -> u32 {
        let code = u64::from(value) + 1;
        let length = code.ilog2();
        self.u(length, 0);
        self.u(1, 1);
        self.u(length, (code & ((1 << length) - 1)) as u32);
        value
    }

    pub fn se(&mut self, value: i32) {
        self.ue(if value > 0 { 2 * value as u32 - 1 } else { value.unsigned_abs().wrapping_mul(2) });
    }

    pub fn end(&mut self) -> Vec<u8> {
        self.u(1, 1);
        self.free = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// A NAL unit with emulation prevention (7.3.1.1).
pub fn unit(kind: u8, layer: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind << 1 | layer >> 5, layer << 3 | 1];
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}
