//! The interface to an object store's protocol: signing requests, and understanding refusals. Implemented in `stores`.

use std::pin::Pin;

use reqwest::header::HeaderMap;
use reqwest::{Response, Url};

use crate::error::Refusal;

/// A future behind a pointer.
pub(super) type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Signs the requests for an object, and classifies the answers.
pub(super) trait RequestSigner: Send + Sync {
    /// Returns the address of a request and its headers, `conditions` among them. Called for each request, since
    /// signatures and credentials expire.
    fn sign_request(&self, conditions: HeaderMap) -> BoxedFuture<'_, Result<(Url, HeaderMap), Refusal>>;

    /// The name under which requests share limits and statistics, unique among the buckets of all stores.
    fn bucket(&self) -> String;

    /// Classifies an answer.
    fn classify(&self, response: Response) -> BoxedFuture<'_, StoreResponse>;
}

/// The class of an answer.
pub(super) enum StoreResponse {
    /// An answer that is handled as from any other server.
    Accepted(Response),
    /// A refusal that says how to correct the request: another one may succeed at once.
    Retry(Refusal),
    /// A final refusal.
    Refused(Refusal),
}
