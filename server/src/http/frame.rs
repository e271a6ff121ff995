//! `/frame`: one still of a frame that is selected by number, by time, or by byte offsets.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, State as Extract};
use axum::http::header::VARY;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use serde::Deserialize;

use super::conditional::CacheValidator;
use super::params::{FitParam, FormatParam, damage_policy, name, query, spec};
use super::reply;
use crate::admission::RequestClient;
use crate::auth::Principal;
use crate::frame_locator::{FrameLocator, frame_of, key_before};
use crate::limits::{check_other_side, shape};
use crate::problem::{Problem, ProblemKind};
use crate::scope::PermittedName;
use crate::server_state::ServerState;
use crate::stills::StillSpec;
use crate::videos::OpenVideo;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Fit;

/// The parameters: the frame, and the form of its still.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FrameQuery {
    /// The video, if the path does not name it.
    video: Option<String>,
    /// Number of the frame in presentation order, from 0.
    frame: Option<u64>,
    /// Or the time at which the frame is shown: `12.5`, `0:12.5`, `5m2s`.
    time: Option<String>,
    /// Or the byte offset of the sync sample at which decoding begins.
    irap: Option<u64>,
    /// With `irap`: the byte offset of the end of the frame's sample.
    end: Option<u64>,
    /// With `irap`: the byte offset of the frame's sample, if it is not the last one that begins before `end`.
    offset: Option<u64>,
    /// `exact` (default), or `keyframe`: the key frame at or before the frame.
    #[serde(default)]
    #[param(inline)]
    mode: FrameMode,
    /// Width of the still in pixels.
    width: Option<u32>,
    /// Height of the still in pixels.
    height: Option<u32>,
    /// With both `width` and `height`: `contain` (default), `cover` or `fill`.
    #[param(inline)]
    fit: Option<FitParam>,
    /// `jpeg`, `png` or `webp`; by default the format that `Accept` prefers.
    #[param(inline)]
    format: Option<FormatParam>,
    /// Quality of JPEG and WebP, 1 to 100.
    quality: Option<u32>,
    /// Handling of a frame that is known to be damaged: `flag` returns it with `X-Frame-Corrupt: true`, `error` returns
    /// 422; by default the server's setting (`--on-damage`).
    #[serde(rename = "on-damage")]
    #[param(inline)]
    on_damage: Option<OnDamage>,
    /// The video's ETag: the response to an address with it never changes.
    v: Option<String>,
    /// With `signature`: the time until which the address is valid, in seconds since 1970.
    #[serde(rename = "expires")]
    _expires: Option<String>,
    /// Signature of the address; `bucket-streamer sign` makes it.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum FrameMode {
    #[default]
    Exact,
    Keyframe,
}

impl FrameQuery {
    fn locator(&self) -> Result<FrameLocator, Problem> {
        let by_bytes = self.irap.is_some() || self.end.is_some() || self.offset.is_some();
        let locator = match (self.frame, &self.time, self.irap) {
            (Some(frame), None, None) if !by_bytes => FrameLocator::Frame(frame),
            (None, Some(time), None) if !by_bytes => {
                FrameLocator::Time(bucket_streamer::time::parse(time).map_err(Problem::bad_parameter)?)
            }
            (None, None, Some(irap)) => FrameLocator::Bytes { irap, end: self.end, offset: self.offset },
            _ => return Err(Problem::bad_parameter("give exactly one of frame, time, and irap (with end or offset)")),
        };
        Ok(locator)
    }
}

/// A still of a video that the path names.
#[utoipa::path(
    get,
    path = "/frame/{video}",
    operation_id = "frame",
    params(("video" = String, Path, description = "The video's name: `root/path`"), FrameQuery),
    responses(
        (status = 200, description = "The still", content_type = "image/jpeg"),
        (status = 304, description = "The client has this version already"),
        (status = 400, description = "A parameter is wrong; `detail` says which", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach this video, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such video or frame", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The frame cannot be decoded, or is damaged and `on-damage` is `error`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The server is overloaded; Retry-After says when to try again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn by_path(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(client): Extension<RequestClient>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let video = name(&uri, "/frame/")?;
    let video = shared.permit(&principal, &video)?;
    let query: FrameQuery = query(&uri)?;
    if query.video.is_some() {
        return Err(Problem::bad_parameter("the video is named in the path and in the query: name it once"));
    }
    respond(&shared, &client, video, &query, &headers).await
}

/// A still of a video that the query names. With `irap`, for clients with their own index of byte offsets.
#[utoipa::path(
    get,
    path = "/frame",
    operation_id = "frameByBytes",
    params(FrameQuery),
    responses(
        (status = 200, description = "The still", content_type = "image/jpeg"),
        (status = 304, description = "The client has this version already"),
        (status = 400, description = "A parameter is wrong, or no sync sample begins at `irap`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach this video, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The frame cannot be decoded, or is damaged and `on-damage` is `error`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn by_query(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(client): Extension<RequestClient>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query: FrameQuery = query(&uri)?;
    let video = query.video.as_deref().ok_or_else(|| Problem::bad_parameter("the parameter video is missing"))?;
    let video = shared.permit(&principal, video)?;
    respond(&shared, &client, video, &query, &headers).await
}

async fn respond(
    shared: &Arc<ServerState>,
    client: &RequestClient,
    video: PermittedName<'_>,
    query: &FrameQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    // All parameters are checked before the video is opened.
    let locator = query.locator()?;
    let fit = match query.fit {
        None | Some(FitParam::Contain) => Fit::Contain,
        Some(FitParam::Cover) => Fit::Cover,
        Some(FitParam::Fill) => Fit::Fill,
    };
    let shape = shape(&shared.config, query.width, query.height, fit)?;
    let spec = spec(&shared.config, query.format, (query.quality, shape), headers)?;
    // The deadline covers both attempts.
    let deadline = Instant::now() + shared.config.deadline;
    let mut is_retry = false;
    loop {
        let opened = shared.videos.open(video, client, deadline.saturating_duration_since(Instant::now())).await?;
        check_other_side(&shared.config, &opened, spec.shape)?;
        let request = (query, &locator, spec, deadline);
        match respond_once(shared, client, &opened, request, headers).await {
            // The video has changed: one further attempt with its new content.
            Err(problem) if problem.kind == ProblemKind::Changed && !is_retry => is_retry = true,
            response => return response,
        }
    }
}

async fn respond_once(
    shared: &Arc<ServerState>,
    client: &RequestClient,
    opened: &OpenVideo,
    (query, locator, spec, deadline): (&FrameQuery, &FrameLocator, StillSpec, Instant),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut frame = frame_of(&opened.video, opened.order(), locator)?;
    if query.mode == FrameMode::Keyframe {
        frame = key_before(&opened.video, frame);
    }
    let tag = opened.etag();
    let (on_damage, etag_suffix) = damage_policy(&shared.config, query.on_damage);
    let etag = format!("{tag}-{frame}-{}{etag_suffix}", spec.tag());
    let validator = CacheValidator::new(&etag, &tag, query.v.as_deref(), shared.is_private());
    let is_negotiated = query.format.is_none();
    if validator.matches(headers) {
        let mut response = validator.not_modified();
        if is_negotiated {
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        }
        return Ok(response);
    }
    let max_wait = deadline.saturating_duration_since(Instant::now());
    let (still, timing, cache) = shared.stills.get(opened, frame, spec, client, max_wait).await?;
    if let Some(problem) = still.refusal(on_damage, opened) {
        return Err(problem);
    }
    shared.metrics.sent(still.bytes.len());
    let mut response = reply::bytes(spec.format.media_type(), still.bytes.clone());
    let headers = response.headers_mut();
    validator.set_headers(headers);
    reply::set_frame_headers(headers, &still);
    reply::set_timing_headers(headers, &timing, cache);
    if is_negotiated {
        headers.insert(VARY, HeaderValue::from_static("Accept"));
    }
    Ok(response)
}
