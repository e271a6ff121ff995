//! `/frame`: one still, by number, by time, or by bytes.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, State as Extract};
use axum::http::header::VARY;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use serde::Deserialize;

use super::conditional::Version;
use super::params::{FitParam, FormatParam, damage, name, query, spec};
use super::reply;
use crate::admission::Client;
use crate::auth::Visitor;
use crate::limits::{fits, shape};
use crate::problem::{Kind, Problem};
use crate::scope::Permitted;
use crate::shared::Shared;
use crate::stills::Spec;
use crate::target::{Target, frame_of, key_before};
use crate::videos::Opened;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Fit;

/// The frame, and the form of its still.
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
    mode: Mode,
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
enum Mode {
    #[default]
    Exact,
    Keyframe,
}

impl FrameQuery {
    fn target(&self) -> Result<Target, Problem> {
        let by_bytes = self.irap.is_some() || self.end.is_some() || self.offset.is_some();
        let target = match (self.frame, &self.time, self.irap) {
            (Some(frame), None, None) if !by_bytes => Target::Frame(frame),
            (None, Some(time), None) if !by_bytes => {
                Target::Time(bucket_streamer::time::parse(time).map_err(Problem::bad_parameter)?)
            }
            (None, None, Some(irap)) => Target::Bytes { irap, end: self.end, offset: self.offset },
            _ => return Err(Problem::bad_parameter("give exactly one of frame, time, and irap (with end or offset)")),
        };
        Ok(target)
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
    Extract(shared): Extract<Arc<Shared>>,
    Extension(client): Extension<Client>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let video = name(&uri, "/frame/")?;
    let video = shared.permit(&visitor, &video)?;
    let query: FrameQuery = query(&uri)?;
    if query.video.is_some() {
        return Err(Problem::bad_parameter("the video is named in the path and in the query: name it once"));
    }
    answer(&shared, &client, video, &query, &headers).await
}

/// A still of a video that the query names: the expert's route, for clients with their own index of byte offsets.
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
    Extract(shared): Extract<Arc<Shared>>,
    Extension(client): Extension<Client>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query: FrameQuery = query(&uri)?;
    let video = query.video.as_deref().ok_or_else(|| Problem::bad_parameter("the parameter video is missing"))?;
    let video = shared.permit(&visitor, video)?;
    answer(&shared, &client, video, &query, &headers).await
}

async fn answer(
    shared: &Arc<Shared>,
    client: &Client,
    video: Permitted<'_>,
    query: &FrameQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    // The address is checked before any work.
    let target = query.target()?;
    let fit = match query.fit {
        None | Some(FitParam::Contain) => Fit::Contain,
        Some(FitParam::Cover) => Fit::Cover,
        Some(FitParam::Fill) => Fit::Fill,
    };
    let shape = shape(&shared.config, query.width, query.height, fit)?;
    let spec = spec(&shared.config, query.format, (query.quality, shape), headers)?;
    // The deadline covers both attempts.
    let until = Instant::now() + shared.config.deadline;
    let mut is_again = false;
    loop {
        let opened = shared.videos.open(video, client, until.saturating_duration_since(Instant::now())).await?;
        fits(&shared.config, &opened, spec.shape)?;
        let asked = (query, &target, spec, until);
        match still(shared, client, &opened, asked, headers).await {
            // The video has changed: one more attempt with its new contents.
            Err(problem) if problem.kind == Kind::Changed && !is_again => is_again = true,
            answer => return answer,
        }
    }
}

async fn still(
    shared: &Arc<Shared>,
    client: &Client,
    opened: &Opened,
    (query, target, spec, until): (&FrameQuery, &Target, Spec, Instant),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut frame = frame_of(&opened.video, opened.order(), target)?;
    if query.mode == Mode::Keyframe {
        frame = key_before(&opened.video, frame);
    }
    let tag = opened.etag();
    let (on_damage, ending) = damage(&shared.config, query.on_damage);
    let etag = format!("{tag}-{frame}-{}{ending}", spec.tag());
    let version = Version::new(&etag, &tag, query.v.as_deref(), shared.is_private());
    let is_negotiated = query.format.is_none();
    if version.is_known(headers) {
        let mut response = version.not_modified();
        if is_negotiated {
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        }
        return Ok(response);
    }
    let patience = until.saturating_duration_since(Instant::now());
    let (still, timing, found) = shared.stills.get(opened, frame, spec, client, patience).await?;
    if let Some(problem) = still.refusal(on_damage, opened) {
        return Err(problem);
    }
    shared.metrics.sent(still.bytes.len());
    let mut response = reply::bytes(spec.format.media_type(), still.bytes.clone());
    let headers = response.headers_mut();
    version.mark(headers);
    reply::describe(headers, &still);
    reply::timing(headers, &timing, found);
    if is_negotiated {
        headers.insert(VARY, HeaderValue::from_static("Accept"));
    }
    Ok(response)
}
