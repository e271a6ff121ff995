//! The messages of `/ws`; docs/serving.md describes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use crate::problem::Word;
use crate::problem::{Kind, Problem};
use crate::stills::{Found, Still};
use crate::target::Target;
use bucket_streamer::OnDamage;
use bucket_streamer::time::{self, Nanos};

/// A message of the client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Incoming {
    /// Sets the video of the frames that follow.
    SetVideo { path: String },
    /// Requests frames.
    RequestFrames {
        /// One entry per frame, each parsed on its own, so that an invalid one is that frame's error.
        frames: Vec<Value>,
        #[serde(default)]
        order: Order,
        /// These are parsed on their own, too: frames with an invalid size still get a response.
        #[serde(default)]
        width: Value,
        #[serde(default)]
        height: Value,
        #[serde(default)]
        quality: Value,
        #[serde(default)]
        on_damage: Value,
    },
    /// Cancels all requested frames.
    Cancel,
}

/// The order in which frames are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    /// The order of the requests.
    #[default]
    Fifo,
    /// The newest request first; older ones of this kind are superseded.
    Latest,
}

/// An item: one requested frame, and the client's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The client's number for the item.
    pub(super) index: i64,
    /// The requested offset.
    pub(super) offset: Option<u64>,
    /// The frame, or the reason why there is none.
    pub(super) target: Result<Target, Word>,
}

impl Wish {
    /// Parses an entry, the one at `place` of its list.
    pub(super) fn read(entry: &Value, place: usize) -> Wish {
        let index = entry.get("index").and_then(Value::as_i64).unwrap_or(place as i64);
        let offset = entry.get("offset").and_then(Value::as_u64);
        let target = match (entry.get("offset"), entry.get("frame"), entry.get("time")) {
            (Some(_), None, None) => offset.map(Target::Offset).ok_or(Word::BadOffset),
            (None, Some(frame), None) => frame.as_u64().map(Target::Frame).ok_or(Word::NotFound),
            (None, None, Some(time)) => nanos(time).map(Target::Time).ok_or(Word::NotFound),
            _ => Err(Word::NotFound),
        };
        Wish { index, offset, target }
    }
}

/// An optional number.
pub(super) fn number(name: &str, value: &Value) -> Result<Option<u32>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("{name} must be a whole number"))
}

/// The handling of damaged pictures, if the message has one.
pub(super) fn on_damage(value: &Value) -> Result<Option<OnDamage>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|why| format!("on_damage: {why}")),
        _ => Err("on_damage must be \"error\" or \"flag\"".to_owned()),
    }
}

/// A time in seconds, or as text.
fn nanos(time: &Value) -> Option<Nanos> {
    match time {
        Value::String(text) => time::parse(text).ok(),
        number => {
            let seconds = number.as_f64().filter(|seconds| (0.0..=1e9).contains(seconds))?;
            Some(Nanos((seconds * 1e9).round() as i64))
        }
    }
}

/// A message of the server.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Outgoing<'a> {
    VideoSet {
        path: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Announces a picture, which is the next message.
    Frame {
        index: i64,
        /// Byte offset of the frame's sample.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// Bytes of the picture.
        size: usize,
        frame: u32,
        pts: i64,
        time_s: f64,
        key: bool,
        /// The origin of the picture: `hit`, `miss` or `joined`.
        cache: &'static str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        corrupt: bool,
    },
    FrameError {
        index: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        error: Word,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Error {
        message: &'a str,
    },
}

impl Outgoing<'_> {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The message before a picture.
pub(super) fn frame(wish: &Wish, offset: Option<u64>, still: &Still, found: Found) -> String {
    let Still { frame, pts, time_s, key, corrupt, .. } = *still;
    let (index, size, cache) = (wish.index, still.bytes.len(), found.name());
    Outgoing::Frame { index, offset: wish.offset.or(offset), size, frame, pts, time_s, key, cache, corrupt }.text()
}

/// The message instead of a picture.
pub(super) fn failed(wish: &Wish, error: Word, message: Option<String>) -> String {
    Outgoing::FrameError { index: wish.index, offset: wish.offset, error, message }.text()
}

/// The word for a problem with the frame of an item.
pub(super) fn word(wish: &Wish, problem: &Problem) -> Word {
    match problem.kind {
        Kind::BadParameter if wish.offset.is_some() => Word::BadOffset,
        _ => problem.word(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Incoming, Nanos, OnDamage, Order, Target, Wish, Word, on_damage};

    fn wish(entry: serde_json::Value) -> Wish {
        Wish::read(&entry, 7)
    }

    #[test]
    fn entries_say_which_frame_and_what_it_is_called() {
        let asked = |index, offset, target| Wish { index, offset, target };
        assert_eq!(wish(json!({"offset": 1500, "index": 0})), asked(0, Some(1500), Ok(Target::Offset(1500))));
        assert_eq!(wish(json!({"frame": 120})), asked(7, None, Ok(Target::Frame(120))));
        assert_eq!(wish(json!({"time": 4.8})), asked(7, None, Ok(Target::Time(Nanos(4_800_000_000)))));
        assert_eq!(wish(json!({"time": "0:04.8"})), asked(7, None, Ok(Target::Time(Nanos(4_800_000_000)))));
        assert_eq!(wish(json!({"offset": -1, "index": 3})), asked(3, None, Err(Word::BadOffset)));
        for entry in [
            json!({"frame": "x"}),
            json!({}),
            json!(null),
            json!(4),
            json!({"frame": 1, "time": 2}),
            json!({"time": 1e300}),
        ] {
            assert_eq!(wish(entry), asked(7, None, Err(Word::NotFound)));
        }
    }

    #[test]
    fn damage_is_left_to_the_server_or_named() {
        let of = |value: serde_json::Value| on_damage(&value);
        assert_eq!(of(json!(null)), Ok(None));
        assert_eq!(of(json!("error")), Ok(Some(OnDamage::Error)));
        assert_eq!(of(json!("flag")), Ok(Some(OnDamage::Flag)));
        for wrong in [json!("Error"), json!(""), json!(true), json!(["flag"])] {
            assert!(of(wrong.clone()).is_err_and(|why| why.contains("on_damage")), "{wrong}");
        }
    }

    #[test]
    fn messages_are_read_as_they_are_documented() {
        let text =
            r#"{"type":"RequestFrames","irap_offset":1000,"frames":[{"offset":1500,"index":0}],"order":"latest"}"#;
        let read: Incoming = serde_json::from_str(text).unwrap();
        assert!(matches!(read, Incoming::RequestFrames { order: Order::Latest, ref frames, .. } if frames.len() == 1));
        assert!(matches!(serde_json::from_str(r#"{"type":"Cancel"}"#), Ok(Incoming::Cancel)));
        for wrong in
            ["", "{}", "[]", r#"{"type":"Other"}"#, r#"{"type":"SetVideo"}"#, r#"{"type":"RequestFrames","frames":3}"#]
        {
            assert!(serde_json::from_str::<Incoming>(wrong).is_err(), "{wrong}");
        }
    }
}
