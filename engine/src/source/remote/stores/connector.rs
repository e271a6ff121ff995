//! Lets the credential libraries use the client's connections: same certificates, proxies and TLS.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use object_store::ClientOptions;
use reqwest::{Client, Method};

/// For Amazon's library.
pub(super) fn http_client(client: Client) -> SharedHttpClient {
    http_client_fn(move |settings, _| SharedHttpConnector::new(Connector::new(client.clone(), settings)))
}

#[derive(Debug)]
struct Connector {
    client: Client,
    limit: Option<Duration>,
}

impl Connector {
    fn new(client: Client, settings: &HttpConnectorSettings) -> Connector {
        let limits = [settings.connect_timeout(), settings.read_timeout()];
        Connector { client, limit: limits.into_iter().flatten().reduce(|all, one| all + one) }
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, limit) = (self.client.clone(), self.limit);
        HttpConnectorFuture::new(async move {
            let method = Method::from_bytes(request.method().as_bytes()).map_err(|error| user(error.into()))?;
            let mut builder = client.request(method, request.uri());
            for (name, value) in request.headers() {
                builder = builder.header(name, value);
            }
            if let Some(limit) = limit {
                builder = builder.timeout(limit);
            }
            let body = request.body().bytes().map(<[u8]>::to_vec).unwrap_or_default();
            let response = builder.body(body).send().await.map_err(failure)?;
            let status = StatusCode::try_from(response.status().as_u16()).map_err(|error| user(error.into()))?;
            let headers = response.headers().clone();
            let mut answer = HttpResponse::new(status, SdkBody::from(response.bytes().await.map_err(failure)?));
            for (name, value) in &headers {
                if let Ok(value) = value.to_str() {
                    answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
                }
            }
            Ok(answer)
        })
    }
}

fn user(error: Box<dyn std::error::Error + Send + Sync>) -> ConnectorError {
    ConnectorError::user(error)
}

fn failure(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

/// For the library of the other stores.
#[derive(Debug)]
pub(super) struct SharedConnector(pub(super) Client);

impl object_store::client::HttpConnector for SharedConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        Ok(object_store::client::HttpClient::new(self.0.clone()))
    }
}
