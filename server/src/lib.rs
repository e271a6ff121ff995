//! The server: frames over HTTP and WebSocket, for many clients at once.
//!
//! [`roots`] says which videos there are and opens them; `videos` keeps them open, with what was found out about them (`sample_order`).
//! A request passes `auth`, which knows the `scope` of its token or signature, and is read by `http` or `ws`, within `limits`.
//! `target` finds out which frame is meant, and `stills` gets its still: out of memory, from a request for the same that is being
//! answered (`flights`), or from the engine, when `admission` says that it is the request's turn. `sheets` does the same for
//! storyboards. What is made and not sent has a budget (`replies`). `shared` is what all requests have in common.
//!
//! `listen` has the connections, `connection` what a request knows of its own, `preface` finds out what is spoken on them,
//! `patient` and `streams` limit how slowly they are read and written. `metrics` is what an operator sees, `problem` what goes
//! wrong, `config` what may be chosen. How frames come to be is the engine's business, and arguments are the command's.

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
