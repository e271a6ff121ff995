//! Documents of a store that are no part of any file, such as lists of a bucket: fetched whole, with the retries of
//! `request`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::time::timeout;

use super::request::{
    Endpoint, FetchError, Origin, RequestResult, RetryState, chunk, invalid_answer, refusal, send_signed,
};
use crate::source::{ReadCounters, Refusal};

/// The time limit of a document with all attempts: the caller blocks on it.
const TIME: Duration = Duration::from_secs(10);

/// The document of a store's endpoint, if it has at most `limit` bytes.
pub(super) async fn fetch(origin: &Origin, limit: usize) -> Result<Bytes, FetchError> {
    let mut retries = RetryState::new(&origin.options);
    let fetched = timeout(TIME, async {
        loop {
            retries.begin();
            match retries.run(fetch_once(origin, limit)).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => retries.back_off(failure).await?,
            }
        }
    });
    fetched.await.unwrap_or(Err(FetchError::Refused(Refusal::Timeout { what: "the list", limit: TIME })))
}

async fn fetch_once(origin: &Origin, limit: usize) -> RequestResult<Bytes> {
    let Endpoint::Store(authority) = &origin.endpoint else {
        return invalid_answer("the address is not that of a store");
    };
    let _permit = origin.host.permit().await;
    let mut response = send_signed(origin, &**authority, &ReadCounters::default(), &HeaderMap::new()).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(&response, false));
    }
    let mut all = Vec::new();
    while let Some(bytes) = chunk(&origin.options, &mut response).await? {
        if all.len() + bytes.len() > limit {
            return invalid_answer(format!("a list of more than {limit} bytes"));
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all.into())
}
