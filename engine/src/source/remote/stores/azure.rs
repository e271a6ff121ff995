//! Azure Blob Storage: its accounts, addresses and signatures.

use std::sync::Arc;

use object_store::azure::{AzureAuthorizer, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};

use super::address::StoreAddress;
use super::connector::SharedConnector;
use super::error_chain;
use super::refusal::check_response;
use super::settings::Settings;
use super::tokens::{Tokens, retries};
use crate::error::Refusal;
use crate::source::remote::signer::{BoxedFuture, RequestSigner, StoreResponse};

/// Variables of Azure's own command line that the signing library does not read.
const ALIASES: [(&str, AzureConfigKey); 2] =
    [("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName), ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey)];

/// The protocol version of requests without credentials. Without it, ETags have no quotes.
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-ms-version"), HeaderValue::from_static("2023-11-03"));

/// State shared by the objects of an account.
pub(super) struct AzureAccount {
    name: String,
    endpoint: String,
    tokens: Tokens<AzureCredential>,
}

impl AzureAccount {
    /// The account that the address names, or the configured one.
    pub(super) fn new(named: Option<&str>, settings: &Settings, client: &Client) -> Result<AzureAccount, Refusal> {
        let mut builder = MicrosoftAzureBuilder::new();
        let mut is_named = false;
        for (key, value) in configured(settings) {
            is_named |= is_credential(&key);
            builder = builder.with_config(key, value);
        }
        let is_emulator = settings.is_on("AZURE_STORAGE_USE_EMULATOR");
        let name = named.map(str::to_owned).or_else(|| builder.get_config_value(&AzureConfigKey::AccountName));
        let name = name.or_else(|| is_emulator.then(|| "devstoreaccount1".to_owned()));
        let missing = || Refusal::Configuration("set AZURE_STORAGE_ACCOUNT_NAME to the name of the account".to_owned());
        let name = name.ok_or_else(missing)?;
        let own = builder.get_config_value(&AzureConfigKey::Endpoint);
        let endpoint = own.unwrap_or_else(|| match is_emulator {
            true => emulator(settings, &name),
            false => format!("https://{name}.blob.core.windows.net"),
        });
        let tokens = if settings.is_on("AZURE_SKIP_SIGNATURE") || !is_named && !is_emulator && !settings.is_env() {
            Tokens::none()
        } else {
            // Credentials are the same for all containers.
            let builder = builder.with_account(&name).with_container_name("any").with_retry(retries());
            let store = builder.with_http_connector(SharedConnector(client.clone())).build();
            let store = store.map_err(|error| Refusal::Configuration(error_chain(&error)))?;
            Tokens::new(Arc::clone(store.credentials()), is_named || is_emulator)
        };
        Ok(AzureAccount { name, endpoint, tokens })
    }
}

fn emulator(settings: &Settings, account: &str) -> String {
    let host = settings.get("AZURITE_BLOB_STORAGE_URL");
    format!("{}/{account}", host.as_deref().unwrap_or("http://127.0.0.1:10000").trim_end_matches('/'))
}

/// The configuration, the connection string first: separate variables override it.
fn configured(settings: &Settings) -> Vec<(AzureConfigKey, String)> {
    let mut all = connection_string(&settings.get("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default());
    for (name, value) in settings.all("AZURE_").into_iter().chain(settings.all("IDENTITY_ENDPOINT")) {
        let alias = ALIASES.iter().find(|(alias, _)| name == *alias).map(|&(_, key)| key);
        all.extend(alias.or_else(|| name.to_ascii_lowercase().parse().ok()).map(|key| (key, value)));
    }
    all
}

/// `AccountName=…;AccountKey=…;BlobEndpoint=…`, as Azure's portal shows it.
fn connection_string(text: &str) -> Vec<(AzureConfigKey, String)> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    let keys = pairs.filter_map(|(name, value)| {
        let key = match name.trim() {
            "AccountName" => AzureConfigKey::AccountName,
            "AccountKey" => AzureConfigKey::AccessKey,
            "SharedAccessSignature" => AzureConfigKey::SasKey,
            "BlobEndpoint" => AzureConfigKey::Endpoint,
            _ => return None,
        };
        Some((key, value.trim().to_owned()))
    });
    keys.collect()
}

fn is_credential(key: &AzureConfigKey) -> bool {
    use AzureConfigKey::{
        AccessKey, ClientId, ClientSecret, CredentialType, FederatedTokenFile, MsiEndpoint, SasKey, Token, UseAzureCli,
    };
    let is = matches!(key, AccessKey | ClientId | ClientSecret | CredentialType | FederatedTokenFile | MsiEndpoint);
    is || matches!(key, SasKey | Token | UseAzureCli)
}

/// A blob.
pub(super) struct Azure {
    account: Arc<AzureAccount>,
    bucket_id: String,
    url: Url,
}

impl Azure {
    pub(super) fn new(account: Arc<AzureAccount>, address: &StoreAddress) -> Result<Azure, Refusal> {
        let url = address.below(&account.endpoint, true)?;
        Ok(Azure { account, bucket_id: address.bucket_id(), url })
    }

    async fn signed(&self, mut conditions: HeaderMap) -> Result<(Url, HeaderMap), Refusal> {
        let Some(credential) = self.account.tokens.get().await? else {
            conditions.extend([VERSION]);
            return Ok((self.url.clone(), conditions));
        };
        if matches!(&*credential, AzureCredential::BearerToken(token) if HeaderValue::try_from(token).is_err()) {
            return Err(Refusal::Configuration("the token has characters that cannot be sent".to_owned()));
        }
        sign(&self.url, conditions, &credential, &self.account.name)
    }
}

/// The signature of a shared key includes the conditions.
fn sign(
    url: &Url,
    conditions: HeaderMap,
    credential: &AzureCredential,
    account: &str,
) -> Result<(Url, HeaderMap), Refusal> {
    let impossible = |why: &dyn std::fmt::Display| Refusal::Configuration(format!("no signature can be made: {why}"));
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.uri_mut() = url.as_str().parse().map_err(|error| impossible(&error))?;
    *request.headers_mut() = conditions;
    AzureAuthorizer::new(credential, account).try_authorize(&mut request).map_err(|error| impossible(&error))?;
    let mut headers = std::mem::take(request.headers_mut());
    if let Some(value) = headers.get_mut(header::AUTHORIZATION) {
        value.set_sensitive(true);
    }
    let url = Url::parse(&request.uri().to_string()).map_err(|error| impossible(&error))?;
    Ok((url, headers))
}

impl RequestSigner for Azure {
    fn sign_request(&self, conditions: HeaderMap) -> BoxedFuture<'_, Result<(Url, HeaderMap), Refusal>> {
        Box::pin(self.signed(conditions))
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

#[cfg(test)]
mod tests {
    use super::{AzureConfigKey, configured};
    use crate::source::remote::stores::Settings;

    #[test]
    fn what_stands_alone_counts_more_than_a_connection_string() {
        let text = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==;BlobEndpoint=http://h:1/a;";
        let settings = Settings::none().with("AZURE_STORAGE_CONNECTION_STRING", text).with("AZURE_STORAGE_KEY", "b");
        let all = configured(&settings);
        let last = |wanted: AzureConfigKey| all.iter().rfind(|(key, _)| *key == wanted).map(|(_, value)| &value[..]);
        assert_eq!(last(AzureConfigKey::AccountName), Some("a"));
        assert_eq!(last(AzureConfigKey::Endpoint), Some("http://h:1/a"));
        assert_eq!(last(AzureConfigKey::AccessKey), Some("b"));
    }
}
