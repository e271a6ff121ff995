//! The fuzzer's bytes as a list of choices. Where they end, each further choice is the first one: an empty input gives the
//! plainest file.
#![allow(dead_code, reason = "each target takes a part")]

/// Numbers at which arithmetic goes wrong.
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
    /// May a field be out of its range?
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

    /// One time in two.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One time in `count`, and not where the bytes have ended.
    pub fn once_in(&mut self, count: u8) -> bool {
        self.byte() % count == count - 1
    }

    /// From now on fields are in their range, three times in four.
    pub fn tame(&mut self) {
        self.is_wild = self.once_in(4);
    }

    /// One time in `count` of those streams that may have fields out of range.
    pub fn wild_once_in(&mut self, count: u8) -> bool {
        self.is_wild && self.once_in(count)
    }

    /// A number from `first` to `last`; seldom any other one.
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

    /// So many bytes that look like chance, from a seed of two.
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

/// Writes the file that the choices made to where `FUZZ_FILE` says: how a finding becomes a fixture.
pub fn keep(file: &[u8]) {
    if let Some(path) = std::env::var_os("FUZZ_FILE") {
        std::fs::write(path, file).expect("to write");
    }
}
