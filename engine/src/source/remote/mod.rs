//! Bytes behind a network: parts of a file, fetched when they are wanted, kept in memory and shared by all who read it.
//!
//! [`HttpSource`] is the face of it. `spans` knows which bytes are here and which are on their way, so that none is fetched
//! twice; `cache` bounds what all sources keep; `read_ahead` guesses what a reader wants next; `lane` brings a range to its
//! end, `attempt` makes requests and decides which of them are worth repeating, `version` says whether an answer is of the
//! file that was opened, `redirect` follows where servers send us,
//! `public` says where they may not, `host` knows how long a server takes and when to ask it again; an `authority` says how a store wants to be asked, `document` asks
//! it for what is no range of bytes;
//! `tls` says which servers are trusted; `runtime` is where all this runs. A caller waits in a thread of its own: nothing outside of
//! this folder knows of tokio.
//! Which bytes a frame needs is said by [`RemoteSource::will_need`](super::RemoteSource::will_need).

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
