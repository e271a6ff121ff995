//! What goes wrong, as HTTP says it: problem documents (RFC 9457), and the words of the WebSocket protocol.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::admission::Full;
use bucket_streamer::error::{Error, ErrorKind};
use bucket_streamer::source::Refusal;

/// A problem document. `type` is a name within this API, as a relative address.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// What kind of problem.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The same in a few words.
    pub(super) title: &'static str,
    /// The status of the answer.
    pub(super) status: u16,
    /// What happened, in one line.
    pub(super) detail: String,
    /// The frame that it happened at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u64>,
    /// The sample, in decode order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<u32>,
    /// The byte in the video at which that sample begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    /// When to try again, in seconds; in the header of that name, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_s: Option<u64>,
}

/// What an answer is a problem document of, for whoever counts answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind(&'static str);

impl Kind {
    pub(super) fn is_overload(self) -> bool {
        self.0 == OVERLOADED.0
    }
}

/// Kinds of problems: name, title, status.
type Sort = (&'static str, &'static str, u16);

const BAD_PARAMETER: Sort = ("bad-parameter", "A parameter is wrong", 400);
const UNAUTHORIZED: Sort = ("unauthorized", "Who asks is not known", 401);
const FORBIDDEN: Sort = ("forbidden", "The signature is not good", 403);
const OUT_OF_REACH: Sort = ("forbidden", "This is out of reach", 403);
const NOT_FOUND: Sort = ("not-found", "There is no such thing", 404);
const BAD_METHOD: Sort = ("method-not-allowed", "Only GET and HEAD", 405);
const NOT_ACCEPTABLE: Sort = ("not-acceptable", "None of the accepted formats can be made", 406);
const UNDECODABLE: Sort = ("undecodable", "The frame cannot be decoded", 422);
const UNREADABLE: Sort = ("unreadable-video", "The video cannot be read", 422);
const HEADERS: Sort = ("too-many-headers", "There are too many headers", 431);
const INTERNAL: Sort = ("internal", "Something is broken here", 500);
const UPSTREAM: Sort = ("fetch-failed", "The video's bytes cannot be fetched", 502);
const OVERLOADED: Sort = ("overloaded", "There is too much to do", 503);
const ENDING: Sort = ("ending", "The server is ending", 503);
const CHANGED: Sort = ("changed", "The video changes while it is read", 503);
const DEADLINE: Sort = ("deadline", "It took too long", 504);

impl Problem {
    fn new((kind, title, status): Sort, detail: impl Into<String>) -> Problem {
        let (frame, sample, offset, retry_after_s) = (None, None, None, None);
        Problem { kind, title, status, detail: detail.into(), frame, sample, offset, retry_after_s }
    }

    pub(super) fn bad_parameter(detail: impl Into<String>) -> Problem {
        Problem::new(BAD_PARAMETER, detail)
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(UNAUTHORIZED, "give a token (Authorization: Bearer ...) or a signed address")
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(FORBIDDEN, detail)
    }

    /// The same whether there is something or not.
    pub(super) fn out_of_reach() -> Problem {
        Problem::new(OUT_OF_REACH, "the token or signature is good for other videos")
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(NOT_FOUND, detail)
    }

    pub(super) fn bad_method() -> Problem {
        Problem::new(BAD_METHOD, "this address answers GET and HEAD")
    }

    pub(super) fn not_acceptable() -> Problem {
        Problem::new(NOT_ACCEPTABLE, "stills are image/jpeg, image/png or image/webp")
    }

    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(INTERNAL, detail)
    }

    pub(super) fn draining() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(ENDING, "this server is ending") }
    }

    pub(super) fn too_many_connections() -> Problem {
        let retry_after_s = Some(1);
        Problem { retry_after_s, ..Problem::new(OVERLOADED, "there are too many connections") }
    }

    /// The client has not taken what was made for it before.
    pub(super) fn unread() -> Problem {
        let retry_after_s = Some(1);
        let detail = "too much waits to be read: read the answers to other requests first";
        Problem { retry_after_s, ..Problem::new(OVERLOADED, detail) }
    }

    pub(super) fn too_many_headers() -> Problem {
        Problem::new(HEADERS, "a request has up to 64 headers")
    }

    pub(super) fn deadline() -> Problem {
        let retry_after_s = Some(5);
        Problem { retry_after_s, ..Problem::new(DEADLINE, "the frame was not there in time") }
    }

    pub(super) fn not_opened_in_time() -> Problem {
        let retry_after_s = Some(5);
        Problem { retry_after_s, ..Problem::new(DEADLINE, "the video was not opened in time") }
    }

    /// What became of the engine's error. Its source is left out: who asks knows how they called the video, and need not
    /// know where it lies.
    pub(super) fn of(error: &Error) -> Problem {
        let (kind, retry_after_s) = kind_of(error);
        let (frame, sample, offset) = (error.frame(), error.sample(), error.offset());
        Problem { frame, sample, offset, retry_after_s, ..Problem::new(kind, error.message()) }
    }

    /// The word of the WebSocket protocol.
    pub(super) fn word(&self) -> &'static str {
        match self.kind {
            "not-found" | "bad-parameter" | "forbidden" => "not_found",
            "fetch-failed" | "changed" => "fetch_failed",
            "overloaded" | "ending" => "overloaded",
            "deadline" => "deadline",
            _ => "decode_failed",
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn kind_of(error: &Error) -> (Sort, Option<u64>) {
    use ErrorKind::{
        Changed, Corrupt, Damaged, IndexBusy, NeedsUnreadable, NoSuchFrame, NoSuchVideo, NotShown, OpenCancelled,
        OpenTimeout, PastEnd, PastEndOfVideo, PictureMemory, Read, Remote, Still, TooManyPixels, Write,
    };
    match error.kind() {
        NoSuchVideo | NoSuchFrame { .. } | PastEndOfVideo { .. } => (NOT_FOUND, None),
        NotShown | Damaged(_) | Corrupt | NeedsUnreadable(_) | PastEnd { .. } => (UNDECODABLE, None),
        Still(_) => (UNDECODABLE, None),
        // One frame of a video whose others may be smaller.
        TooManyPixels { .. } | PictureMemory { .. } if error.frame().is_some() => (UNDECODABLE, None),
        Changed => (CHANGED, Some(1)),
        OpenTimeout { .. } | OpenCancelled => (DEADLINE, Some(5)),
        IndexBusy => (OVERLOADED, Some(5)),
        Remote(refusal) => of_refusal(refusal),
        Read(_) | Write { .. } => (INTERNAL, None),
        _ => (UNREADABLE, None),
    }
}

fn of_refusal(refusal: &Refusal) -> (Sort, Option<u64>) {
    match refusal {
        Refusal::NotFound(_) | Refusal::Store { status: 404, .. } => (NOT_FOUND, None),
        Refusal::Busy(_) | Refusal::Timeout { .. } | Refusal::Connection(_) => (UPSTREAM, Some(5)),
        _ => (UPSTREAM, None),
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Problem {
        let retry_after_s = Some(full.retry_after_s);
        Problem { retry_after_s, ..Problem::new(OVERLOADED, "too many requests wait already") }
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
        response.extensions_mut().insert(Kind(self.kind));
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
    use super::{Error, ErrorKind, Problem};

    #[test]
    fn damage_and_size_are_422_and_say_so() {
        let corrupt = Problem::of(&Error::from(ErrorKind::Corrupt).at_frame(7_u64).at_sample(9, Some(4321)));
        assert_eq!((corrupt.kind, corrupt.status, corrupt.word()), ("undecodable", 422, "decode_failed"));
        assert_eq!((corrupt.frame, corrupt.sample, corrupt.offset), (Some(7), Some(9), Some(4321)));
        assert!(corrupt.detail.contains("the picture is damaged"), "{}", corrupt.detail);
        let large = || Error::from(ErrorKind::TooManyPixels { width: 16384, height: 8192, limit: 35_651_584 });
        let (video, frame) = (Problem::of(&large()), Problem::of(&large().at_frame(3_u64)));
        assert_eq!((video.kind, video.status, video.word()), ("unreadable-video", 422, "decode_failed"));
        assert_eq!((frame.kind, frame.status, frame.word()), ("undecodable", 422, "decode_failed"));
        assert!(video.detail.contains("16384x8192") && video.detail.contains("35651584"), "{}", video.detail);
    }
}
