//! The reasons why a server returns no bytes. The classification of answers is left to `source/remote`.

use std::time::Duration;

/// The reason why a server returned no bytes, and how to correct it. Never contains credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The address cannot be parsed or used.
    #[error("this address cannot be used: {0}")]
    Address(String),
    /// The configuration of an object store, or its credentials, are missing or wrong.
    #[error("the object store cannot be used: {0}")]
    Configuration(String),
    /// A refusal by an object store, with its own code.
    #[error("the object store refuses: {code} (status {status}): {advice}")]
    Store {
        /// The status of the answer: 403, 404.
        status: u16,
        /// The code, as in the store's manual: `NoSuchKey`, `SignatureDoesNotMatch`.
        code: String,
        /// How to correct it.
        advice: &'static str,
    },
    /// The file of trusted certificates cannot be used.
    #[error("no certificates to trust in {file} (a file in PEM's format is expected): {why}")]
    Certificates {
        /// Path of the file.
        file: String,
        /// The reason: unreadable, malformed, or empty.
        why: String,
    },
    /// Status 404 or 410.
    #[error("the server does not have it (status {0}): is the address right?")]
    NotFound(u16),
    /// Status 401.
    #[error("the server demands credentials (status 401): put user and password into the address, before an @")]
    Unauthorized,
    /// Status 403.
    #[error("the server denies access (status 403): credentials or a signed address may be wrong or have expired")]
    Forbidden,
    /// Status 408, 429 or 5xx, in every attempt.
    #[error("the server is overloaded or broken (status {0}): try again later")]
    Busy(u16),
    /// Any other status.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// The server ignores range requests, and the file is too large to be fetched whole.
    #[error("the server gives no parts of it (it ignores Range), and the file has more than {limit} bytes: copy it")]
    NoRanges {
        /// The largest file that is fetched whole, in bytes.
        limit: u64,
    },
    /// A compressed answer, whose ranges are not ranges of the file.
    #[error(
        "the server sends it compressed ({0}) although the request forbids that: parts of a compressed file are useless"
    )]
    Compressed(String),
    /// An answer that contradicts the request or itself.
    #[error("the server's answer is invalid: {0}")]
    Answer(String),
    /// A redirect to an address that the options exclude.
    #[error("the server redirects to {0}, which is not followed")]
    Redirect(&'static str),
    /// A time limit passed.
    #[error("the server took too long: {what} did not arrive within {limit:?}")]
    Timeout {
        /// The missing bytes or step.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// No connection, or a broken one.
    #[error("the connection failed: {0}")]
    Connection(String),
}
