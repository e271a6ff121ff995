//! Google Cloud Storage: its addresses and tokens.

use std::sync::Arc;

use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};

use super::address::StoreAddress;
use super::connector::SharedConnector;
use super::error_chain;
use super::refusal::check_response;
use super::settings::Settings;
use super::tokens::{Tokens, retries};
use crate::error::Refusal;
use crate::source::remote::signer::{BoxedFuture, RequestSigner, StoreResponse};

const ENDPOINT: &str = "https://storage.googleapis.com";

/// The file in which `gcloud` stores the credentials of a login, below the home folder.
const LOGIN: &str = ".config/gcloud/application_default_credentials.json";

/// State shared by all objects.
pub(super) struct GoogleAccount {
    endpoint: String,
    tokens: Tokens<GcpCredential>,
}

impl GoogleAccount {
    pub(super) fn new(settings: &Settings, client: &Client) -> Result<GoogleAccount, Refusal> {
        let mut builder = GoogleCloudStorageBuilder::new();
        let mut is_named = settings.is_env() && std::env::home_dir().is_some_and(|home| home.join(LOGIN).exists());
        for (name, value) in settings.all("GOOGLE_").into_iter().chain(settings.all("SERVICE_ACCOUNT")) {
            let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() else { continue };
            is_named |= is_credential(&key);
            builder = builder.with_config(key, value);
        }
        let emulator = settings.get("STORAGE_EMULATOR_HOST").map(|host| match host.contains("://") {
            true => host,
            false => format!("http://{host}"),
        });
        let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl).or(emulator);
        let is_guessed = settings.is_env() && endpoint.is_none();
        let tokens = if settings.is_on("GOOGLE_SKIP_SIGNATURE") || !is_named && !is_guessed {
            Tokens::none()
        } else {
            // Credentials are the same for all buckets.
            let builder = builder
                .with_bucket_name("any")
                .with_retry(retries())
                .with_http_connector(SharedConnector(client.clone()));
            let store = builder.build().map_err(|error| Refusal::Configuration(error_chain(&error)))?;
            Tokens::new(Arc::clone(store.credentials()), is_named)
        };
        Ok(GoogleAccount { endpoint: endpoint.unwrap_or_else(|| ENDPOINT.to_owned()), tokens })
    }
}

fn is_credential(key: &GoogleConfigKey) -> bool {
    use GoogleConfigKey::{ApplicationCredentials, BearerToken, ServiceAccount, ServiceAccountKey};
    matches!(key, ApplicationCredentials | BearerToken | ServiceAccount | ServiceAccountKey)
}

/// An object.
pub(super) struct Google {
    account: Arc<GoogleAccount>,
    bucket_id: String,
    url: Url,
}

impl Google {
    pub(super) fn new(account: Arc<GoogleAccount>, address: &StoreAddress) -> Result<Google, Refusal> {
        let url = address.below(&account.endpoint, true)?;
        Ok(Google { account, bucket_id: address.bucket_id(), url })
    }

    async fn headers(&self, mut headers: HeaderMap) -> Result<HeaderMap, Refusal> {
        let token = self.account.tokens.get().await?;
        // Emulators use an empty token for access without credentials.
        if let Some(token) = token.filter(|token| !token.bearer.is_empty()) {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.bearer));
            let unusable = |_| Refusal::Configuration("the token has characters that cannot be sent".to_owned());
            let mut bearer = bearer.map_err(unusable)?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        Ok(headers)
    }
}

impl RequestSigner for Google {
    fn sign_request(&self, conditions: HeaderMap) -> BoxedFuture<'_, Result<(Url, HeaderMap), Refusal>> {
        Box::pin(async { Ok((self.url.clone(), self.headers(conditions).await?)) })
    }

    fn bucket(&self) -> String {
        self.bucket_id.clone()
    }

    fn classify(&self, response: Response) -> BoxedFuture<'_, StoreResponse> {
        Box::pin(async {
            match check_response(response).await {
                Ok(response) => StoreResponse::Accepted(response),
                Err(refused) => StoreResponse::Refused(refused.into_refusal(self.account.tokens.are_nowhere())),
            }
        })
    }
}
