//! Compares an index file with an index that is built from the video again.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Index, bad};
use crate::error::Result;

/// Fields that do not describe the content: `file` is compared when the video is opened.
const IGNORED: [&str; 2] = ["made_by", "file"];
/// The largest number of differences in a message.
const NAMED: usize = 8;

/// The members of a JSON object, as text.
type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

impl Index {
    /// Compares two indexes of the video `name`: `stored`, which is this index written again, and `rebuilt`, which is
    /// built from the video. Writing again removes differences of notation.
    ///
    /// # Errors
    /// `BadIndex` with the fields that differ.
    pub(crate) fn compare(&self, stored: &Index, rebuilt: &Index, name: &str) -> Result<()> {
        let differences = differences(&text(stored), &text(rebuilt));
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
    /// True if the index has references.
    pub(crate) fn has_references(&self) -> bool {
        self.layout.references.is_some()
    }
}

fn text(index: &Index) -> String {
    serde_json::to_string(&index.layout).expect("plain data")
}

/// The paths of the differences between two JSON objects, without [`IGNORED`].
fn differences(one: &str, other: &str) -> Vec<String> {
    let mut paths = Vec::new();
    if let (Ok(one), Ok(other)) = (serde_json::from_str(one), serde_json::from_str(other)) {
        compare("", one, other, &mut paths);
    }
    paths
}

fn compare(parent: &str, one: Members<'_>, mut other: Members<'_>, paths: &mut Vec<String>) {
    for (name, value) in one {
        let counterpart = other.remove(name);
        let is_same = counterpart.is_some_and(|beside| beside.get() == value.get());
        if is_same || (parent.is_empty() && IGNORED.contains(&name)) {
            continue;
        }
        match members(value).zip(counterpart.and_then(members)) {
            Some((value, beside)) => compare(&path(parent, name), value, beside, paths),
            None => paths.push(path(parent, name)),
        }
    }
    paths.extend(other.into_keys().map(|name| path(parent, name)));
}

fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
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
