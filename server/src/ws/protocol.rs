//! The messages of `/ws`; docs/serving.md describes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame_locator::FrameLocator;
pub(super) use crate::problem::FrameErrorCode;
use crate::problem::{Problem, ProblemKind};
use crate::stills::{CacheOutcome, EncodedStill};
use bucket_streamer::OnDamage;
use bucket_streamer::time::{self, Nanos};

/// A message of the client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum ClientMessage {
    /// Sets the video of the frames that follow.
    SetVideo { path: String },
    /// Requests frames.
    RequestFrames {
        /// One entry per frame. Each is parsed on its own, so that an invalid entry is an error of that frame only.
        frames: Vec<Value>,
        #[serde(default)]
        order: RequestOrder,
        /// The options are parsed on their own, too: frames with an invalid size still get a response.
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
pub(super) enum RequestOrder {
    /// The order of the requests.
    #[default]
    Fifo,
    /// The newest request first; older ones of this kind are superseded.
    Latest,
}

/// An item of the request queue: one requested frame, and the client's number for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueItem {
    /// The client's number for the item, repeated in the response.
    pub(super) index: i64,
    /// The requested byte offset, if the item has one.
    pub(super) offset: Option<u64>,
    /// The requested frame, or the error of an invalid entry.
    pub(super) locator: Result<FrameLocator, FrameErrorCode>,
}

impl QueueItem {
    /// Parses the entry at `position` of a message's list. Without an `index` of its own, the item gets its position.
    pub(super) fn parse(entry: &Value, position: usize) -> QueueItem {
        let index = entry.get("index").and_then(Value::as_i64).unwrap_or(position as i64);
        let offset = entry.get("offset").and_then(Value::as_u64);
        let locator = match (entry.get("offset"), entry.get("frame"), entry.get("time")) {
            (Some(_), None, None) => offset.map(FrameLocator::Offset).ok_or(FrameErrorCode::BadOffset),
            (None, Some(frame), None) => frame.as_u64().map(FrameLocator::Frame).ok_or(FrameErrorCode::NotFound),
            (None, None, Some(time)) => nanos(time).map(FrameLocator::Time).ok_or(FrameErrorCode::NotFound),
            _ => Err(FrameErrorCode::NotFound),
        };
        QueueItem { index, offset, locator }
    }
}

/// Parses an optional number; `name` is for the error.
pub(super) fn number(name: &str, value: &Value) -> Result<Option<u32>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("{name} must be a whole number"))
}

/// Parses the optional damage policy.
pub(super) fn on_damage(value: &Value) -> Result<Option<OnDamage>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|why| format!("on_damage: {why}")),
        _ => Err("on_damage must be \"error\" or \"flag\"".to_owned()),
    }
}

/// Parses a time: a number of seconds, or text such as `0:12.5`.
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
pub(super) enum ServerMessage<'a> {
    VideoSet {
        path: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Describes a picture, which is the next message (binary).
    Frame {
        index: i64,
        /// Byte offset of the frame's sample.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// Number of bytes of the picture.
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
        error: FrameErrorCode,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Error {
        message: &'a str,
    },
}

impl ServerMessage<'_> {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The text message before a picture.
pub(super) fn picture_message(
    item: &QueueItem,
    offset: Option<u64>,
    still: &EncodedStill,
    cache: CacheOutcome,
) -> String {
    let EncodedStill { frame, pts, time_s, key, corrupt, .. } = *still;
    let (index, size, cache) = (item.index, still.bytes.len(), cache.name());
    ServerMessage::Frame { index, offset: item.offset.or(offset), size, frame, pts, time_s, key, cache, corrupt }.text()
}

/// The text message instead of a picture.
pub(super) fn error_message(item: &QueueItem, error: FrameErrorCode, message: Option<String>) -> String {
    ServerMessage::FrameError { index: item.index, offset: item.offset, error, message }.text()
}

/// The error code of an item for a problem with its frame.
pub(super) fn error_code(item: &QueueItem, problem: &Problem) -> FrameErrorCode {
    match problem.kind {
        ProblemKind::BadParameter if item.offset.is_some() => FrameErrorCode::BadOffset,
        _ => problem.frame_error(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ClientMessage, FrameErrorCode, FrameLocator, Nanos, OnDamage, QueueItem, RequestOrder, on_damage};

    fn item(entry: serde_json::Value) -> QueueItem {
        QueueItem::parse(&entry, 7)
    }

    #[test]
    fn entries_have_a_frame_and_an_index() {
        let expected = |index, offset, locator| QueueItem { index, offset, locator };
        assert_eq!(item(json!({"offset": 1500, "index": 0})), expected(0, Some(1500), Ok(FrameLocator::Offset(1500))));
        assert_eq!(item(json!({"frame": 120})), expected(7, None, Ok(FrameLocator::Frame(120))));
        assert_eq!(item(json!({"time": 4.8})), expected(7, None, Ok(FrameLocator::Time(Nanos(4_800_000_000)))));
        assert_eq!(item(json!({"time": "0:04.8"})), expected(7, None, Ok(FrameLocator::Time(Nanos(4_800_000_000)))));
        assert_eq!(item(json!({"offset": -1, "index": 3})), expected(3, None, Err(FrameErrorCode::BadOffset)));
        for entry in [
            json!({"frame": "x"}),
            json!({}),
            json!(null),
            json!(4),
            json!({"frame": 1, "time": 2}),
            json!({"time": 1e300}),
        ] {
            assert_eq!(item(entry), expected(7, None, Err(FrameErrorCode::NotFound)));
        }
    }

    #[test]
    fn the_damage_policy_is_optional() {
        let of = |value: serde_json::Value| on_damage(&value);
        assert_eq!(of(json!(null)), Ok(None));
        assert_eq!(of(json!("error")), Ok(Some(OnDamage::Error)));
        assert_eq!(of(json!("flag")), Ok(Some(OnDamage::Flag)));
        for wrong in [json!("Error"), json!(""), json!(true), json!(["flag"])] {
            assert!(of(wrong.clone()).is_err_and(|why| why.contains("on_damage")), "{wrong}");
        }
    }

    #[test]
    fn messages_are_parsed_as_documented() {
        let text =
            r#"{"type":"RequestFrames","irap_offset":1000,"frames":[{"offset":1500,"index":0}],"order":"latest"}"#;
        let read: ClientMessage = serde_json::from_str(text).unwrap();
        assert!(
            matches!(read, ClientMessage::RequestFrames { order: RequestOrder::Latest, ref frames, .. } if frames.len() == 1)
        );
        assert!(matches!(serde_json::from_str(r#"{"type":"Cancel"}"#), Ok(ClientMessage::Cancel)));
        for wrong in
            ["", "{}", "[]", r#"{"type":"Other"}"#, r#"{"type":"SetVideo"}"#, r#"{"type":"RequestFrames","frames":3}"#]
        {
            assert!(serde_json::from_str::<ClientMessage>(wrong).is_err(), "{wrong}");
        }
    }
}
