//! A root in an object store: all objects whose keys have a prefix.

use std::time::{Duration, Instant};

use super::list::RootPage;
use super::name::is_video;
use super::walk::PathQuery;
use bucket_streamer::error::{Error, Result};
use bucket_streamer::source::remote::{HttpSource, StoreClient, StorePrefix};

/// Most requests for one page of a listing, and the time after which no more are sent.
const REQUESTS: usize = 50;
const TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct StoreRoot(StorePrefix);

impl StoreRoot {
    pub(super) fn new(address: &str) -> std::result::Result<StoreRoot, String> {
        StorePrefix::parse(address).map(StoreRoot).map_err(|refusal| refusal.to_string())
    }

    pub(super) fn open(&self, client: &StoreClient, path: &str, video: &str) -> Result<HttpSource> {
        client.open_below(&self.0, path, video)
    }

    /// The videos among the objects. A page ends early if there are too many other objects.
    pub(super) fn list(&self, client: &StoreClient, query: PathQuery<'_>) -> std::result::Result<RootPage, String> {
        let since = Instant::now();
        let (mut found, mut token, mut last) = (RootPage::default(), None, None);
        for _ in 0..REQUESTS {
            let page = client.list(&self.0, query.prefix, query.after, token.as_deref()).map_err(message_of)?;
            last = page.objects.last().map(|(key, _)| key.clone()).or(last);
            let is_listed = |key: &str| {
                let first = key.split('/').next().unwrap_or_default();
                is_video(key) && !(query.leave_out)(first)
            };
            let videos = page.objects.into_iter().filter(|(key, _)| is_listed(key));
            let room = query.limit - found.videos.len();
            found.videos.extend(videos.map(|(key, len)| (key, Some(len))).take(room));
            token = page.token;
            if token.is_none() || found.videos.len() == query.limit {
                return Ok(found);
            }
            if since.elapsed() > TIME {
                break;
            }
        }
        found.searched_until = last;
        match found.searched_until {
            Some(_) => Ok(found),
            None => Err("it has too many objects that are not videos".to_owned()),
        }
    }
}

fn message_of(error: Error) -> String {
    error.message()
}
