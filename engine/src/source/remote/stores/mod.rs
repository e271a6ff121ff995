//! Objects in stores: Amazon S3 and compatible servers, Google Cloud Storage, Azure Blob Storage.
//!
//! Bytes are fetched as from any other server ([`HttpSource`]). Particular to a store are the place of an object
//! (`address`), credentials (`aws`, `tokens`, from [`Settings`]), the headers of a request (`s3`, `google`, `azure`:
//! one [`Authority`](super::authority::Authority) each), refusals (`answer`) and lists of a bucket (`list`). Finding
//! credentials and signing are left to the common libraries, over the client's connections (`connector`).

mod address;
mod answer;
mod aws;
mod azure;
mod connector;
mod google;
mod list;
mod s3;
mod settings;
mod tokens;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::Client;

pub use list::{StorePage, StorePrefix};
pub use settings::Settings;

use super::authority::Authority;
use super::{HttpClient, HttpSource};
use crate::error::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Owned, PerProcess};
use address::{Address, Store};

type Allowed<T> = std::result::Result<T, Refusal>;

/// A client of object stores. Objects of one store share connections and credentials. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreClient {
    http: HttpClient,
    settings: Settings,
    /// Per process: credentials are renewed over connections, which a child after `fork` must make itself.
    shared: Owned<PerProcess<Shared>>,
}

struct Shared {
    client: Client,
    settings: Settings,
    aws: Arc<aws::Aws>,
    google: Mutex<Option<Arc<google::Account>>>,
    /// By the account's name, for addresses that have one.
    azure: Mutex<HashMap<Option<String>, Arc<azure::Account>>>,
}

/// Without credentials.
impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl StoreClient {
    /// Uses the connections of `http`, with its time limits but without its headers.
    pub fn new(http: HttpClient, settings: Settings) -> StoreClient {
        StoreClient { http, settings, shared: Owned::new(PerProcess::new()) }
    }

    fn accounts(&self) -> Result<&Shared> {
        self.shared.get_or_try_make(|| {
            let (client, settings) = (self.http.client()?.clone(), self.settings.clone());
            let aws = Arc::new(aws::Aws::new(settings.clone(), client.clone()));
            Ok(Shared { client, settings, aws, google: Mutex::default(), azure: Mutex::default() })
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
                let made = StoreClient::new(HttpClient::shared()?, Settings::from_env());
                Ok(SHARED.get_or_init(|| made).clone())
            }
        }
    }

    /// Whether a scheme is that of an object store.
    pub fn knows(scheme: &str) -> bool {
        Store::of(scheme).is_some()
    }

    /// Opens an object with one request, which also brings the first bytes.
    ///
    /// # Errors
    /// `Remote`, with the reason.
    pub fn open(&self, address: &str) -> Result<HttpSource> {
        let name = address::shown(address);
        let address = Address::parse(address).map_err(|refusal| Error::from(ErrorKind::Remote(refusal)).of(&name))?;
        self.open_address(address, &name)
    }

    fn open_address(&self, address: Address, name: &str) -> Result<HttpSource> {
        let open = |address| self.http.open_authorized(self.authority(address)?, name);
        let source = open(address.clone()).map_err(|error| error.of(name))?;
        let (client, own) = (self.clone(), name.to_owned());
        Ok(source.reopened_by(move || client.open_address(address.clone(), &own)))
    }

    fn authority(&self, address: Address) -> Result<Arc<dyn Authority>> {
        Ok(self.accounts()?.authority(address).map_err(ErrorKind::Remote)?)
    }
}

impl Shared {
    fn authority(&self, address: Address) -> Allowed<Arc<dyn Authority>> {
        if address.store == Store::S3 {
            self.aws.check()?;
        }
        Ok(match address.store {
            Store::S3 => Arc::new(s3::S3::new(Arc::clone(&self.aws), address)),
            Store::Google => Arc::new(google::Google::new(self.google()?, &address)?),
            Store::Azure => Arc::new(azure::Azure::new(self.azure(&address)?, &address)?),
        })
    }

    fn google(&self) -> Allowed<Arc<google::Account>> {
        let mut account = self.google.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = &*account {
            return Ok(Arc::clone(account));
        }
        let made = Arc::new(google::Account::new(&self.settings, &self.client)?);
        Ok(Arc::clone(account.insert(made)))
    }

    fn azure(&self, address: &Address) -> Allowed<Arc<azure::Account>> {
        let mut accounts = self.azure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&address.account) {
            return Ok(Arc::clone(account));
        }
        let account = azure::Account::new(address.account.as_deref(), &self.settings, &self.client)?;
        Ok(Arc::clone(accounts.entry(address.account.clone()).or_insert(Arc::new(account))))
    }
}

/// The chain of an error's causes, in one line of limited length.
fn told(error: &dyn StdError) -> String {
    let (mut told, mut next) = (String::new(), Some(error));
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors repeat the text of their cause.
        if !told.contains(&text) {
            let gap = if told.is_empty() { "" } else { ": " };
            told = format!("{told}{gap}{text}");
        }
        next = error.source();
    }
    let line: Vec<&str> = told.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, StoreClient, told};
    use crate::source::conformance;
    use crate::source::remote::{HttpClient, HttpOptions};
    use testing::s3::{KEY_ID, SECRET, Store};

    #[test]
    fn conforms_and_signs_every_request() {
        let store = Store::start();
        let address = store.put("bytes", conformance::bytes(), "1");
        let settings = Settings::none().with("AWS_ENDPOINT_URL", store.endpoint());
        let settings = settings.with("AWS_ACCESS_KEY_ID", KEY_ID).with("AWS_SECRET_ACCESS_KEY", SECRET);
        for cache in [16_000, 700] {
            let options = HttpOptions { block: 1000, gap: 100, cache, ..HttpOptions::default() };
            let source = StoreClient::new(HttpClient::new(options).unwrap(), settings.clone()).open(&address).unwrap();
            conformance::remote(&source);
            // Refused requests are not counted among them.
            assert_eq!(store.asked().len() as u64, crate::source::Source::counters(&source).now().requests);
        }
    }

    #[test]
    fn errors_of_libraries_are_one_line() {
        let below = std::io::Error::other("b\n  c");
        assert_eq!(told(&std::io::Error::other(below)), "b c");
    }
}
