//! Objects in stores: Amazon S3 and compatible servers, Google Cloud Storage, Azure Blob Storage.
//!
//! Bytes are fetched as from any other server ([`HttpSource`]). Particular to a store are the address of an object
//! (`address`), credentials (`aws`, `tokens`, from [`Settings`]), the headers of a request (`s3`, `google`, `azure`:
//! one [`RequestSigner`] each), refusals (`refusal`) and lists of a bucket (`list`).
//! Finding credentials and signing are left to the common libraries, over the client's connections (`connector`).

mod address;
mod aws;
mod azure;
mod connector;
mod google;
mod list;
mod refusal;
mod s3;
mod settings;
mod tokens;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::Client;

pub use list::{StorePage, StorePrefix};
pub use settings::Settings;

use super::signer::RequestSigner;
use super::{HttpClient, HttpSource};
use crate::error::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{PerProcess, ProcessBound};
use address::{StoreAddress, StoreKind};

type StoreResult<T> = std::result::Result<T, Refusal>;

/// A client of object stores. Objects of one store share connections and credentials. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreClient {
    http: HttpClient,
    settings: Settings,
    /// Per process: credentials are renewed over connections, which a child process after `fork` makes itself.
    shared: ProcessBound<PerProcess<StoreProviders>>,
}

struct StoreProviders {
    client: Client,
    settings: Settings,
    aws: Arc<aws::Aws>,
    google: Mutex<Option<Arc<google::GoogleAccount>>>,
    /// By the account's name, for addresses that have one.
    azure: Mutex<HashMap<Option<String>, Arc<azure::AzureAccount>>>,
}

/// Without credentials.
impl std::fmt::Debug for StoreProviders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StoreProviders").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl StoreClient {
    /// Uses the connections of `http`, with its time limits but without its headers.
    pub fn new(http: HttpClient, settings: Settings) -> StoreClient {
        StoreClient { http, settings, shared: ProcessBound::new(PerProcess::new()) }
    }

    fn providers(&self) -> Result<&StoreProviders> {
        self.shared.get_or_try_init(|| {
            let (client, settings) = (self.http.client()?.clone(), self.settings.clone());
            let aws = Arc::new(aws::Aws::new(settings.clone(), client.clone()));
            Ok(StoreProviders { client, settings, aws, google: Mutex::default(), azure: Mutex::default() })
        })
    }

    /// The client of the process, over [its connections](HttpClient::shared), configured by the environment.
    ///
    /// # Errors
    /// As [`HttpClient::new`].
    pub fn shared() -> Result<StoreClient> {
        static SHARED: OnceLock<StoreClient> = OnceLock::new();
        match SHARED.get() {
            Some(shared) => Ok(shared.clone()),
            None => {
                let created = StoreClient::new(HttpClient::shared()?, Settings::from_env());
                Ok(SHARED.get_or_init(|| created).clone())
            }
        }
    }

    /// Whether a scheme is that of an object store.
    pub fn knows(scheme: &str) -> bool {
        StoreKind::of(scheme).is_some()
    }

    /// Opens the object at an `s3://`, `gs://` or `az://` address with one request, which also brings the first bytes.
    /// Blocks until they arrive.
    ///
    /// # Errors
    /// `Remote`, with the reason.
    pub fn open(&self, address: &str) -> Result<HttpSource> {
        let name = address::redacted(address);
        let address =
            StoreAddress::parse(address).map_err(|refusal| Error::from(ErrorKind::Remote(refusal)).of(&name))?;
        self.open_address(address, &name)
    }

    fn open_address(&self, address: StoreAddress, name: &str) -> Result<HttpSource> {
        let open = |address| self.http.open_signed(self.signer(address)?, name);
        let source = open(address.clone()).map_err(|error| error.of(name))?;
        let (client, own) = (self.clone(), name.to_owned());
        Ok(source.with_reopener(move || client.open_address(address.clone(), &own)))
    }

    fn signer(&self, address: StoreAddress) -> Result<Arc<dyn RequestSigner>> {
        Ok(self.providers()?.signer(address).map_err(ErrorKind::Remote)?)
    }
}

impl StoreProviders {
    fn signer(&self, address: StoreAddress) -> StoreResult<Arc<dyn RequestSigner>> {
        if address.store == StoreKind::S3 {
            self.aws.check()?;
        }
        Ok(match address.store {
            StoreKind::S3 => Arc::new(s3::S3::new(Arc::clone(&self.aws), address)),
            StoreKind::Google => Arc::new(google::Google::new(self.google()?, &address)?),
            StoreKind::Azure => Arc::new(azure::Azure::new(self.azure(&address)?, &address)?),
        })
    }

    fn google(&self) -> StoreResult<Arc<google::GoogleAccount>> {
        let mut account = self.google.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = &*account {
            return Ok(Arc::clone(account));
        }
        let created = Arc::new(google::GoogleAccount::new(&self.settings, &self.client)?);
        Ok(Arc::clone(account.insert(created)))
    }

    fn azure(&self, address: &StoreAddress) -> StoreResult<Arc<azure::AzureAccount>> {
        let mut accounts = self.azure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&address.account) {
            return Ok(Arc::clone(account));
        }
        let account = azure::AzureAccount::new(address.account.as_deref(), &self.settings, &self.client)?;
        Ok(Arc::clone(accounts.entry(address.account.clone()).or_insert(Arc::new(account))))
    }
}

/// The chain of an error's causes, in one line of limited length.
fn error_chain(error: &dyn StdError) -> String {
    let (mut chain, mut next) = (String::new(), Some(error));
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors repeat the text of their cause.
        if !chain.contains(&text) {
            let gap = if chain.is_empty() { "" } else { ": " };
            chain = format!("{chain}{gap}{text}");
        }
        next = error.source();
    }
    let line: Vec<&str> = chain.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, StoreClient, error_chain};
    use crate::source::conformance;
    use crate::source::remote::{HttpClient, HttpOptions};
    use testing::s3::{KEY_ID, S3Server, SECRET};

    #[test]
    fn conforms_and_signs_every_request() {
        let store = S3Server::start();
        let address = store.put("bytes", conformance::bytes(), "1");
        let settings = Settings::none().with("AWS_ENDPOINT_URL", store.endpoint());
        let settings = settings.with("AWS_ACCESS_KEY_ID", KEY_ID).with("AWS_SECRET_ACCESS_KEY", SECRET);
        for cache in [16_000, 700] {
            let options = HttpOptions { block: 1000, gap: 100, cache, ..HttpOptions::default() };
            let source = StoreClient::new(HttpClient::new(options).unwrap(), settings.clone()).open(&address).unwrap();
            conformance::remote(&source);
            // Refused requests are not counted among them.
            assert_eq!(store.take_requests().len() as u64, crate::source::Source::counters(&source).now().requests);
        }
    }

    #[test]
    fn errors_of_libraries_are_one_line() {
        let below = std::io::Error::other("b\n  c");
        assert_eq!(error_chain(&std::io::Error::other(below)), "b c");
    }
}
