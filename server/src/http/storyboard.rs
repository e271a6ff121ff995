//! `/storyboard`: a sheet of small pictures over the whole length of a video, and its WebVTT file. `sheets` makes them.

use std::sync::Arc;

use axum::extract::{Extension, State as Extract};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

use super::conditional::CacheValidator;
use super::params::{damage_policy, name, query};
use super::reply;
use crate::admission::RequestClient;
use crate::auth::{self, Principal};
use crate::limits::{quality, shape};
use crate::problem::Problem;
use crate::server_state::ServerState;
use crate::sheets::SheetSpec;
use crate::stills::damage_problem;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Fit;
use bucket_streamer::still::sheet::relative_address;
use bucket_streamer::storyboard::TileFrame;

/// Defaults: tiles, tiles per row, and width of a tile in pixels.
const TILES: u32 = 100;
const COLUMNS: u32 = 10;
const WIDTH: u32 = 160;

/// The form of the sheet.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SheetQuery {
    /// Tiles, evenly spread; 100 by default, and at most one per frame.
    count: Option<u32>,
    /// Tiles per row; 10 by default.
    columns: Option<u32>,
    /// Width of a tile in pixels; 160 by default.
    width: Option<u32>,
    /// Quality of the sheet, 1 to 100.
    quality: Option<u32>,
    /// `keyframe` (default): each tile shows the key frame nearest to the middle of its part; `exact`: the frame in the
    /// middle, which takes longer.
    #[param(inline)]
    mode: Option<TileMode>,
    /// Handling of pictures that are known to be damaged: `flag` returns the sheet with `X-Frame-Corrupt: true`,
    /// `error` returns 422; by default the server's setting (`--on-damage`).
    #[serde(rename = "on-damage")]
    #[param(inline)]
    on_damage: Option<OnDamage>,
    /// The video's ETag: the response to an address with it never changes.
    v: Option<String>,
    /// With `signature`: the time until which the address is valid, in seconds since 1970.
    expires: Option<String>,
    /// Signature of the address; `bucket-streamer sign` makes it.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum TileMode {
    Keyframe,
    Exact,
}

impl SheetQuery {
    fn spec(&self, shared: &ServerState) -> Result<SheetSpec, Problem> {
        let most = shared.config.tiles;
        let within = |name: &str, value: Option<u32>, default: u32| {
            let value = value.unwrap_or(default.min(most));
            let fits = (1..=most).contains(&value);
            if fits { Ok(value) } else { Err(Problem::bad_parameter(format!("{name} is 1 to {most}"))) }
        };
        let shape = shape(&shared.config, self.width.or(Some(WIDTH)), None, Fit::Contain)?;
        Ok(SheetSpec {
            count: within("count", self.count, TILES)?,
            columns: within("columns", self.columns, COLUMNS)?,
            shape,
            quality: quality(&shared.config, self.quality)?,
            shown: if self.mode == Some(TileMode::Exact) { TileFrame::Middle } else { TileFrame::Key },
        })
    }
}

/// The sheet (`.jpg`), or the WebVTT file whose cues point into it (`.vtt`).
#[utoipa::path(
    get,
    path = "/storyboard/{video}",
    operation_id = "storyboard",
    params(("video" = String, Path, description = "The video's name, followed by `.jpg` or `.vtt`"), SheetQuery),
    responses(
        (status = 200, description = "The sheet, or the cues", content_type = "image/jpeg"),
        (status = 304, description = "The client has this version already"),
        (status = 400, description = "A parameter is wrong; `detail` says which", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach this video, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such video", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No picture can be decoded, or one is damaged and `on-damage` is `error`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The server is overloaded", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(client): Extension<RequestClient>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&uri, "/storyboard/")?;
    let query: SheetQuery = query(&uri)?;
    let (video, is_sheet) = match name.rsplit_once('.') {
        Some((video, "jpg" | "jpeg")) => (video, true),
        Some((video, "vtt")) => (video, false),
        _ => return Err(Problem::not_found("the name of a storyboard is a video's name followed by .jpg or .vtt")),
    };
    let spec = query.spec(&shared)?;
    let permitted = shared.permit(&principal, video)?;
    let opened = shared.videos.open(permitted, &client, shared.config.deadline).await?;
    let tag = opened.etag();
    let kind = if is_sheet { "sheet" } else { "cues" };
    let (on_damage, etag_suffix) = damage_policy(&shared.config, query.on_damage);
    let etag = format!("{tag}-{kind}-{}{etag_suffix}", spec.tag());
    let validator = CacheValidator::new(&etag, &tag, query.v.as_deref(), shared.is_private());
    if validator.matches(&headers) {
        return Ok(validator.not_modified());
    }
    let sheet = shared.sheets.get(&shared.stills, &opened, spec, &client, 4 * shared.config.deadline).await?;
    if let Some(frame) = sheet.corrupt.filter(|_| on_damage == OnDamage::Error) {
        return Err(damage_problem(frame, &opened));
    }
    let mut response = if is_sheet {
        reply::bytes("image/jpeg", sheet.image.clone())
    } else {
        let cues = sheet.grid.webvtt(&sheet_address(&shared, &principal, video, (&uri, &query)), &sheet.times);
        reply::bytes("text/vtt; charset=utf-8", cues.into())
    };
    if sheet.corrupt.is_some() {
        reply::set_corrupt_header(response.headers_mut());
    }
    validator.set_headers(response.headers_mut());
    Ok(response)
}

/// The address of the sheet relative to the cues. It is signed if the request was.
fn sheet_address(
    shared: &ServerState,
    principal: &Principal,
    video: &str,
    (uri, query): (&Uri, &SheetQuery),
) -> String {
    let file = format!("{}.jpg", relative_address(video.rsplit('/').next().unwrap_or_default()));
    let Some(raw_query) = uri.query() else { return file };
    let expires = query.expires.as_deref().and_then(|expires| expires.parse().ok());
    // The key that signed the request signs the sheet's address, so that it reaches no further videos.
    match (shared.authenticator.key(principal), expires) {
        (Some(key), Some(expires)) => {
            let segments: Vec<String> = video.split('/').map(relative_address).collect();
            let signed = auth::sign(key, &format!("/storyboard/{}.jpg?{raw_query}", segments.join("/")), expires);
            let query = signed.split_once('?').map_or("", |(_, query)| query);
            format!("{file}?{query}")
        }
        _ => format!("{file}?{raw_query}"),
    }
}
