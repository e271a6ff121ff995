//! The server: frames over HTTP and WebSocket, for many clients at once.
//!
//! [`roots`] maps names to videos and opens them; `videos` keeps them open, with results that need all samples
//! (`sample_order`). A request passes `auth`, which has the `scope` of its token or signature, and is parsed by `http`
//! or `ws`, within `limits`. `frame_locator` finds the requested frame, and `stills` gets its still: from the cache,
//! from a request for the same still in progress (`single_flight`), or from the engine, under a permit of `admission`.
//! `sheets` does the same for storyboards. `reply_memory` limits the memory of responses that are not sent yet.
//! `server_state` is the state that all requests share.
//!
//! `listen` accepts connections, `connection` has the peer and the slot of one, `preface` detects HTTP/2 without TLS,
//! `timeouts` and `streams` close connections and streams of slow clients. `metrics` counts events for operators,
//! `problem` has the errors, `config` the configuration. The engine decodes frames; the command parses arguments.

#![forbid(unsafe_code)]

mod admission;
mod auth;
mod config;
mod connection;
mod frame_locator;
mod http;
mod limits;
mod listen;
mod locks;
mod metrics;
mod preface;
mod problem;
mod reply_memory;
pub mod roots;
mod sample_order;
mod scope;
mod server_state;
mod sheets;
mod single_flight;
mod stills;
mod streams;
mod timeouts;
mod videos;
mod ws;

pub use auth::sign;
pub use config::{Config, Tls};
pub use http::openapi;
pub use listen::Server;
pub use scope::{Credential, Scope};
