//! Refusals of stores: their reasons, and advice for the user.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use tokio::time::timeout;

use crate::error::Refusal;

/// The most bytes of a refusal's body that are read, and the longest wait for them.
const BODY: usize = 8 << 10;
const LIMIT: Duration = Duration::from_secs(5);

/// A refusal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StoreRefusal {
    pub(super) status: u16,
    /// The store's code for the reason.
    pub(super) code: Option<String>,
    /// The region of the bucket, if that is the reason.
    pub(super) region: Option<String>,
}

/// Separates refusals of the store from answers that `request` handles.
pub(super) async fn check_response(mut response: Response) -> Result<Response, StoreRefusal> {
    let status = response.status().as_u16();
    // Answers with bytes, failed conditions, and statuses that are tried again at any server.
    if matches!(status, 200..=299 | 408 | 412 | 416 | 429 | 500..) {
        return Ok(response);
    }
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes[..bytes.len().min(BODY - body.len())]);
            if body.len() == BODY {
                return;
            }
        }
    };
    // After the limit, the part that has arrived is used.
    let _ = timeout(LIMIT, read).await;
    Err(StoreRefusal::of(status, response.headers(), &String::from_utf8_lossy(&body)))
}

impl StoreRefusal {
    fn of(status: u16, headers: &HeaderMap, body: &str) -> StoreRefusal {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(word);
        StoreRefusal {
            status,
            code: header("x-ms-error-code").or_else(|| element(body, "Code")),
            region: header("x-amz-bucket-region").or_else(|| element(body, "Region")),
        }
    }

    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// The refusal for messages, with advice that depends on whether the request had credentials.
    pub(super) fn into_refusal(self, is_anonymous: bool) -> Refusal {
        let advice = advice(self.status, self.code.as_deref().unwrap_or_default(), is_anonymous);
        let code = self.code.unwrap_or_else(|| "it gives no reason".to_owned());
        Refusal::Store { status: self.status, code, advice }
    }
}

/// The text of an element of an XML document, if it is a word.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    word(rest.split_once('<')?.0)
}

/// Accepts names of reasons and regions, and nothing else that a server may send.
fn word(text: &str) -> Option<String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_word && (1..=64).contains(&text.len())).then(|| text.to_owned())
}

fn advice(status: u16, code: &str, is_anonymous: bool) -> &'static str {
    match code {
        "NoSuchKey" | "BlobNotFound" => "is the name of the object right?",
        "NoSuchBucket" | "ContainerNotFound" => "are the bucket's name and the endpoint right?",
        "SignatureDoesNotMatch" => "the secret does not belong to the key's id",
        "InvalidAccessKeyId" => "the key's id is unknown: does it belong to another endpoint?",
        "ExpiredToken" | "TokenRefreshRequired" => "the credentials have expired: get new ones",
        "InvalidToken" => "the session token is not valid: does it belong to these credentials?",
        "RequestTimeTooSkewed" => "the clock of this machine is wrong",
        "AuthorizationHeaderMalformed" => ELSEWHERE,
        "InvalidObjectState" | "BlobArchived" => "it is archived: restore it first",
        "AuthenticationFailed" => "key or SAS token are wrong or have expired, or the clock of this machine is wrong",
        "AuthorizationPermissionMismatch" => "these credentials need the role Storage Blob Data Reader",
        _ => match status {
            300..=399 => ELSEWHERE,
            404 if is_anonymous => "is the address right, and is it public? the request was sent without credentials",
            401 | 403 | 409 if is_anonymous => {
                "it is not public, and the request was sent without credentials: docs/remote.md says how to give them"
            }
            401 => "the credentials are not accepted",
            403 => "these credentials do not allow it to be read",
            404 => "is the address right?",
            _ => "docs/remote.md says what is expected of a store",
        },
    }
}

const ELSEWHERE: &str = "set AWS_REGION to the bucket's region, or AWS_ENDPOINT_URL to its endpoint";

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::StoreRefusal;

    #[test]
    fn reasons_are_found_and_nothing_else_is_shown() {
        let of = |body: &str| StoreRefusal::of(403, &HeaderMap::new(), body);
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(of(body).code.as_deref(), Some("AuthorizationHeaderMalformed"));
        assert_eq!(of(body).region.as_deref(), Some("eu-west-1"));
        for none in ["", "<Code>", "<Code></Code>", "<Code>two words</Code>", "<Code>a\u{1b}[31m</Code>", "Code"] {
            assert_eq!(of(none).code, None, "{none}");
        }
        let header = (HeaderName::from_static("x-ms-error-code"), HeaderValue::from_static("BlobNotFound"));
        let refused = StoreRefusal::of(404, &HeaderMap::from_iter([header]), "");
        assert_eq!(
            refused.into_refusal(false).to_string(),
            "the object store refuses: BlobNotFound (status 404): is the name of the object right?"
        );
    }
}
