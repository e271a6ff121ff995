//! What a server may do instead of giving the bytes that were asked for.

use std::time::Duration;

/// Why a server's bytes cannot be had, with what to do about it. Never holds credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The address is none.
    #[error("this address cannot be used: {0}")]
    Address(String),
    /// Something is missing, or wrong, in what says how an object store is to be asked, and as whom.
    #[error("the object store cannot be asked: {0}")]
    Configuration(String),
    /// An object store, with its own name for why.
    #[error("the object store refuses: {code} (status {status}): {advice}")]
    Store {
        /// Of the answer: 403, 404.
        status: u16,
        /// As in the store's manual: `NoSuchKey`, `SignatureDoesNotMatch`.
        code: String,
        /// What to do.
        advice: &'static str,
    },
    /// Certificates that were to be trusted.
    #[error("no certificates to trust in {file} (a file in PEM's format is expected): {why}")]
    Certificates {
        /// The file that was to have them.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// 404, 410.
    #[error("the server does not have it (status {0}): is the address right?")]
    NotFound(u16),
    /// 401.
    #[error("the server wants to know who asks (status 401): put user and password into the address, before an @")]
    Unauthorized,
    /// 403.
    #[error("the server does not allow it (status 403): credentials or a signed address may be wrong or have expired")]
    Forbidden,
    /// 408, 429 and what begins with 5, again and again.
    #[error("the server has too much to do or is broken (status {0}): try again later")]
    Busy(u16),
    /// Any other status.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// The whole instead of a part, and too much of it.
    #[error(
        "the server gives no parts of it (it ignores Range), and the whole is more than {limit} bytes: copy the file"
    )]
    NoRanges {
        /// What would be taken as a whole.
        limit: u64,
    },
    /// An encoding of the bytes instead of the bytes.
    #[error("the server gives it compressed ({0}) although it was asked not to: parts of that are of no use")]
    Compressed(String),
    /// An answer that contradicts the request or itself.
    #[error("the server's answer is not to be trusted: {0}")]
    Answer(String),
    /// It sends us to where nothing may be asked for on the word of a server.
    #[error("the server redirects to {0}, which is not followed")]
    Redirect(&'static str),
    /// Too late.
    #[error("the server took too long: {what} did not come within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// No connection, or one that broke.
    #[error("the connection failed: {0}")]
    Connection(String),
}
