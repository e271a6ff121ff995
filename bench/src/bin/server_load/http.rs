//! Clients over HTTP, each with a keep-alive connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};

use crate::expected::Sum;
use crate::load::Load;

/// Longest wait of a client, for any Retry-After.
const LONGEST: Duration = Duration::from_secs(10);

/// Requests random frames until the time is up.
pub(crate) async fn client(load: Arc<Load>, mut random: Rng) {
    let builder = Client::builder().timeout(load.plan.timeout).pool_max_idle_per_host(1).http1_only().no_proxy();
    let client = builder.tls_certs_only([]).build().expect("a client");
    while load.goes_on() {
        let (video, frame) = load.any(&mut random);
        let mut url = load.plan.url.clone();
        url.path_segments_mut().expect("http").pop_if_empty().push("frame").extend(video.split('/'));
        url.set_query(Some(&format!("frame={}{}", frame.0, load.plan.query())));
        // With `--retry`, a 503 is followed by another attempt.
        while let Some(wait) = one(&load, &client, url.clone(), frame).await
            && load.plan.retry
            && load.goes_on()
        {
            tokio::time::sleep(wait.min(LONGEST)).await;
        }
        tokio::time::sleep(load.plan.pause).await;
    }
}

/// Makes one request; returns the wait before another attempt, if the server is full.
async fn one(load: &Load, client: &Client, url: reqwest::Url, frame: (u32, Sum)) -> Option<Duration> {
    let sent = Instant::now();
    let mut request = client.get(url);
    if let Some(token) = &load.plan.token {
        request = request.bearer_auth(token);
    }
    let counts = &load.counts;
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            counts.lost(sent, if error.is_timeout() { "no answer in time" } else { "the connection broke" });
            // Without a wait, a client that is refused at once would flood the server.
            return Some(Duration::from_millis(100));
        }
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u32>().ok();
    let (index, again) = (number("x-frame-index"), number(RETRY_AFTER.as_str()));
    let Ok(body) = response.bytes().await else {
        counts.lost(sent, "an answer that broke off");
        return None;
    };
    match (status, again) {
        (StatusCode::OK, _) => counts.still(index, frame, &body, sent.elapsed()),
        (StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) => {
            counts.refused(sent);
            return Some(Duration::from_secs(seconds.into()));
        }
        (StatusCode::SERVICE_UNAVAILABLE, None) => counts.other("503 without Retry-After"),
        _ => counts.other(format!("status {}", status.as_u16())),
    }
    None
}
