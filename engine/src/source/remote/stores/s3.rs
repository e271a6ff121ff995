//! Amazon S3 and compatible servers: addresses, signatures, and regions.

use std::sync::Arc;

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::HeaderMap;
use reqwest::{Response, Url};

use super::address::StoreAddress;
use super::aws::{Aws, AwsEnvironment};
use super::refusal::{StoreRefusal, check_response};
use crate::error::Refusal;
use crate::source::remote::signer::{BoxedFuture, RequestSigner, StoreResponse};

/// An object.
pub(super) struct S3 {
    aws: Arc<Aws>,
    address: StoreAddress,
}

impl S3 {
    pub(super) fn new(aws: Arc<Aws>, address: StoreAddress) -> S3 {
        S3 { aws, address }
    }

    /// Virtual-hosted style (the bucket in the server's name) where possible, else path style.
    fn url(&self, environment: &AwsEnvironment, region: &str) -> Result<Url, Refusal> {
        let bucket = &self.address.bucket;
        // A wildcard certificate for *.s3.example.com does not cover a.b.s3.example.com.
        let is_label = !bucket.contains(['.', '_', '$']) && !bucket.bytes().any(|byte| byte.is_ascii_uppercase());
        let in_name = environment.virtual_hosted.unwrap_or(environment.endpoint.is_none() && is_label);
        let endpoint = environment.endpoint.clone().unwrap_or_else(|| amazon(region));
        match endpoint.split_once("://").filter(|_| in_name) {
            Some((scheme, host)) => self.address.below(&format!("{scheme}://{bucket}.{host}"), false),
            None => self.address.below(&endpoint, true),
        }
    }

    async fn signed(&self, conditions: HeaderMap) -> Result<(Url, HeaderMap), Refusal> {
        let environment = self.aws.environment().await;
        let region = self.aws.region(&self.address.bucket).await;
        let url = self.url(environment, &region)?;
        let mut headers = match self.aws.credentials().await? {
            Some(credentials) => sign(&url, &credentials, &region, environment.pays)?,
            None => HeaderMap::new(),
        };
        // Not signed: proxies may change some of them.
        headers.extend(conditions);
        Ok((url, headers))
    }

    /// Corrects region or credentials after a refusal.
    async fn handle_refusal(&self, refused: StoreRefusal) -> StoreResponse {
        let is_elsewhere = matches!(refused.status, 301 | 307) || refused.status == 400;
        let known = self.aws.region(&self.address.bucket).await;
        let region = refused.region.clone().filter(|region| is_elsewhere && *region != known);
        let is_anonymous = matches!(self.aws.credentials().await, Ok(None));
        if let Some(region) = region {
            self.aws.set_region(&self.address.bucket, region);
            return StoreResponse::Retry(refused.into_refusal(is_anonymous));
        }
        if refused.is(&["ExpiredToken", "TokenRefreshRequired"]) {
            self.aws.forget_credentials().await;
            return StoreResponse::Retry(refused.into_refusal(is_anonymous));
        }
        StoreResponse::Refused(refused.into_refusal(is_anonymous))
    }
}

fn amazon(region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://s3.{region}.amazonaws.com{china}")
}

/// The headers that sign a request for `url`.
fn sign(url: &Url, credentials: &AwsCredential, region: &str, pays: bool) -> Result<HeaderMap, Refusal> {
    let impossible = |why: &dyn std::fmt::Display| Refusal::Configuration(format!("no signature can be made: {why}"));
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.uri_mut() = url.as_str().parse().map_err(|error| impossible(&error))?;
    let authorizer = AwsAuthorizer::new(credentials, "s3", region).with_request_payer(pays);
    authorizer.try_authorize(&mut request, None).map_err(|error| impossible(&error))?;
    let mut headers = std::mem::take(request.headers_mut());
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

impl RequestSigner for S3 {
    fn sign_request(&self, conditions: HeaderMap) -> BoxedFuture<'_, Result<(Url, HeaderMap), Refusal>> {
        Box::pin(self.signed(conditions))
    }

    fn bucket(&self) -> String {
        self.address.bucket_id()
    }

    fn classify(&self, response: Response) -> BoxedFuture<'_, StoreResponse> {
        Box::pin(async {
            match check_response(response).await {
                Ok(response) => StoreResponse::Accepted(response),
                Err(refused) => self.handle_refusal(refused).await,
            }
        })
    }
}
