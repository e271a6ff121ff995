//! `/videos`: the list of videos, and the properties of each.

use std::sync::Arc;

use axum::extract::{Extension, State as Extract};
use axum::http::header::{CACHE_CONTROL, LINK};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::conditional::CacheValidator;
use super::params::{name, query};
use super::reply;
use crate::admission::RequestClient;
use crate::auth::Principal;
use crate::problem::Problem;
use crate::scope::Reach;
use crate::server_state::ServerState;
use crate::videos::OpenVideo;
use bucket_streamer::Info;

/// Videos of one page: the default, and the most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// The page of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Videos after this name: `next` of the page before.
    after: Option<String>,
    /// Number of videos, 1 to 1000; 100 by default.
    limit: Option<usize>,
    /// Only videos whose names begin with this.
    prefix: Option<String>,
    /// With `signature`: the time until which the address is valid, in seconds since 1970.
    #[serde(rename = "expires")]
    _expires: Option<String>,
    /// Signature of the address; `bucket-streamer sign` makes it.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

/// A page of videos, in the order of their names.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct VideoList {
    videos: Vec<VideoEntry>,
    /// The value of `after` for the next page; null at the end.
    next: Option<String>,
    /// Roots that cannot be listed, or not now.
    unlisted: Vec<Unlisted>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct VideoEntry {
    /// The video's name, as all routes take it.
    video: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Unlisted {
    root: String,
    why: String,
}

/// The properties of a video, and the tag of this version of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct VideoInfo {
    #[serde(flatten)]
    info: Info,
    /// The value of `v` in other routes.
    etag: String,
}

/// The videos of the roots that the token or signature reaches, in pages.
#[utoipa::path(get, path = "/videos", operation_id = "videos", params(ListQuery), responses(
    (status = 200, description = "A page of videos", body = VideoList),
    (status = 400, description = "A parameter is wrong; `detail` says which", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query: ListQuery = query(&uri)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::bad_parameter(format!("limit is 1 to {LONGEST_PAGE}")));
    }
    // Listing reads folders and sends requests to stores, which takes time: only a few listings run at one time.
    let permit = Arc::clone(&shared.listing).acquire_owned();
    let permit = tokio::time::timeout(shared.config.deadline, permit).await;
    let permit = permit.map_err(|_| Problem::deadline())?.map_err(|_| Problem::draining())?;
    let (roots, prefix) = (Arc::clone(&shared.roots), query.prefix.clone());
    let reach = shared.authenticator.reach(&principal).clone();
    let listing = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let (after, prefix) = (query.after.as_deref(), query.prefix.as_deref());
        match reach {
            Reach::All => roots.list(after, limit, prefix),
            Reach::Subtrees(within) => roots.list_subtrees(&within, after, limit, prefix),
        }
    });
    let listing = tokio::time::timeout(shared.config.deadline, listing).await.map_err(|_| Problem::deadline())?;
    let listing = listing.map_err(|_| Problem::internal("listing failed"))?;
    let next = listing.next.clone();
    let list = VideoList {
        videos: listing
            .videos
            .into_iter()
            .map(|one| VideoEntry { video: one.name, size_bytes: one.size_bytes })
            .collect(),
        next: listing.next,
        unlisted: listing.unlisted.into_iter().map(|(root, why)| Unlisted { root, why }).collect(),
    };
    let json = serde_json::to_vec(&list).map_err(|error| Problem::internal(error.to_string()))?;
    let mut response = reply::bytes("application/json", json.into());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(next) = next {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let prefix = prefix.map(|prefix| format!("&prefix={}", encoded(&prefix))).unwrap_or_default();
        let link = format!("</videos?after={}&limit={limit}{prefix}>; rel=\"next\"", encoded(&next));
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// The parameters of the description.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InfoQuery {
    /// The video's ETag: the response to an address with it never changes.
    v: Option<String>,
    /// With `signature`: the time until which the address is valid, in seconds since 1970.
    #[serde(rename = "expires")]
    _expires: Option<String>,
    /// Signature of the address; `bucket-streamer sign` makes it.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

/// The properties of a video.
#[utoipa::path(get, path = "/videos/{video}", operation_id = "video",
    params(("video" = String, Path, description = "The video's name: `root/path`"), InfoQuery),
    responses(
        (status = 200, description = "The properties", body = VideoInfo),
        (status = 403, description = "The token or signature does not reach this video, whether it exists or not", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such video", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The video cannot be read", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn info(
    Extract(shared): Extract<Arc<ServerState>>,
    Extension(client): Extension<RequestClient>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (video, query) = (name(&uri, "/videos/")?, query::<InfoQuery>(&uri)?);
    let permitted = shared.permit(&principal, &video)?;
    let opened = shared.videos.open(permitted, &client, shared.config.deadline).await?;
    let tag = opened.etag();
    let validator = CacheValidator::new(&tag, &tag, query.v.as_deref(), shared.is_private());
    if validator.matches(&headers) {
        return Ok(validator.not_modified());
    }
    let json = match shared.infos.get(&opened.tag) {
        Some(json) => json,
        None => {
            let (work, _) = shared.info_requests.join(&opened.tag, || {
                let (shared, client, opened) = (Arc::clone(&shared), client.clone(), opened.clone());
                async move { describe(&shared, &client, &opened, tag).await }
            });
            let json = work.await?;
            shared.infos.insert(opened.tag, json.clone());
            json
        }
    };
    let mut response = reply::bytes("application/json", json);
    validator.set_headers(response.headers_mut());
    Ok(response)
}

async fn describe(
    shared: &Arc<ServerState>,
    client: &RequestClient,
    opened: &OpenVideo,
    etag: String,
) -> Result<Bytes, Problem> {
    let work = async {
        let permit = shared.stills.enter(opened, client, 0.0).await?;
        let video = opened.video.clone();
        let info = tokio::task::spawn_blocking(move || {
            let info = Info::of(&video);
            permit.mark_fruitful();
            info
        });
        info.await.map_err(|_| Problem::internal("reading its properties failed"))?.map_err(|error| Problem::of(&error))
    };
    let info = tokio::time::timeout(shared.config.deadline, work).await.unwrap_or_else(|_| Err(Problem::deadline()))?;
    let info = VideoInfo { info: Info { video: opened.name.to_string(), ..info }, etag };
    let json = serde_json::to_vec(&info).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(json.into())
}
