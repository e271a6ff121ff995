//! Errors of the API: problem documents (RFC 9457) for HTTP, and the error codes of the WebSocket protocol.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

use super::admission::QueueFull;
use bucket_streamer::error::{Error, ErrorKind};
use bucket_streamer::source::Refusal;
use bucket_streamer::still::StillFormat;

/// A problem document. `type` is a name within this API, as a relative address.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// The kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub(super) kind: ProblemKind,
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
pub(super) enum ProblemKind {
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

impl ProblemKind {
    /// The name in documents, the title, and the status of the response.
    fn parts(self) -> (&'static str, &'static str, u16) {
        match self {
            ProblemKind::BadParameter => ("bad-parameter", "A parameter is wrong", 400),
            ProblemKind::Unauthorized => ("unauthorized", "The request has no valid credentials", 401),
            ProblemKind::Forbidden => ("forbidden", "The signature is not valid", 403),
            ProblemKind::OutOfReach => ("forbidden", "The credentials do not allow this", 403),
            ProblemKind::NotFound => ("not-found", "No such video, frame, time or address", 404),
            ProblemKind::BadMethod => ("method-not-allowed", "The method is not GET or HEAD", 405),
            ProblemKind::NotAcceptable => ("not-acceptable", "None of the accepted formats can be made", 406),
            ProblemKind::Undecodable => ("undecodable", "The frame cannot be decoded", 422),
            ProblemKind::UnreadableVideo => ("unreadable-video", "The video cannot be read", 422),
            ProblemKind::TooManyHeaders => ("too-many-headers", "The request has too many headers", 431),
            ProblemKind::Internal => ("internal", "The server has an internal error", 500),
            ProblemKind::FetchFailed => ("fetch-failed", "The video's bytes cannot be fetched", 502),
            ProblemKind::Overloaded => ("overloaded", "The server is overloaded", 503),
            ProblemKind::Ending => ("ending", "The server is shutting down", 503),
            ProblemKind::Changed => ("changed", "The video changes while it is read", 503),
            ProblemKind::Deadline => ("deadline", "The request took too long", 504),
        }
    }

    /// The name in documents. Two kinds share `forbidden`.
    pub(super) fn name(self) -> &'static str {
        self.parts().0
    }

    /// The error code in the WebSocket protocol.
    fn frame_error(self) -> FrameErrorCode {
        match self {
            ProblemKind::NotFound | ProblemKind::BadParameter | ProblemKind::Forbidden | ProblemKind::OutOfReach => {
                FrameErrorCode::NotFound
            }
            ProblemKind::FetchFailed | ProblemKind::Changed => FrameErrorCode::FetchFailed,
            ProblemKind::Overloaded | ProblemKind::Ending => FrameErrorCode::Overloaded,
            ProblemKind::Deadline => FrameErrorCode::Deadline,
            ProblemKind::Unauthorized
            | ProblemKind::BadMethod
            | ProblemKind::NotAcceptable
            | ProblemKind::Undecodable
            | ProblemKind::UnreadableVideo
            | ProblemKind::TooManyHeaders
            | ProblemKind::Internal => FrameErrorCode::DecodeFailed,
        }
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The reason why a frame requested over a WebSocket has no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameErrorCode {
    DecodeFailed,
    FetchFailed,
    NotFound,
    BadOffset,
    Overloaded,
    Deadline,
    Cancelled,
    Superseded,
}

impl FrameErrorCode {
    /// The name in messages and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            FrameErrorCode::DecodeFailed => "decode_failed",
            FrameErrorCode::FetchFailed => "fetch_failed",
            FrameErrorCode::NotFound => "not_found",
            FrameErrorCode::BadOffset => "bad_offset",
            FrameErrorCode::Overloaded => "overloaded",
            FrameErrorCode::Deadline => "deadline",
            FrameErrorCode::Cancelled => "cancelled",
            FrameErrorCode::Superseded => "superseded",
        }
    }
}

impl Serialize for FrameErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Problem {
    fn new(kind: ProblemKind, detail: impl Into<String>) -> Problem {
        let (_, title, status) = kind.parts();
        let (frame, sample, offset, retry_after_s) = (None, None, None, None);
        Problem { kind, title, status, detail: detail.into(), frame, sample, offset, retry_after_s }
    }

    pub(super) fn bad_parameter(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemKind::BadParameter, detail)
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(ProblemKind::Unauthorized, "send a token (Authorization: Bearer ...) or use a signed address")
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemKind::Forbidden, detail)
    }

    /// The same for existing and missing videos, so that it reveals nothing about them.
    pub(super) fn out_of_reach() -> Problem {
        Problem::new(ProblemKind::OutOfReach, "the token or signature is limited to other videos")
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemKind::NotFound, detail)
    }

    pub(super) fn bad_method() -> Problem {
        Problem::new(ProblemKind::BadMethod, "this address answers GET and HEAD")
    }

    pub(super) fn not_acceptable() -> Problem {
        let types = StillFormat::ALL.map(StillFormat::media_type).join(", ");
        Problem::new(ProblemKind::NotAcceptable, format!("stills are one of {types}"))
    }

    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemKind::Internal, detail)
    }

    pub(super) fn draining() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(ProblemKind::Ending, "this server is shutting down") }
    }

    pub(super) fn too_many_connections() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(ProblemKind::Overloaded, "there are too many connections") }
    }

    /// The memory for responses is full, because earlier ones have not been read.
    pub(super) fn unread_responses() -> Problem {
        let retry_after_s = Some(1);
        let detail = "too many bytes wait to be read: read the responses to other requests first";
        Problem { retry_after_s, ..Problem::new(ProblemKind::Overloaded, detail) }
    }

    pub(super) fn too_many_headers() -> Problem {
        Problem::new(ProblemKind::TooManyHeaders, "a request may have at most 64 headers")
    }

    pub(super) fn deadline() -> Problem {
        let retry_after_s = Some(5);
        Problem {
            retry_after_s,
            ..Problem::new(ProblemKind::Deadline, "the frame was not ready in time: try again later")
        }
    }

    pub(super) fn not_opened_in_time() -> Problem {
        let retry_after_s = Some(5);
        Problem {
            retry_after_s,
            ..Problem::new(ProblemKind::Deadline, "the video was not opened in time: try again later")
        }
    }

    /// The problem for an engine's error, without its source: the client knows the video's name, and must not learn its
    /// location.
    pub(super) fn of(error: &Error) -> Problem {
        let (kind, retry_after_s) = kind_of(error);
        let (frame, sample, offset) = (error.frame(), error.sample(), error.offset());
        Problem { frame, sample, offset, retry_after_s, ..Problem::new(kind, error.message()) }
    }

    /// The error code in the WebSocket protocol.
    pub(super) fn frame_error(&self) -> FrameErrorCode {
        self.kind.frame_error()
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn kind_of(error: &Error) -> (ProblemKind, Option<u64>) {
    use ErrorKind::{
        Changed, Corrupt, Damaged, IndexBusy, NeedsUnreadable, NoSuchFrame, NoSuchVideo, NotShown, OpenCancelled,
        OpenTimeout, PastEnd, PastEndOfVideo, PictureMemory, Read, Remote, Still, TooManyPixels, Write,
    };
    match error.kind() {
        NoSuchVideo | NoSuchFrame { .. } | PastEndOfVideo { .. } => (ProblemKind::NotFound, None),
        NotShown | Damaged(_) | Corrupt | NeedsUnreadable(_) | PastEnd { .. } => (ProblemKind::Undecodable, None),
        Still(_) => (ProblemKind::Undecodable, None),
        // One frame is too large; other frames of the video may have a smaller size.
        TooManyPixels { .. } | PictureMemory { .. } if error.frame().is_some() => (ProblemKind::Undecodable, None),
        Changed => (ProblemKind::Changed, Some(1)),
        OpenTimeout { .. } | OpenCancelled => (ProblemKind::Deadline, Some(5)),
        IndexBusy => (ProblemKind::Overloaded, Some(5)),
        Remote(refusal) => of_refusal(refusal),
        Read(_) | Write { .. } => (ProblemKind::Internal, None),
        _ => (ProblemKind::UnreadableVideo, None),
    }
}

fn of_refusal(refusal: &Refusal) -> (ProblemKind, Option<u64>) {
    match refusal {
        Refusal::NotFound(_) | Refusal::Store { status: 404, .. } => (ProblemKind::NotFound, None),
        Refusal::Busy(_) | Refusal::Timeout { .. } | Refusal::Connection(_) => (ProblemKind::FetchFailed, Some(5)),
        _ => (ProblemKind::FetchFailed, None),
    }
}

impl From<QueueFull> for Problem {
    fn from(full: QueueFull) -> Problem {
        let retry_after_s = Some(full.retry_after_s);
        Problem {
            retry_after_s,
            ..Problem::new(ProblemKind::Overloaded, "too many requests are waiting: try again later")
        }
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

    use super::{Error, ErrorKind, FrameErrorCode, Problem, ProblemKind};

    #[test]
    fn damage_and_size_are_422_and_say_so() {
        let corrupt = Problem::of(&Error::from(ErrorKind::Corrupt).at_frame(7_u64).at_sample(9, Some(4321)));
        assert_eq!(
            (corrupt.kind, corrupt.status, corrupt.frame_error()),
            (ProblemKind::Undecodable, 422, FrameErrorCode::DecodeFailed)
        );
        assert_eq!((corrupt.frame, corrupt.sample, corrupt.offset), (Some(7), Some(9), Some(4321)));
        assert!(corrupt.detail.contains("the picture is damaged"), "{}", corrupt.detail);
        let large = || Error::from(ErrorKind::TooManyPixels { width: 16384, height: 8192, limit: 35_651_584 });
        let (video, frame) = (Problem::of(&large()), Problem::of(&large().at_frame(3_u64)));
        assert_eq!(
            (video.kind, video.status, video.frame_error()),
            (ProblemKind::UnreadableVideo, 422, FrameErrorCode::DecodeFailed)
        );
        assert_eq!(
            (frame.kind, frame.status, frame.frame_error()),
            (ProblemKind::Undecodable, 422, FrameErrorCode::DecodeFailed)
        );
        assert!(video.detail.contains("16384x8192") && video.detail.contains("35651584"), "{}", video.detail);
    }

    #[test]
    fn names_words_and_statuses_are_those_of_the_api() {
        let expected = [
            (ProblemKind::BadParameter, "bad-parameter", 400, "not_found"),
            (ProblemKind::Unauthorized, "unauthorized", 401, "decode_failed"),
            (ProblemKind::Forbidden, "forbidden", 403, "not_found"),
            (ProblemKind::OutOfReach, "forbidden", 403, "not_found"),
            (ProblemKind::NotFound, "not-found", 404, "not_found"),
            (ProblemKind::BadMethod, "method-not-allowed", 405, "decode_failed"),
            (ProblemKind::NotAcceptable, "not-acceptable", 406, "decode_failed"),
            (ProblemKind::Undecodable, "undecodable", 422, "decode_failed"),
            (ProblemKind::UnreadableVideo, "unreadable-video", 422, "decode_failed"),
            (ProblemKind::TooManyHeaders, "too-many-headers", 431, "decode_failed"),
            (ProblemKind::Internal, "internal", 500, "decode_failed"),
            (ProblemKind::FetchFailed, "fetch-failed", 502, "fetch_failed"),
            (ProblemKind::Overloaded, "overloaded", 503, "overloaded"),
            (ProblemKind::Ending, "ending", 503, "overloaded"),
            (ProblemKind::Changed, "changed", 503, "fetch_failed"),
            (ProblemKind::Deadline, "deadline", 504, "deadline"),
        ];
        for (kind, name, status, word) in expected {
            let problem = Problem::new(kind, "why");
            assert_eq!((kind.name(), problem.status, problem.frame_error().name()), (name, status, word));
            let document: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
            assert_eq!((&document["type"], &document["status"]), (&json!(name), &json!(status)));
            assert_eq!(serde_json::to_value(problem.frame_error()).unwrap(), json!(word));
        }
    }
}
