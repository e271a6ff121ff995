//! The interface to an object store's protocol: signing requests, and understanding refusals. Implemented in `stores`.

use std::pin::Pin;

use reqwest::header::HeaderMap;
use reqwest::{Response, Url};

use crate::error::Refusal;

/// A future behind a pointer.
pub(super) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Signs the requests for an object, and classifies the answers.
pub(super) trait Authority: Send + Sync {
    /// The address of a request and its headers, `conditions` among them. Called for each request, since signatures and
    /// credentials expire.
    fn admit(&self, conditions: HeaderMap) -> Later<'_, Result<(Url, HeaderMap), Refusal>>;

    /// Requests with the same name share limits and statistics. No other bucket of any store has it.
    fn bucket(&self) -> String;

    /// Classifies an answer.
    fn judge(&self, response: Response) -> Later<'_, Verdict>;
}

/// The class of an answer.
pub(super) enum Verdict {
    /// Not particular to the store.
    Answer(Response),
    /// A refusal that says how to correct the request: another one may succeed at once.
    Again(Refusal),
    /// A final refusal.
    Refused(Refusal),
}
