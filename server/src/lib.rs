//! The server: frames over HTTP and WebSocket, for many clients at once.
//!
//! [`roots`] maps names to videos and opens them; `videos` keeps them open, with what opening found out
//! (`sample_order`). A request passes `auth`, which knows the `scope` of its token or signature, and is parsed by
//! `http` or `ws`, within `limits`. `target` finds the requested frame, and `stills` gets its still: from the cache,
//! from a request for the same still in progress (`flights`), or from the engine, when `admission` gives a permit.
//! `sheets` does the same for storyboards. `replies` limits the memory of responses that are not sent yet. `shared` is
//! the server state that all requests share.
//!
//! `listen` accepts connections, `connection` is a request's view of its own, `preface` detects HTTP/2 without TLS,
//! `patient` and `streams` limit how slowly clients may read and write. `metrics` is the operator's view, `problem` has
//! the errors, `config` the configuration. The engine makes frames, and the command parses arguments.

#![forbid(unsafe_code)]

mod admission;
mod auth;
mod config;
mod connection;
mod flights;
mod http;
mod limits;
mod listen;
mod metrics;
mod patient;
mod preface;
mod problem;
mod replies;
pub mod roots;
mod sample_order;
mod scope;
mod shared;
mod sheets;
mod stills;
mod streams;
mod target;
mod videos;
mod ws;

pub use auth::sign;
pub use config::{Config, Tls};
pub use http::openapi;
pub use listen::Server;
pub use scope::{Credential, Scope};
