//! Who lets requests through, where an address alone does not: stores want each request signed.

use std::pin::Pin;

use reqwest::header::HeaderMap;
use reqwest::{Response, Url};

use crate::error::Refusal;

/// What comes later.
pub(super) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Knows how a store wants to be asked, and what it means when it refuses.
pub(super) trait Authority: Send + Sync {
    /// Where a request for what `conditions` say goes, and with which headers, those among them. Asked for every request:
    /// signatures and credentials expire.
    fn admit(&self, conditions: HeaderMap) -> Later<'_, Result<(Url, HeaderMap), Refusal>>;

    /// Whose requests count together, by a name that no other bucket of any store has.
    fn bucket(&self) -> String;

    /// What is to be made of an answer.
    fn judge(&self, response: Response) -> Later<'_, Verdict>;
}

/// What an answer is.
pub(super) enum Verdict {
    /// One that needs no knowledge of the store.
    Answer(Response),
    /// A refusal, but one that says what was wrong: another request may fare better, at once.
    Again(Refusal),
    /// A refusal.
    Refused(Refusal),
}
