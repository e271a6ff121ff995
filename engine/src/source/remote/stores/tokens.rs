//! Credentials of Google and Azure: kept by their providers, which renew them; looked for where nobody has named any.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::{BackoffConfig, CredentialProvider, RetryConfig};
use tokio::time::timeout;

use super::told;
use crate::error::Refusal;

/// For credentials to be had that somebody has named.
const LIMIT: Duration = Duration::from_secs(30);

/// For a machine's own, where nobody has: outside of the store's cloud nobody answers.
const GUESS: Duration = Duration::from_secs(3);

/// For so long nobody looks again for credentials that are nowhere.
const NOWHERE: Duration = Duration::from_secs(60);

/// How often services that give credentials are asked.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(15) }
}

/// Who gives credentials. Not to be shown: some providers show what they give.
pub(super) struct Tokens<C> {
    provider: Option<Arc<dyn CredentialProvider<Credential = C>>>,
    /// Somebody has said where they come from: it is an error if they do not.
    is_named: bool,
    /// When there were none.
    nowhere: Mutex<Option<Instant>>,
}

impl<C> Tokens<C> {
    pub(super) fn new(provider: Arc<dyn CredentialProvider<Credential = C>>, is_named: bool) -> Tokens<C> {
        Tokens { provider: Some(provider), is_named, nowhere: Mutex::default() }
    }

    /// Nobody asks for any.
    pub(super) fn none() -> Tokens<C> {
        Tokens { provider: None, is_named: false, nowhere: Mutex::default() }
    }

    /// Credentials, or none: requests are then not signed.
    pub(super) async fn get(&self) -> Result<Option<Arc<C>>, Refusal> {
        let Some(provider) = self.provider.as_ref().filter(|_| !self.are_nowhere()) else { return Ok(None) };
        let limit = if self.is_named { LIMIT } else { GUESS };
        match timeout(limit, provider.get_credential()).await {
            Ok(Ok(credentials)) => Ok(Some(credentials)),
            Ok(Err(error)) if self.is_named => Err(Refusal::Configuration(format!("no credentials: {}", told(&error)))),
            Err(_) if self.is_named => Err(Refusal::Timeout { what: "credentials", limit }),
            _ => {
                *self.nowhere.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(None)
            }
        }
    }

    /// Were there none when they were looked for?
    pub(super) fn are_nowhere(&self) -> bool {
        let since = *self.nowhere.lock().unwrap_or_else(PoisonError::into_inner);
        self.provider.is_none() || since.is_some_and(|since| since.elapsed() < NOWHERE)
    }
}
