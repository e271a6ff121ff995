//! The section of an index file that says what samples refer to. It has a version of its own, since nothing goes wrong
//! without it: a section of another version is left aside.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::column::Column;
use super::{bad, told};
use crate::container::{PictureKind, References};
use crate::error::Result;

const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Section {
    version: u32,
    picture_order_count: Column,
    kind: Column,
    flags: Column,
    /// How many samples each refers to.
    counts: Column,
    /// How far back each of these lies.
    back: Column,
}

pub(super) fn section(references: &References) -> Box<RawValue> {
    let samples = || 0..references.len() as u32;
    let pictures = || samples().filter_map(|sample| references.picture(sample));
    let section = Section {
        version: VERSION,
        picture_order_count: Column::of_steps(pictures().map(|(count, _, _)| i64::from(count))),
        kind: Column::of(pictures().map(|(_, kind, _)| i64::from(kind.number()))),
        flags: Column::of(pictures().map(|(_, _, flags)| i64::from(flags))),
        counts: Column::of(samples().map(|sample| references.back(sample).len() as i64)),
        back: Column::of(samples().flat_map(|sample| references.back(sample)).map(|&back| i64::from(back))),
    };
    to_raw_value(&section).expect("plain data")
}

/// `None` for a section of another version.
pub(super) fn table(section: &RawValue, samples: usize) -> Result<Option<References>> {
    let damaged = |error| bad(told(&error));
    if serde_json::from_str::<Head>(section.get()).map_err(damaged)?.version != VERSION {
        return Ok(None);
    }
    let section: Section = serde_json::from_str(section.get()).map_err(damaged)?;
    let counts = section.counts.values::<u8>("references.counts", samples)?;
    if counts.iter().any(|&count| usize::from(count) > References::MOST) {
        return Err(bad("a sample refers to more others than can be"));
    }
    let all = counts.iter().map(|&count| usize::from(count)).sum();
    let back = section.back.values::<u32>("references.back", all)?;
    let order = section.picture_order_count.steps("references.picture_order_count", samples)?;
    let kinds = section.kind.values::<u8>("references.kind", samples)?;
    let flags = section.flags.values::<u32>("references.flags", samples)?;
    let (mut table, mut back) = (References::default(), back.into_iter());
    for (sample, count) in (0_u32..).zip(&counts) {
        let at = sample as usize;
        let refers_to: Option<Vec<u32>> =
            back.by_ref().take(usize::from(*count)).map(|back| sample.checked_sub(back)).collect();
        let row = refers_to.zip(i32::try_from(order[at]).ok()).zip(PictureKind::from_number(kinds[at]));
        let added = row.is_some_and(|((refers_to, order), kind)| table.push(&refers_to, order, kind, flags[at]));
        if !added {
            return Err(bad(format!("what sample {sample} refers to cannot be")));
        }
    }
    Ok(Some(table))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{section, table};
    use crate::container::{PictureKind, References};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_table_is_written_and_read_back() {
        let mut references = References::default();
        assert!(references.push(&[], 0, PictureKind::Intra, 3));
        assert!(references.push(&[0], 16, PictureKind::Predicted, 3));
        assert!(references.push(&[0, 1], -8, PictureKind::BiPredicted, 2));
        let text = section(&references);
        assert_eq!(
            text.get(),
            r#"{"version":1,"picture_order_count":[0,16,-24],"kind":[1,2,3],"flags":[3,3,2],"counts":[0,1,2],"back":[1,2,1]}"#
        );
        assert_eq!(table(&text, 3).unwrap(), Some(references));
        assert!(table(&text, 4).is_err(), "another number of samples");
    }

    #[test]
    fn another_version_is_left_aside_and_what_cannot_be_is_refused() {
        assert_eq!(table(&raw(r#"{"version":2,"kind":"new"}"#), 1).unwrap(), None);
        let with = |counts: &str, back: &str| {
            let text = format!(
                r#"{{"version":1,"picture_order_count":[0,0],"kind":[0,0],"flags":[0,0],"counts":{counts},"back":{back}}}"#
            );
            table(&raw(&text), 2)
        };
        assert!(with("[0,1]", "[1]").is_ok());
        for (counts, back) in
            [("[0,1]", "[0]"), ("[0,1]", "[2]"), ("[0,1]", "[]"), ("[0,33]", "[[1,33]]"), ("[1,0]", "[1]")]
        {
            assert!(with(counts, back).is_err(), "{counts} {back}");
        }
    }
}
