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

/// Which frame, and as what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FrameQuery {
    /// The video, where the path does not name it.
    video: Option<String>,
    /// Number of the frame in presentation order, from 0.
    frame: Option<u64>,
    /// Or the time at which it is on show: `12.5`, `0:12.5`, `5m2s`.
    time: Option<String>,
    /// Or the byte at which the sync sample begins that decoding is to begin at.
    irap: Option<u64>,
    /// With `irap`: the byte behind the frame's sample.
    end: Option<u64>,
    /// With `irap`: the byte at which the frame's sample begins, if it is not the last one that begins before `end`.
    offset: Option<u64>,
    /// `exact` (default), or `keyframe`: the key frame at or before it.
    #[serde(default)]
    mode: Mode,
    /// Width of the still in pixels.
    width: Option<u32>,
    /// Height of the still in pixels.
    height: Option<u32>,
    /// With both: `contain` (default), `cover` or `fill`.
    #[param(inline)]
    fit: Option<FitParam>,
    /// `jpeg`, `png` or `webp`; by default what `Accept` likes best.
    #[param(inline)]
    format: Option<FormatParam>,
    /// Quality of JPEG and WebP, 1 to 100.
    quality: Option<u32>,
    /// What to do with a frame that is known to be damaged: `flag` gives it out with `X-Frame-Corrupt: true`, `error` answers
    /// 422; by default as the server is set (`--on-damage`).
    #[serde(rename = "on-damage")]
    #[param(inline)]
    on_damage: Option<OnDamage>,
    /// The video's ETag: an answer to an address with it never changes.
    v: Option<String>,
    /// With `signature`: until when the address is good, in seconds since 1970.
    #[serde(rename = "expires")]
    _expires: Option<String>,
    /// See `bucket-streamer sign`.
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
            _ => return Err(Problem::bad_parameter("give one of frame, time, and irap (with end or offset)")),
        };
        Ok(target)
    }
}

/// A still by its video's name in the path.
#[utoipa::path(
    get,
    path = "/frame/{video}",
    operation_id = "frame",
    params(("video" = String, Path, description = "Name of the video: `root/path`"), FrameQuery),
    responses(
        (status = 200, description = "The still", content_type = "image/jpeg"),
        (status = 304, description = "It is known already"),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach it, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such video or frame", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The frame cannot be decoded, or is damaged and `on-damage` is `error`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too much to do; Retry-After says when to try again", body = Problem, content_type = "application/problem+json"),
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
        return Err(Problem::bad_parameter("the video is named twice"));
    }
    answer(&shared, &client, video, &query, &headers).await
}

/// A still by its video's name in the query: the expert's route, with byte offsets of an index of one's own.
#[utoipa::path(
    get,
    path = "/frame",
    operation_id = "frameByBytes",
    params(FrameQuery),
    responses(
        (status = 200, description = "The still", content_type = "image/jpeg"),
        (status = 304, description = "It is known already"),
        (status = 400, description = "A parameter is wrong, or `irap` is no sync sample", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach it, whether it exists or not", body = Problem, content_type = "application/problem+json"),
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
    let video = query.video.as_deref().ok_or_else(|| Problem::bad_parameter("video is missing"))?;
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
    // What is wrong with the address is told before anything is done.
    let target = query.target()?;
    let fit = match query.fit {
        None | Some(FitParam::Contain) => Fit::Contain,
        Some(FitParam::Cover) => Fit::Cover,
        Some(FitParam::Fill) => Fit::Fill,
    };
    let shape = shape(&shared.config, query.width, query.height, fit)?;
    let spec = spec(&shared.config, query.format, (query.quality, shape), headers)?;
    // All of it together takes no longer.
    let until = Instant::now() + shared.config.deadline;
    let mut is_again = false;
    loop {
        let opened = shared.videos.open(video, client, until.saturating_duration_since(Instant::now())).await?;
        fits(&shared.config, &opened, spec.shape)?;
        let asked = (query, &target, spec, until);
        match still(shared, client, &opened, asked, headers).await {
            // Somebody has written to it: what it is now is found out once more.
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
