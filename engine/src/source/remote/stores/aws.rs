//! Configuration and credentials of S3, from the sources that Amazon's tools use: the environment, profiles, and
//! credential services. Loaded at first use; credentials are renewed before they expire. Signing is left to `s3`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_types::service_config::ServiceConfigKey;
use object_store::aws::AwsCredential;
use reqwest::Client;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::timeout;

use super::connector;
use super::error_chain;
use super::settings::Settings;
use crate::error::Refusal;

/// Limit of getting credentials, which may need a request to a service, or a program.
const LIMIT: Duration = Duration::from_secs(30);

/// Credentials are renewed this long before they expire.
const EARLY: Duration = Duration::from_secs(60);

/// After a search without result, this long passes until the next one.
const NOWHERE: Duration = Duration::from_secs(60);

const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// The region of a bucket without a configured one; if it is wrong, Amazon's answer names the right one.
const REGION: &str = "us-east-1";

/// The configuration of S3.
pub(super) struct AwsEnvironment {
    region: Option<String>,
    /// Another endpoint than Amazon's.
    pub(super) endpoint: Option<String>,
    /// Whether the bucket is a part of the server's name, if configured.
    pub(super) virtual_hosted: Option<bool>,
    /// The requester pays.
    pub(super) pays: bool,
    provider: Option<SharedCredentialsProvider>,
}

/// The result of a search for credentials, `None` if there are none, and how long it holds.
struct CachedCredentials {
    credentials: Option<Arc<AwsCredential>>,
    since: Instant,
    expire: Option<SystemTime>,
}

/// State shared by all objects of S3.
pub(super) struct Aws {
    settings: Settings,
    client: Client,
    environment: OnceCell<AwsEnvironment>,
    cached: AsyncMutex<Option<CachedCredentials>>,
    /// Regions of buckets, learned from answers.
    regions: Mutex<HashMap<String, String>>,
}

impl Aws {
    pub(super) fn new(settings: Settings, client: Client) -> Aws {
        let (environment, cached, regions) = (OnceCell::new(), AsyncMutex::default(), Mutex::default());
        Aws { settings, client, environment, cached, regions }
    }

    /// Half a pair of keys is a mistake, and not the same as none.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let [has_id, has_secret] = KEYS.map(|name| self.settings.get(name).is_some());
        let missing = if has_id { KEYS[1] } else { KEYS[0] };
        let why = || {
            Refusal::Configuration(format!(
                "no credentials: {} are set together, {missing} is not set",
                KEYS.join(" and ")
            ))
        };
        if has_id == has_secret { Ok(()) } else { Err(why()) }
    }

    pub(super) async fn environment(&self) -> &AwsEnvironment {
        self.environment.get_or_init(|| load(&self.settings, &self.client)).await
    }

    /// The region for requests to a bucket.
    pub(super) async fn region(&self, bucket: &str) -> String {
        let known = self.regions.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).cloned();
        let region = || async { self.environment().await.region.clone() };
        match known {
            Some(region) => region,
            None => region().await.unwrap_or_else(|| REGION.to_owned()),
        }
    }

    /// Records the region of a bucket, from an answer.
    pub(super) fn set_region(&self, bucket: &str, region: String) {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), region);
    }

    /// The credentials; `None` if there are none, and requests are then not signed. Concurrent callers wait for one
    /// search.
    pub(super) async fn credentials(&self) -> Result<Option<Arc<AwsCredential>>, Refusal> {
        let Some(provider) = &self.environment().await.provider else { return Ok(None) };
        let mut cached = self.cached.lock().await;
        if let Some(held) = cached.as_ref().filter(|held| held.is_good()) {
            return Ok(held.credentials.clone());
        }
        let had_some = cached.as_ref().is_some_and(|held| held.credentials.is_some());
        let late = |_| Refusal::Timeout { what: "credentials", limit: LIMIT };
        let credentials = match timeout(LIMIT, provider.provide_credentials()).await.map_err(late)? {
            Ok(credentials) => Some(credentials),
            // If there were credentials before, failing to renew them is an error.
            Err(CredentialsError::CredentialsNotLoaded(_)) if !had_some => None,
            Err(error) => return Err(Refusal::Configuration(format!("no credentials: {}", error_chain(&error)))),
        };
        let expire = credentials.as_ref().and_then(Credentials::expiry);
        let credentials = credentials.as_ref().map(usable).transpose()?;
        *cached = Some(CachedCredentials { credentials: credentials.clone(), since: Instant::now(), expire });
        Ok(credentials)
    }

    /// Drops credentials that the store refuses.
    pub(super) async fn forget_credentials(&self) {
        *self.cached.lock().await = None;
    }
}

impl CachedCredentials {
    fn is_good(&self) -> bool {
        match (&self.credentials, self.expire) {
            (None, _) => self.since.elapsed() < NOWHERE,
            (Some(_), None) => true,
            (Some(_), Some(expire)) => SystemTime::now() + EARLY < expire,
        }
    }
}

/// Checks that credentials can be sent in headers.
fn usable(credentials: &Credentials) -> Result<Arc<AwsCredential>, Refusal> {
    let (key_id, token) = (credentials.access_key_id(), credentials.session_token());
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(key_id) || !token.is_none_or(is_plain) {
        let why = "no credentials: the key's id or the session token has characters that cannot be sent";
        return Err(Refusal::Configuration(why.to_owned()));
    }
    let (secret_key, token) = (credentials.secret_access_key().to_owned(), token.map(str::to_owned));
    Ok(Arc::new(AwsCredential { key_id: key_id.to_owned(), secret_key, token }))
}

async fn load(settings: &Settings, client: &Client) -> AwsEnvironment {
    let config = if settings.is_env() { Some(sdk_config(settings, client).await) } else { None };
    let config = config.as_ref();
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| settings.get(name));
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| settings.get(name));
    let provider = match static_credentials(settings) {
        _ if settings.is_on("AWS_SKIP_SIGNATURE") => None,
        Some(credentials) => Some(SharedCredentialsProvider::new(credentials)),
        None => config.and_then(SdkConfig::credentials_provider),
    };
    AwsEnvironment {
        region: region.or_else(|| Some(config?.region()?.to_string())),
        endpoint: endpoint.or_else(|| config.and_then(own_endpoint)),
        virtual_hosted: virtual_hosted(settings),
        pays: settings.get("AWS_REQUEST_PAYER").is_some_and(|who| who.eq_ignore_ascii_case("requester"))
            || settings.is_on("AWS_REQUEST_PAYER"),
        provider,
    }
}

/// The keys of the settings, which take precedence.
fn static_credentials(settings: &Settings) -> Option<Credentials> {
    let (key_id, secret) = (settings.get(KEYS[0])?, settings.get(KEYS[1])?);
    Some(Credentials::new(key_id, secret, settings.get("AWS_SESSION_TOKEN"), None, "settings"))
}

fn virtual_hosted(settings: &Settings) -> Option<bool> {
    match settings.get("AWS_S3_ADDRESSING_STYLE").as_deref() {
        Some("path") => Some(false),
        Some("virtual") => Some(true),
        _ => {
            settings.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").map(|_| settings.is_on("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"))
        }
    }
}

/// Loads profiles, and the chain of credential providers.
async fn sdk_config(settings: &Settings, client: &Client) -> SdkConfig {
    let http = connector::http_client(client.clone());
    let mut region = ProfileFileRegionProvider::builder();
    let mut own = ProfileFileCredentialsProvider::builder();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(profile) = settings.get("AWS_PROFILE") {
        (region, own) = (region.profile_name(&profile), own.profile_name(&profile));
        loader = loader.profile_name(profile);
    }
    // The machine's metadata service is not queried for the region: outside of Amazon that takes time, and a bucket may
    // be in any region.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(region.build());
    let provider = ProviderConfig::default().with_http_client(http).with_region(region.region().await);
    let web = WebIdentityTokenCredentialsProvider::builder().configure(&provider).build();
    let container = EcsCredentialsProvider::builder().configure(&provider).build();
    let chain = CredentialsProviderChain::first_try("profile", own.configure(&provider).build())
        .or_else("web identity", web)
        .or_else("container", container)
        .or_else("machine", InstanceCredentials::new(&provider));
    loader.region(region).credentials_provider(chain).load().await
}

/// The credentials of a machine at Amazon. They are not configured, so it is no error if the metadata service does not
/// answer.
#[derive(Debug)]
struct InstanceCredentials(ImdsCredentialsProvider);

impl InstanceCredentials {
    fn new(provider: &ProviderConfig) -> InstanceCredentials {
        let metadata = imds::Client::builder().configure(provider).max_attempts(1).build();
        InstanceCredentials(ImdsCredentialsProvider::builder().configure(provider).imds_client(metadata).build())
    }
}

impl ProvideCredentials for InstanceCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let credentials = async { self.0.provide_credentials().await.map_err(CredentialsError::not_loaded) };
        future::ProvideCredentials::new(credentials)
    }
}

/// The endpoint of a profile, for S3 or for all services.
fn own_endpoint(config: &SdkConfig) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id("s3").profile("endpoint_url").env("AWS_ENDPOINT_URL").build().ok()?;
    let own = config.service_config().and_then(|all| all.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}
