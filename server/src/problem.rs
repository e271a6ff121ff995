//! Errors of the API: problem documents (RFC 9457) for HTTP, and the words of the WebSocket protocol.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

use super::admission::Full;
use bucket_streamer::error::{Error, ErrorKind};
use bucket_streamer::source::Refusal;
use bucket_streamer::still::StillFormat;

/// A problem document. `type` is a name within this API, as a relative address.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// The kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub(super) kind: Kind,
    /// The kind in a few words.
    pub(super) title: &'static str,
    /// The status of the response.
    pub(super) status: u16,
    /// What happened, in one line.
    pub(super) detail: String,
    /// The frame at which it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u64>,
    /// The sample, in decode order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<u32>,
    /// The byte offset of that sample in the video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    /// Seconds after which the client may try again; the same as in the Retry-After header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_s: Option<u64>,
}

/// The kind of a problem. The names are a part of the API; `docs/serving.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    BadParameter,
    Unauthorized,
    Forbidden,
    OutOfReach,
    NotFound,
    BadMethod,
    NotAcceptable,
    Undecodable,
    UnreadableVideo,
    TooManyHeaders,
    Internal,
    FetchFailed,
    Overloaded,
    Ending,
    Changed,
    Deadline,
}

impl Kind {
    /// The name in documents, the title, and the status of the response.
    fn parts(self) -> (&'static str, &'static str, u16) {
        match self {
            Kind::BadParameter => ("bad-parameter", "A parameter is wrong", 400),
            Kind::Unauthorized => ("unauthorized", "The request has no valid credentials", 401),
            Kind::Forbidden => ("forbidden", "The signature is not valid", 403),
            Kind::OutOfReach => ("forbidden", "The credentials do not allow this", 403),
            Kind::NotFound => ("not-found", "No such video, frame, time or address", 404),
            Kind::BadMethod => ("method-not-allowed", "The method is not GET or HEAD", 405),
            Kind::NotAcceptable => ("not-acceptable", "None of the accepted formats can be made", 406),
            Kind::Undecodable => ("undecodable", "The frame cannot be decoded", 422),
            Kind::UnreadableVideo => ("unreadable-video", "The video cannot be read", 422),
            Kind::TooManyHeaders => ("too-many-headers", "The request has too many headers", 431),
            Kind::Internal => ("internal", "The server has an internal error", 500),
            Kind::FetchFailed => ("fetch-failed", "The video's bytes cannot be fetched", 502),
            Kind::Overloaded => ("overloaded", "The server is overloaded", 503),
            Kind::Ending => ("ending", "The server is shutting down", 503),
            Kind::Changed => ("changed", "The video changes while it is read", 503),
            Kind::Deadline => ("deadline", "The request took too long", 504),
        }
    }

    /// The name in documents. Two kinds share `forbidden`.
    pub(super) fn name(self) -> &'static str {
        self.parts().0
    }

    /// The word of the WebSocket protocol.
    fn word(self) -> Word {
        match self {
            Kind::NotFound | Kind::BadParameter | Kind::Forbidden | Kind::OutOfReach => Word::NotFound,
            Kind::FetchFailed | Kind::Changed => Word::FetchFailed,
            Kind::Overloaded | Kind::Ending => Word::Overloaded,
            Kind::Deadline => Word::Deadline,
            Kind::Unauthorized
            | Kind::BadMethod
            | Kind::NotAcceptable
            | Kind::Undecodable
            | Kind::UnreadableVideo
            | Kind::TooManyHeaders
            | Kind::Internal => Word::DecodeFailed,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The reason why a frame requested over a WebSocket has no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    DecodeFailed,
    FetchFailed,
    NotFound,
    BadOffset,
    Overloaded,
    Deadline,
    Cancelled,
    Superseded,
}

impl Word {
    /// The word in messages and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Word::DecodeFailed => "decode_failed",
            Word::FetchFailed => "fetch_failed",
            Word::NotFound => "not_found",
            Word::BadOffset => "bad_offset",
            Word::Overloaded => "overloaded",
            Word::Deadline => "deadline",
            Word::Cancelled => "cancelled",
            Word::Superseded => "superseded",
        }
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Problem {
    fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        let (_, title, status) = kind.parts();
        let (frame, sample, offset, retry_after_s) = (None, None, None, None);
        Problem { kind, title, status, detail: detail.into(), frame, sample, offset, retry_after_s }
    }

    pub(super) fn bad_parameter(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::BadParameter, detail)
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(Kind::Unauthorized, "send a token (Authorization: Bearer ...) or use a signed address")
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::Forbidden, detail)
    }

    /// The same whether the video exists or not.
    pub(super) fn out_of_reach() -> Problem {
        Problem::new(Kind::OutOfReach, "the token or signature is limited to other videos")
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::NotFound, detail)
    }

    pub(super) fn bad_method() -> Problem {
        Problem::new(Kind::BadMethod, "this address answers GET and HEAD")
    }

    pub(super) fn not_acceptable() -> Problem {
        let types = StillFormat::ALL.map(StillFormat::media_type).join(", ");
        Problem::new(Kind::NotAcceptable, format!("stills are one of {types}"))
    }

    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::Internal, detail)
    }

    pub(super) fn draining() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(Kind::Ending, "this server is shutting down") }
    }

    pub(super) fn too_many_connections() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(Kind::Overloaded, "there are too many connections") }
    }

    /// The client has not read earlier responses.
    pub(super) fn unread() -> Problem {
        let retry_after_s = Some(1);
        let detail = "too many bytes wait to be read: read the responses to other requests first";
        Problem { retry_after_s, ..Problem::new(Kind::Overloaded, detail) }
    }

    pub(super) fn too_many_headers() -> Problem {
        Problem::new(Kind::TooManyHeaders, "a request may have at most 64 headers")
    }

    pub(super) fn deadline() -> Problem {
        let retry_after_s = Some(5);
        Problem { retry_after_s, ..Problem::new(Kind::Deadline, "the frame was not ready in time: try again later") }
    }

    pub(super) fn not_opened_in_time() -> Problem {
        let retry_after_s = Some(5);
        Problem { retry_after_s, ..Problem::new(Kind::Deadline, "the video was not opened in time: try again later") }
    }

    /// The problem of an engine's error, without its source: the client knows the video's name, and need not know its
    /// location.
    pub(super) fn of(error: &Error) -> Problem {
        let (kind, retry_after_s) = kind_of(error);
        let (frame, sample, offset) = (error.frame(), error.sample(), error.offset());
        Problem { frame, sample, offset, retry_after_s, ..Problem::new(kind, error.message()) }
    }

    /// The word of the WebSocket protocol.
    pub(super) fn word(&self) -> Word {
        self.kind.word()
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn kind_of(error: &Error) -> (Kind, Option<u64>) {
    use ErrorKind::{
        Changed, Corrupt, Damaged, IndexBusy, NeedsUnreadable, NoSuchFrame, NoSuchVideo, NotShown, OpenCancelled,
        OpenTimeout, PastEnd, PastEndOfVideo, PictureMemory, Read, Remote, Still, TooManyPixels, Write,
    };
    match error.kind() {
        NoSuchVideo | NoSuchFrame { .. } | PastEndOfVideo { .. } => (Kind::NotFound, None),
        NotShown | Damaged(_) | Corrupt | NeedsUnreadable(_) | PastEnd { .. } => (Kind::Undecodable, None),
        Still(_) => (Kind::Undecodable, None),
        // One frame is too large; other frames of the video may be smaller.
        TooManyPixels { .. } | PictureMemory { .. } if error.frame().is_some() => (Kind::Undecodable, None),
        Changed => (Kind::Changed, Some(1)),
        OpenTimeout { .. } | OpenCancelled => (Kind::Deadline, Some(5)),
        IndexBusy => (Kind::Overloaded, Some(5)),
        Remote(refusal) => of_refusal(refusal),
        Read(_) | Write { .. } => (Kind::Internal, None),
        _ => (Kind::UnreadableVideo, None),
    }
}

fn of_refusal(refusal: &Refusal) -> (Kind, Option<u64>) {
    match refusal {
        Refusal::NotFound(_) | Refusal::Store { status: 404, .. } => (Kind::NotFound, None),
        Refusal::Busy(_) | Refusal::Timeout { .. } | Refusal::Connection(_) => (Kind::FetchFailed, Some(5)),
        _ => (Kind::FetchFailed, None),
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Problem {
        let retry_after_s = Some(full.retry_after_s);
        Problem { retry_after_s, ..Problem::new(Kind::Overloaded, "too many requests are waiting: try again later") }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::of(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Error, ErrorKind, Kind, Problem, Word};

    #[test]
    fn damage_and_size_are_422_and_say_so() {
        let corrupt = Problem::of(&Error::from(ErrorKind::Corrupt).at_frame(7_u64).at_sample(9, Some(4321)));
        assert_eq!((corrupt.kind, corrupt.status, corrupt.word()), (Kind::Undecodable, 422, Word::DecodeFailed));
        assert_eq!((corrupt.frame, corrupt.sample, corrupt.offset), (Some(7), Some(9), Some(4321)));
        assert!(corrupt.detail.contains("the picture is damaged"), "{}", corrupt.detail);
        let large = || Error::from(ErrorKind::TooManyPixels { width: 16384, height: 8192, limit: 35_651_584 });
        let (video, frame) = (Problem::of(&large()), Problem::of(&large().at_frame(3_u64)));
        assert_eq!((video.kind, video.status, video.word()), (Kind::UnreadableVideo, 422, Word::DecodeFailed));
        assert_eq!((frame.kind, frame.status, frame.word()), (Kind::Undecodable, 422, Word::DecodeFailed));
        assert!(video.detail.contains("16384x8192") && video.detail.contains("35651584"), "{}", video.detail);
    }

    #[test]
    fn names_words_and_statuses_are_those_of_the_api() {
        let expected = [
            (Kind::BadParameter, "bad-parameter", 400, "not_found"),
            (Kind::Unauthorized, "unauthorized", 401, "decode_failed"),
            (Kind::Forbidden, "forbidden", 403, "not_found"),
            (Kind::OutOfReach, "forbidden", 403, "not_found"),
            (Kind::NotFound, "not-found", 404, "not_found"),
            (Kind::BadMethod, "method-not-allowed", 405, "decode_failed"),
            (Kind::NotAcceptable, "not-acceptable", 406, "decode_failed"),
            (Kind::Undecodable, "undecodable", 422, "decode_failed"),
            (Kind::UnreadableVideo, "unreadable-video", 422, "decode_failed"),
            (Kind::TooManyHeaders, "too-many-headers", 431, "decode_failed"),
            (Kind::Internal, "internal", 500, "decode_failed"),
            (Kind::FetchFailed, "fetch-failed", 502, "fetch_failed"),
            (Kind::Overloaded, "overloaded", 503, "overloaded"),
            (Kind::Ending, "ending", 503, "overloaded"),
            (Kind::Changed, "changed", 503, "fetch_failed"),
            (Kind::Deadline, "deadline", 504, "deadline"),
        ];
        for (kind, name, status, word) in expected {
            let problem = Problem::new(kind, "why");
            assert_eq!((kind.name(), problem.status, problem.word().name()), (name, status, word));
            let document: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
            assert_eq!((&document["type"], &document["status"]), (&json!(name), &json!(status)));
            assert_eq!(serde_json::to_value(problem.word()).unwrap(), json!(word));
        }
    }
}
