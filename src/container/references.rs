//! What samples refer to: a table that whoever reads slice headers fills in, and that an index file keeps.
//!
//! Only the table. How it is found out, and what is made of it, is left to others.

/// How a picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PictureKind {
    /// Not known.
    #[default]
    Unknown,
    /// Refers to nothing.
    Intra,
    /// One picture for each block, at most.
    Predicted,
    /// Up to two pictures for each block.
    BiPredicted,
}

impl PictureKind {
    const ALL: [PictureKind; 4] =
        [PictureKind::Unknown, PictureKind::Intra, PictureKind::Predicted, PictureKind::BiPredicted];

    /// Its number in an index file.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// From its number in an index file.
    pub fn from_number(number: u8) -> Option<PictureKind> {
        PictureKind::ALL.get(usize::from(number)).copied()
    }
}

/// One sample's row, without what it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    picture_order_count: i32,
    kind: PictureKind,
    flags: u32,
    /// Where its references begin in `back`; they end where the next row's begin.
    first: u32,
}

/// For every sample, in decode order, which earlier ones it refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    rows: Vec<Row>,
    back: Vec<u32>,
}

impl References {
    /// Most samples that one may refer to: a decoded picture buffer has 16 places, each may hold two fields.
    pub const MOST: usize = 32;
    /// Flag: other pictures may refer to this one.
    pub const IS_REFERENCE: u32 = 1;
    /// Flag: what is listed is all that the sample needs. Without it, nothing may be left out on its account.
    pub const IS_COMPLETE: u32 = 2;

    /// Adds the next sample. `refers_to` are samples before it; false, and nothing is added, if one is not, or if there
    /// are more than [`References::MOST`].
    pub fn push(&mut self, refers_to: &[u32], picture_order_count: i32, kind: PictureKind, flags: u32) -> bool {
        let own = self.rows.len() as u32;
        if refers_to.len() > Self::MOST || refers_to.iter().any(|&sample| sample >= own) {
            return false;
        }
        self.rows.push(Row { picture_order_count, kind, flags, first: self.back.len() as u32 });
        self.back.extend(refers_to.iter().map(|sample| own - sample));
        true
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How far back the samples lie that `sample` refers to: 1 for the one before it in decode order. Empty past the end.
    pub fn back(&self, sample: u32) -> &[u32] {
        let at = sample as usize;
        let Some(row) = self.rows.get(at) else { return &[] };
        let end = self.rows.get(at + 1).map_or(self.back.len(), |next| next.first as usize);
        &self.back[row.first as usize..end]
    }

    /// The samples that `sample` refers to.
    pub fn of(&self, sample: u32) -> impl Iterator<Item = u32> {
        self.back(sample).iter().map(move |back| sample - back)
    }

    /// Picture order count, coding and flags of a sample; `None` past the end.
    pub fn picture(&self, sample: u32) -> Option<(i32, PictureKind, u32)> {
        self.rows.get(sample as usize).map(|row| (row.picture_order_count, row.kind, row.flags))
    }
}

#[cfg(test)]
mod tests {
    use super::{PictureKind, References};

    #[test]
    fn a_sample_refers_to_earlier_ones_only() {
        let mut references = References::default();
        assert!(references.push(&[], 0, PictureKind::Intra, References::IS_REFERENCE));
        assert!(!references.push(&[1], 8, PictureKind::Predicted, 0), "itself");
        assert!(references.push(&[0], 8, PictureKind::Predicted, 0));
        assert!(references.push(&[1, 0], 4, PictureKind::BiPredicted, References::IS_COMPLETE));
        assert!(!references.push(&[0; References::MOST + 1], 0, PictureKind::Unknown, 0));
        assert_eq!(references.len(), 3);
        assert_eq!(references.of(2).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(references.back(1), [1]);
        assert_eq!(references.of(7).count(), 0);
        assert_eq!(references.picture(2), Some((4, PictureKind::BiPredicted, References::IS_COMPLETE)));
        assert_eq!(PictureKind::from_number(PictureKind::BiPredicted.number()), Some(PictureKind::BiPredicted));
        assert_eq!(PictureKind::from_number(4), None);
    }
}
