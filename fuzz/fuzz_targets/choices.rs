//! The fuzzer's bytes as a list of choices. After their end each further choice is the first one, so that an empty
//! input gives the simplest file.
#![allow(dead_code, reason = "each target takes a part")]

/// Numbers at the edges of arithmetic.
const EDGES: [u32; 16] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0xff_ffff,
    0x3fff_ffff,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
];

pub struct Choices<'a> {
    rest: &'a [u8],
    /// Whether fields may be out of range.
    is_wild: bool,
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices { rest: bytes, is_wild: true }
    }

    pub fn are_left(&self) -> bool {
        !self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// 0 to `count` - 1.
    pub fn below(&mut self, count: usize) -> usize {
        if count <= 1 {
            return 0;
        }
        let mut number = usize::from(self.byte());
        if count > 256 {
            number |= usize::from(self.byte()) << 8;
        }
        number % count
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// True one time in two.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True one time in `count`, and false after the end of the bytes.
    pub fn once_in(&mut self, count: u8) -> bool {
        self.byte() % count == count - 1
    }

    /// Decides whether fields stay in range from now on: three times in four.
    pub fn tame(&mut self) {
        self.is_wild = self.once_in(4);
    }

    /// True one time in `count`, if fields may be out of range.
    pub fn wild_once_in(&mut self, count: u8) -> bool {
        self.is_wild && self.once_in(count)
    }

    /// A number from `first` to `last`; rarely any other one.
    pub fn within(&mut self, first: u32, last: u32) -> u32 {
        if self.wild_once_in(64) {
            return self.any();
        }
        first + self.below((last - first) as usize + 1) as u32
    }

    /// Any number: small, at an edge, or of four bytes.
    pub fn any(&mut self) -> u32 {
        match self.byte() & 3 {
            0 | 1 => u32::from(self.byte()),
            2 => self.of(&EDGES),
            _ => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// This many pseudo-random bytes, from a seed of two.
    pub fn noise(&mut self, count: usize) -> Vec<u8> {
        let mut state = u64::from(u16::from_le_bytes([self.byte(), self.byte()])) | 1 << 32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Writes the generated file to the path in `FUZZ_FILE`, to make a fixture of a finding.
pub fn keep(file: &[u8]) {
    if let Some(path) = std::env::var_os("FUZZ_FILE") {
        std::fs::write(path, file).expect("to write");
    }
}
