//! Callers over HTTP: each keeps a connection, and requests one frame after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Url};

use super::expected::StillMd5s;
use super::server::{ServerEndpoint, describe_refusal, root_cause};
use super::tally::{ClientTally, ReceivedStill};
use super::tickets::{RequestTicket, RequestTickets};

/// State that all callers share.
pub(super) struct HttpCallers {
    pub(super) server: Arc<ServerEndpoint>,
    pub(super) tickets: RequestTickets,
    /// The route of frames, with the parameters that all requests share.
    pub(super) route: Url,
    pub(super) expected: Option<Arc<StillMd5s>>,
}

impl HttpCallers {
    /// Makes requests until there are no tickets left.
    pub(super) async fn call(self: Arc<HttpCallers>, client: Client) -> ClientTally {
        let mut tally = ClientTally { connections: 1, ..ClientTally::default() };
        while let Some(ticket) = self.tickets.take() {
            if let Some(due) = ticket.due {
                tokio::time::sleep_until(due.into()).await;
            }
            let since = ticket.due.unwrap_or_else(Instant::now);
            let mut url = self.route.clone();
            url.query_pairs_mut().append_pair("frame", &ticket.frame.to_string());
            if let Err(why) = self.request_frame(&client, url, &ticket, since, &mut tally).await {
                tally.error(ticket.place, ticket.frame, why);
            }
        }
        tally.ended = Some(Instant::now());
        tally
    }

    async fn request_frame(
        &self,
        client: &Client,
        url: Url,
        ticket: &RequestTicket,
        since: Instant,
        tally: &mut ClientTally,
    ) -> Result<(), String> {
        let seconds = self.server.timeout.as_secs_f64();
        let failed = |error: reqwest::Error, tally: &mut ClientTally| {
            if error.is_timeout() {
                tally.count("missing");
                return format!("no answer within {seconds} s");
            }
            tally.count("broken");
            format!("no answer: {}", root_cause(&error))
        };
        let response = client.get(url).send().await.map_err(|error| failed(error, tally))?;
        let (status, headers) = (response.status(), response.headers().clone());
        // A truncated body counts as no response.
        let body = response.bytes().await.map_err(|error| failed(error, tally))?;
        let latency = since.elapsed();
        tally.count(status.as_str());
        if let Some(timing) = text(&headers, "server-timing") {
            tally.server_timing(timing);
        }
        if !status.is_success() {
            return Err(refusal(status, &headers, &body));
        }
        let index = number(&headers, "x-frame-index");
        let Some(index) = index else { return Err("a response without X-Frame-Index".to_owned()) };
        if !body.starts_with(&[0xff, 0xd8]) || !body.ends_with(&[0xff, 0xd9]) {
            return Err("a response that is not a complete JPEG".to_owned());
        }
        let pts = text(&headers, "x-frame-pts").and_then(|pts| pts.parse().ok());
        // A number out of range is another frame, too.
        let index = Some(u32::try_from(index).unwrap_or(u32::MAX));
        let still = ReceivedStill { frame: ticket.frame, index, pts, latency, bytes: &body };
        tally.still(ticket.place, &still, self.expected.as_deref());
        Ok(())
    }
}

/// The reason for a response without a still. A 503 must have a Retry-After.
fn refusal(status: reqwest::StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let why = describe_refusal(status, body);
    if status != reqwest::StatusCode::SERVICE_UNAVAILABLE {
        return why;
    }
    match number(headers, RETRY_AFTER.as_str()) {
        Some(seconds) => format!("{why}; can be asked again after {:?}", Duration::from_secs(seconds)),
        None => format!("{why}, without Retry-After"),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}
