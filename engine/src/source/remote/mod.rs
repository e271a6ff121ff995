//! Sources behind a network: parts of a file, fetched on demand, kept in memory, and shared by all readers.
//!
//! [`HttpSource`] is the interface. `spans` records which bytes are in memory and which are on their way, so that none
//! is fetched twice; `cache` bounds the bytes of all sources; `read_ahead` predicts sequential reads. `lane` fetches
//! a range with the requests of `attempt`, which decides on repetition; `version` tells whether an answer is of the
//! opened file; `host` limits and hedges the requests to a server. `redirect` follows redirects, and `public` keeps
//! them out of private networks. An `authority` signs requests for a store, and `document` fetches what is no range.
//! `tls` chooses the trusted certificates, and `runtime` runs all this. A caller waits in its own thread: nothing
//! outside of this folder uses tokio. Which bytes a frame needs is left to the callers of
//! [`RemoteSource::will_need`](super::RemoteSource::will_need).

mod address;
mod attempt;
#[cfg(feature = "stores")]
mod authority;
mod cache;
mod client;
mod confirmed;
#[cfg(feature = "stores")]
mod document;
mod host;
mod http;
mod lane;
mod options;
mod public;
mod read_ahead;
mod redirect;
mod runtime;
mod spans;
#[cfg(feature = "stores")]
mod stores;
mod tls;
mod version;

pub use client::HttpClient;
pub use http::HttpSource;
pub use options::HttpOptions;
#[cfg(feature = "stores")]
pub use stores::{Settings, StoreClient, StorePage, StorePrefix};
