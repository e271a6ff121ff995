//! `/storyboard`: what a video shows over its whole length, as a sheet of small pictures and the WebVTT file for it.

use std::sync::Arc;

use axum::extract::{Extension, State as Extract};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

use super::conditional::Version;
use super::params::{damage, name, query};
use super::reply;
use crate::admission::Client;
use crate::auth::{self, Visitor};
use crate::limits::{quality, shape};
use crate::problem::Problem;
use crate::shared::Shared;
use crate::sheets::SheetSpec;
use crate::stills::refused;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Fit;
use bucket_streamer::still::sheet::relative_address;
use bucket_streamer::storyboard::Shown;

/// Tiles, how many in a row, and how wide in pixels, if nobody says otherwise.
const TILES: u32 = 100;
const COLUMNS: u32 = 10;
const WIDTH: u32 = 160;

/// What the sheet is to be.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SheetQuery {
    /// Tiles, evenly spread; 100 by default, and at most one a frame.
    count: Option<u32>,
    /// Tiles in a row; 10 by default.
    columns: Option<u32>,
    /// Width of a tile in pixels; 160 by default.
    width: Option<u32>,
    /// Quality of the sheet, 1 to 100.
    quality: Option<u32>,
    /// `keyframe` (default): each tile shows the key frame that is nearest to the middle of its part; `exact`: the frame in
    /// the middle, which takes longer.
    mode: Option<Mode>,
    /// What to do if a picture of the sheet is known to be damaged: `flag` answers with `X-Frame-Corrupt: true`, `error` with
    /// 422; by default as the server is set (`--on-damage`).
    #[serde(rename = "on-damage")]
    #[param(inline)]
    on_damage: Option<OnDamage>,
    /// The video's ETag: an answer to an address with it never changes.
    v: Option<String>,
    /// With `signature`: until when the address is good, in seconds since 1970.
    expires: Option<String>,
    /// See `bucket-streamer sign`.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Keyframe,
    Exact,
}

impl SheetQuery {
    fn spec(&self, shared: &Shared) -> Result<SheetSpec, Problem> {
        let most = shared.config.tiles;
        let within = |name: &str, value: Option<u32>, usual: u32| {
            let value = value.unwrap_or(usual.min(most));
            let fits = (1..=most).contains(&value);
            if fits { Ok(value) } else { Err(Problem::bad_parameter(format!("{name} is 1 to {most}"))) }
        };
        let shape = shape(&shared.config, self.width.or(Some(WIDTH)), None, Fit::Contain)?;
        Ok(SheetSpec {
            count: within("count", self.count, TILES)?,
            columns: within("columns", self.columns, COLUMNS)?,
            shape,
            quality: quality(&shared.config, self.quality)?,
            shown: if self.mode == Some(Mode::Exact) { Shown::Middle } else { Shown::Key },
        })
    }
}

/// The sheet (`.jpg`), or the WebVTT file whose cues point into it (`.vtt`).
#[utoipa::path(
    get,
    path = "/storyboard/{video}",
    operation_id = "storyboard",
    params(("video" = String, Path, description = "Name of the video, with `.jpg` or `.vtt` behind it"), SheetQuery),
    responses(
        (status = 200, description = "The sheet, or the cues", content_type = "image/jpeg"),
        (status = 304, description = "It is known already"),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token or signature does not reach it, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such video", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No picture can be decoded, or one is damaged and `on-damage` is `error`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too much to do", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    Extract(shared): Extract<Arc<Shared>>,
    Extension(client): Extension<Client>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&uri, "/storyboard/")?;
    let query: SheetQuery = query(&uri)?;
    let (video, is_sheet) = match name.rsplit_once('.') {
        Some((video, "jpg" | "jpeg")) => (video, true),
        Some((video, "vtt")) => (video, false),
        _ => return Err(Problem::not_found("a storyboard is the name of a video with .jpg or .vtt behind it")),
    };
    let spec = query.spec(&shared)?;
    let permitted = shared.permit(&visitor, video)?;
    let opened = shared.videos.open(permitted, &client, shared.config.deadline).await?;
    let tag = opened.etag();
    let kind = if is_sheet { "sheet" } else { "cues" };
    let (on_damage, ending) = damage(&shared.config, query.on_damage);
    let etag = format!("{tag}-{kind}-{}{ending}", spec.tag());
    let version = Version::new(&etag, &tag, query.v.as_deref(), shared.is_private());
    if version.is_known(&headers) {
        return Ok(version.not_modified());
    }
    let sheet = shared.sheets.get(&shared.stills, &opened, spec, &client, 4 * shared.config.deadline).await?;
    if let Some(frame) = sheet.corrupt.filter(|_| on_damage == OnDamage::Error) {
        return Err(refused(frame, &opened));
    }
    let mut response = if is_sheet {
        reply::bytes("image/jpeg", sheet.image.clone())
    } else {
        let cues = sheet.grid.webvtt(&sheet_address(&shared, &visitor, video, (&uri, &query)), &sheet.times);
        reply::bytes("text/vtt; charset=utf-8", cues.into())
    };
    if sheet.corrupt.is_some() {
        reply::corrupt(response.headers_mut());
    }
    version.mark(response.headers_mut());
    Ok(response)
}

/// Where the sheet of these cues is, as seen from them; signed, if they were asked for by a signature.
fn sheet_address(shared: &Shared, visitor: &Visitor, video: &str, (uri, query): (&Uri, &SheetQuery)) -> String {
    let file = format!("{}.jpg", relative_address(video.rsplit('/').next().unwrap_or_default()));
    let Some(asked) = uri.query() else { return file };
    let expires = query.expires.as_deref().and_then(|expires| expires.parse().ok());
    // With the key of the address that was asked for: the sheet's reaches as far and no farther.
    match (shared.guard.key(visitor), expires) {
        (Some(key), Some(expires)) => {
            let segments: Vec<String> = video.split('/').map(relative_address).collect();
            let signed = auth::sign(key, &format!("/storyboard/{}.jpg?{asked}", segments.join("/")), expires);
            let query = signed.split_once('?').map_or("", |(_, query)| query);
            format!("{file}?{query}")
        }
        _ => format!("{file}?{asked}"),
    }
}
