//! Credentials of Google and Azure. Their providers renew them; without configured credentials, those of the machine
//! are tried.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::{BackoffConfig, CredentialProvider, RetryConfig};
use tokio::time::timeout;

use super::error_chain;
use crate::error::Refusal;

/// Limit of getting configured credentials.
const LIMIT: Duration = Duration::from_secs(30);

/// Limit of getting the machine's own credentials: outside of the store's cloud no service answers.
const GUESS: Duration = Duration::from_secs(3);

/// After a search without result, this long passes until the next one.
const NOWHERE: Duration = Duration::from_secs(60);

/// Retries of credential services.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(15) }
}

/// A provider of credentials. It has no `Debug`: some providers show their credentials.
pub(super) struct Tokens<C> {
    provider: Option<Arc<dyn CredentialProvider<Credential = C>>>,
    /// The credentials are configured: it is an error if they cannot be obtained.
    is_named: bool,
    /// The time of a search without result.
    nowhere: Mutex<Option<Instant>>,
}

impl<C> Tokens<C> {
    pub(super) fn new(provider: Arc<dyn CredentialProvider<Credential = C>>, is_named: bool) -> Tokens<C> {
        Tokens { provider: Some(provider), is_named, nowhere: Mutex::default() }
    }

    /// Requests are never signed.
    pub(super) fn none() -> Tokens<C> {
        Tokens { provider: None, is_named: false, nowhere: Mutex::default() }
    }

    /// The credentials; `None` if there are none, and requests are then not signed.
    pub(super) async fn get(&self) -> Result<Option<Arc<C>>, Refusal> {
        let Some(provider) = self.provider.as_ref().filter(|_| !self.are_nowhere()) else { return Ok(None) };
        let limit = if self.is_named { LIMIT } else { GUESS };
        match timeout(limit, provider.get_credential()).await {
            Ok(Ok(credentials)) => Ok(Some(credentials)),
            Ok(Err(error)) if self.is_named => {
                Err(Refusal::Configuration(format!("no credentials: {}", error_chain(&error))))
            }
            Err(_) if self.is_named => Err(Refusal::Timeout { what: "credentials", limit }),
            _ => {
                *self.nowhere.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(None)
            }
        }
    }

    /// Whether a recent search had no result.
    pub(super) fn are_nowhere(&self) -> bool {
        let since = *self.nowhere.lock().unwrap_or_else(PoisonError::into_inner);
        self.provider.is_none() || since.is_some_and(|since| since.elapsed() < NOWHERE)
    }
}
