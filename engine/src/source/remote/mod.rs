//! Sources behind a network: parts of a file, fetched on demand, kept in memory, and shared by all readers.
//!
//! [`HttpSource`] is the interface. `spans` records which bytes are in memory and which are in flight, so that none is
//! fetched twice; `cache` bounds the bytes of all sources; `read_ahead` predicts sequential reads. `range_fetch`
//! fetches a range with the requests of `request`, which decides on retries; `version` compares the version of an
//! answer with the opened one, and `validation` records when it was last confirmed; `host` limits and hedges the
//! requests to a server. `redirect` follows redirects, and `public` keeps them out of private networks. A `signer`
//! signs requests for a store, and `document` fetches what is no range. `tls` chooses the trusted certificates, and
//! `runtime` has the network threads. A caller blocks its own thread: nothing outside of this folder uses tokio. The
//! choice of bytes to fetch is left to the callers of [`RemoteSource::will_need`](super::RemoteSource::will_need).

mod address;
mod cache;
mod client;
#[cfg(feature = "stores")]
mod document;
mod host;
mod http;
mod options;
mod public;
mod range_fetch;
mod read_ahead;
mod redirect;
mod request;
mod runtime;
#[cfg(feature = "stores")]
mod signer;
mod spans;
#[cfg(feature = "stores")]
mod stores;
mod tls;
mod validation;
mod version;

pub use client::HttpClient;
pub use http::HttpSource;
pub use options::HttpOptions;
#[cfg(feature = "stores")]
pub use stores::{Settings, StoreClient, StorePage, StorePrefix};
