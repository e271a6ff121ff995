//! A root in an object store: all objects whose keys have a prefix.

use std::time::{Duration, Instant};

use super::list::Found;
use super::name::is_video;
use super::walk::Sought;
use bucket_streamer::error::{Error, Result};
use bucket_streamer::source::remote::{HttpSource, StoreClient, StorePrefix};

/// Most requests for one page of a list, and most time.
const REQUESTS: usize = 50;
const TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Below(StorePrefix);

impl Below {
    pub(super) fn new(address: &str) -> std::result::Result<Below, String> {
        StorePrefix::parse(address).map(Below).map_err(|refusal| refusal.to_string())
    }

    pub(super) fn open(&self, client: &StoreClient, path: &str, video: &str) -> Result<HttpSource> {
        client.open_below(&self.0, path, video)
    }

    /// Videos among the objects. A page ends before it is full if there are too many other objects.
    pub(super) fn list(&self, client: &StoreClient, sought: Sought<'_>) -> std::result::Result<Found, String> {
        let begun = Instant::now();
        let (mut found, mut token, mut last) = (Found::default(), None, None);
        for _ in 0..REQUESTS {
            let page = client.list(&self.0, sought.prefix, sought.after, token.as_deref()).map_err(told)?;
            last = page.objects.last().map(|(key, _)| key.clone()).or(last);
            let is_listed = |key: &str| {
                let first = key.split('/').next().unwrap_or_default();
                is_video(key) && !(sought.leave_out)(first)
            };
            let videos = page.objects.into_iter().filter(|(key, _)| is_listed(key));
            let room = sought.limit - found.videos.len();
            found.videos.extend(videos.map(|(key, len)| (key, Some(len))).take(room));
            token = page.token;
            if token.is_none() || found.videos.len() == sought.limit {
                return Ok(found);
            }
            if begun.elapsed() > TIME {
                break;
            }
        }
        found.looked_until = last;
        match found.looked_until {
            Some(_) => Ok(found),
            None => Err("it has too many objects that are not videos".to_owned()),
        }
    }
}

fn told(error: Error) -> String {
    error.message()
}
