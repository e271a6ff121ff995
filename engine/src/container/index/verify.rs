//! Compares an index file with an index made anew from the video.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Index, bad};
use crate::error::Result;

/// Fields that do not describe the content: `file` is compared when the video is opened.
const ASIDE: [&str; 2] = ["made_by", "file"];
/// The most differences that are named.
const NAMED: usize = 8;

/// The members of a JSON object, as text.
type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

impl Index {
    /// Compares two indexes of the video `name`: `told`, which is this index written again, and `found`, which was made
    /// anew. Writing again removes differences of notation.
    ///
    /// # Errors
    /// `BadIndex` with the fields that differ.
    pub(crate) fn compare(&self, told: &Index, found: &Index, name: &str) -> Result<()> {
        let differences = differences(&text(told), &text(found));
        if differences.is_empty() {
            return Ok(());
        }
        let all = differences.len();
        let more = if all > NAMED { format!(" and {} more", all - NAMED) } else { String::new() };
        let named = differences[..all.min(NAMED)].join(", ");
        Err(bad(format!("it says otherwise than {name} in {named}{more}: make it anew")).of(&self.name))
    }
}

impl Index {
    /// Whether the index has references.
    pub(crate) fn has_references(&self) -> bool {
        self.layout.references.is_some()
    }
}

fn text(index: &Index) -> String {
    serde_json::to_string(&index.layout).expect("plain data")
}

/// The paths of the differences between two JSON objects, without [`ASIDE`].
fn differences(one: &str, other: &str) -> Vec<String> {
    let mut paths = Vec::new();
    if let (Ok(one), Ok(other)) = (serde_json::from_str(one), serde_json::from_str(other)) {
        compare("", one, other, &mut paths);
    }
    paths
}

fn compare(above: &str, one: Members<'_>, mut other: Members<'_>, paths: &mut Vec<String>) {
    for (name, value) in one {
        let beside = other.remove(name);
        let is_same = beside.is_some_and(|beside| beside.get() == value.get());
        if is_same || (above.is_empty() && ASIDE.contains(&name)) {
            continue;
        }
        match members(value).zip(beside.and_then(members)) {
            Some((value, beside)) => compare(&path(above, name), value, beside, paths),
            None => paths.push(path(above, name)),
        }
    }
    paths.extend(other.into_keys().map(|name| path(above, name)));
}

fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn path(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn what_differs_is_named_by_its_path() {
        let of = |one: &str, other: &str| differences(one, other).join(" ");
        let one = r#"{"made_by":"a","file":1,"samples":{"pts":[1,2],"key":[0]},"frames":[1],"references":null}"#;
        assert_eq!(of(one, &one.replace("\"a\"", "\"b\"").replace("file\":1", "file\":2")), "");
        assert_eq!(of(one, &one.replace("[1,2]", "[1,3]").replace("[1]", "[2]")), "frames samples.pts");
        assert_eq!(of(one, &one.replace("null", "{\"version\":3}")), "references");
        assert_eq!(of(one, &one.replace(",\"key\":[0]", ",\"silent\":[]")), "samples.key samples.silent");
    }
}
