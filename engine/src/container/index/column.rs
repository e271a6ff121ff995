//! A column of an index file: one integer per sample, frame or sync sample, with runs of equal values counted.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bad;
use crate::error::Result;

/// Values and the lengths of their runs. They are expanded only after their number is checked.
#[derive(Debug, Default)]
pub(super) struct RunLengthColumn(Vec<(i64, u64)>);

/// The shortest run that is written as a count.
const SHORTEST_RUN: u64 = 4;

impl RunLengthColumn {
    /// A column of values.
    pub(super) fn of(values: impl IntoIterator<Item = i64>) -> RunLengthColumn {
        let mut runs: Vec<(i64, u64)> = Vec::new();
        for value in values {
            match runs.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => runs.push((value, 1)),
            }
        }
        RunLengthColumn(runs)
    }

    /// A column of differences from the preceding value, the first from 0; modulo 2^64.
    pub(super) fn of_steps(values: impl IntoIterator<Item = i64>) -> RunLengthColumn {
        let mut before = 0;
        RunLengthColumn::of(values.into_iter().map(|value| value.wrapping_sub(std::mem::replace(&mut before, value))))
    }

    /// The number of values; saturates.
    fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The values of a column from [`RunLengthColumn::of`], which must have `count` of them.
    ///
    /// # Errors
    /// `BadIndex` with the column's `name`, for another number, or a value outside of `T`.
    pub(super) fn values<T: TryFrom<i64> + Copy>(&self, name: &str, count: usize) -> Result<Vec<T>> {
        if self.len() != count as u64 {
            return Err(bad(format!("{name} has {} entries, not {count}", self.len())));
        }
        let mut values = Vec::with_capacity(count);
        for &(value, repeats) in &self.0 {
            let value = T::try_from(value).map_err(|_| bad(format!("{name} has an impossible value: {value}")))?;
            values.extend(std::iter::repeat_n(value, repeats as usize));
        }
        Ok(values)
    }

    /// The values of a column from [`RunLengthColumn::of_steps`], which must have `count` of them.
    ///
    /// # Errors
    /// As [`RunLengthColumn::values`].
    pub(super) fn steps(&self, name: &str, count: usize) -> Result<Vec<i64>> {
        let mut values = self.values::<i64>(name, count)?;
        let mut sum = 0_i64;
        values.iter_mut().for_each(|value| {
            sum = sum.wrapping_add(*value);
            *value = sum;
        });
        Ok(values)
    }

    /// The samples of a list from [`RunLengthColumn::of_steps`]: ascending, below `samples`.
    ///
    /// # Errors
    /// `BadIndex` with the list's `name`.
    pub(super) fn samples(&self, name: &str, samples: usize) -> Result<Vec<u32>> {
        // An ascending list has at most `samples` elements, which is checked before it is expanded.
        let wrong = || bad(format!("{name} is not an ascending list of samples"));
        let count = usize::try_from(self.len()).ok().filter(|&count| count <= samples).ok_or_else(wrong)?;
        let list = self.steps(name, count)?;
        let in_range = list.iter().all(|&sample| sample >= 0 && sample < samples as i64);
        let ascending = list.windows(2).all(|pair| pair[0] < pair[1]);
        if in_range && ascending { Ok(list.into_iter().map(|sample| sample as u32).collect()) } else { Err(wrong()) }
    }
}

impl Serialize for RunLengthColumn {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(None)?;
        for &(value, count) in &self.0 {
            if count >= SHORTEST_RUN {
                items.serialize_element(&(value, count))?;
            } else {
                (0..count).try_for_each(|_| items.serialize_element(&value))?;
            }
        }
        items.end()
    }
}

impl<'de> Deserialize<'de> for RunLengthColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<RunLengthColumn, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = RunLengthColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of integers and of [value, count] pairs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<RunLengthColumn, A::Error> {
                let mut runs = Vec::new();
                while let Some(ColumnItem(value, count)) = items.next_element()? {
                    runs.push((value, count));
                }
                Ok(RunLengthColumn(runs))
            }
        }
        deserializer.deserialize_seq(ColumnVisitor)
    }
}

struct ColumnItem(i64, u64);

impl<'de> Deserialize<'de> for ColumnItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<ColumnItem, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = ColumnItem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a pair [value, count]")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<ColumnItem, E> {
                Ok(ColumnItem(value, 1))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<ColumnItem, E> {
                i64::try_from(value).map(|value| ColumnItem(value, 1)).map_err(|_| E::custom("an integer past 63 bits"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> std::result::Result<ColumnItem, A::Error> {
                let value = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let count = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
                Ok(ColumnItem(value, count))
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::RunLengthColumn;

    fn read(text: &str) -> RunLengthColumn {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn columns_are_written_with_their_runs_and_read_back() {
        for (values, text) in [
            (vec![], "[]"),
            (vec![5, 5, 5, -1], "[5,5,5,-1]"),
            (vec![7; 9], "[[7,9]]"),
            (vec![i64::MIN, i64::MAX], "[-9223372036854775808,9223372036854775807]"),
        ] {
            let column = RunLengthColumn::of(values.clone());
            assert_eq!(serde_json::to_string(&column).unwrap(), text);
            assert_eq!(read(text).values::<i64>("it", values.len()).unwrap(), values);
            let steps = serde_json::to_string(&RunLengthColumn::of_steps(values.clone())).unwrap();
            assert_eq!(read(&steps).steps("it", values.len()).unwrap(), values);
        }
        assert_eq!(
            serde_json::to_string(&RunLengthColumn::of_steps([0, 512, 1024, 1536, 2048])).unwrap(),
            "[0,[512,4]]"
        );
    }

    #[test]
    fn what_no_column_can_be_is_refused() {
        for text in ["[1.5]", "[[1]]", "[[1,2,3]]", "[[1,-1]]", "[18446744073709551615]", "[null]", "[\"1\"]", "7"] {
            assert!(serde_json::from_str::<RunLengthColumn>(text).is_err(), "{text}");
        }
        let endless = read("[[1,18446744073709551615],[1,18446744073709551615]]");
        assert!(endless.values::<i64>("it", 1000).is_err());
        assert!(endless.samples("it", 1000).is_err());
        assert!(read("[300]").values::<u8>("it", 1).is_err());
        assert!(read("[-1]").values::<u32>("it", 1).is_err());
    }

    #[test]
    fn lists_of_samples_ascend() {
        assert_eq!(read("[0,[1,3]]").samples("it", 4).unwrap(), [0, 1, 2, 3]);
        for text in ["[4]", "[-1]", "[1,0]", "[2,-1]", "[0,[1,4]]", "[0,9223372036854775807]"] {
            assert!(read(text).samples("it", 4).is_err(), "{text}");
        }
    }
}
