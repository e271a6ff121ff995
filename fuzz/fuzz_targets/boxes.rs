//! MP4 files as trees of boxes (ISO/IEC 14496-12): parsed from fixtures, changed, and written with sizes that are
//! correct, or wrong on purpose.
#![allow(dead_code, reason = "each target takes a part")]

pub type BoxType = [u8; 4];

/// Boxes that contain boxes, with the number of bytes before the first of them.
const PARENTS: [(&BoxType, usize); 16] = [
    (b"moov", 0),
    (b"trak", 0),
    (b"edts", 0),
    (b"mdia", 0),
    (b"minf", 0),
    (b"dinf", 0),
    (b"stbl", 0),
    (b"mvex", 0),
    (b"moof", 0),
    (b"traf", 0),
    (b"mfra", 0),
    (b"udta", 0),
    (b"stsd", 8),
    (b"hev1", 78),
    (b"hvc1", 78),
    (b"avc1", 78),
];

#[derive(Clone)]
pub struct BoxNode {
    pub kind: BoxType,
    /// The whole content, or the part before the children.
    pub payload: Vec<u8>,
    pub children: Vec<BoxNode>,
    /// The size to write instead of the correct one.
    pub claimed: Option<u64>,
    /// The size is written in 8 more bytes.
    pub is_large: bool,
}

impl BoxNode {
    pub fn leaf(kind: &BoxType, payload: Vec<u8>) -> BoxNode {
        BoxNode { kind: *kind, payload, children: Vec::new(), claimed: None, is_large: false }
    }

    pub fn parent(kind: &BoxType, children: Vec<BoxNode>) -> BoxNode {
        BoxNode { children, ..BoxNode::leaf(kind, Vec::new()) }
    }

    /// A full box: version and flags, then numbers of 4 bytes.
    pub fn full(kind: &BoxType, numbers: &[u32]) -> BoxNode {
        BoxNode::leaf(kind, [0].iter().chain(numbers).flat_map(|number| number.to_be_bytes()).collect())
    }

    pub fn size(&self) -> usize {
        let header = if self.is_large { 16 } else { 8 };
        header + self.payload.len() + self.children.iter().map(BoxNode::size).sum::<usize>()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let size = self.claimed.unwrap_or(self.size() as u64);
        out.extend(if self.is_large { 1 } else { size as u32 }.to_be_bytes());
        out.extend(self.kind);
        if self.is_large {
            out.extend(size.to_be_bytes());
        }
        out.extend(&self.payload);
        self.children.iter().for_each(|child| child.write(out));
    }

    /// Calls `change` for this box and all below, in order, with the number of each.
    pub fn visit(&mut self, number: &mut usize, change: &mut impl FnMut(usize, &mut BoxNode)) {
        change(*number, self);
        *number += 1;
        self.children.iter_mut().for_each(|child| child.visit(number, change));
    }

    pub fn count(&self) -> usize {
        1 + self.children.iter().map(BoxNode::count).sum::<usize>()
    }
}

/// The boxes in `bytes`. Data that are no box are dropped.
pub fn parse(mut data: &[u8]) -> Vec<BoxNode> {
    let mut nodes = Vec::new();
    while data.len() >= 8 {
        let mut size = u64::from(u32::from_be_bytes(data[..4].try_into().expect("four"))) as usize;
        let kind: BoxType = data[4..8].try_into().expect("four");
        let mut header = 8;
        if size == 1 && data.len() >= 16 {
            size = u64::from_be_bytes(data[8..16].try_into().expect("eight")) as usize;
            header = 16;
        }
        if size < header || size > data.len() {
            break;
        }
        let (this, rest) = data.split_at(size);
        let body = &this[header..];
        let before = PARENTS.iter().find(|(parent, _)| **parent == kind).map(|(_, before)| *before);
        let before = before.filter(|before| *before <= body.len());
        let (payload, children) = body.split_at(before.unwrap_or(body.len()));
        nodes.push(BoxNode {
            children: parse(children),
            is_large: header == 16,
            ..BoxNode::leaf(&kind, payload.to_vec())
        });
        data = rest;
    }
    nodes
}

pub fn bytes(nodes: &[BoxNode]) -> Vec<u8> {
    let mut out = Vec::new();
    nodes.iter().for_each(|node| node.write(&mut out));
    out
}
