//! Documents of a store that are no part of any file, such as lists of a bucket: fetched whole, with the attempts of
//! `attempt`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::time::timeout;

use super::attempt::{Origin, Place, Problem, Tried, Tries, admitted, chunk, distrust, refusal};
use crate::source::{Counters, Refusal};

/// For the whole document, with all attempts: a caller waits for it.
const TIME: Duration = Duration::from_secs(10);

/// The document at an authority's address, if it has at most `limit` bytes.
pub(super) async fn fetch(origin: &Origin, limit: usize) -> Result<Bytes, Problem> {
    let mut tries = Tries::new(&origin.options);
    let asked = timeout(TIME, async {
        loop {
            tries.begin();
            match tries.attempt(ask(origin, limit)).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => tries.again(failure).await?,
            }
        }
    });
    asked.await.unwrap_or(Err(Problem::Refused(Refusal::Timeout { what: "the list", limit: TIME })))
}

async fn ask(origin: &Origin, limit: usize) -> Tried<Bytes> {
    let Place::Store(authority) = &origin.place else { return distrust("the address is not that of a store") };
    let _permit = origin.host.permit().await;
    let mut response = admitted(origin, &**authority, &Counters::default(), &HeaderMap::new()).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(&response, false));
    }
    let mut all = Vec::new();
    while let Some(bytes) = chunk(&origin.options, &mut response).await? {
        if all.len() + bytes.len() > limit {
            return distrust(format!("a list of more than {limit} bytes"));
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all.into())
}
