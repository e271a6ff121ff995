//! The server: frames over HTTP and WebSocket, for many at once.
//!
//! `roots` says which videos there are and opens them, `videos` keeps them open. A request goes through `auth`, which knows the
//! `scope` of its token or signature, is read by
//! `http` or `ws`, finds out which frame is meant (`target`), and gets its still from `stills`: out of memory, from somebody
//! who waits for the same (`flights`), or from the engine, when `admission` says that it is its turn. `sheets` does the same
//! for storyboards. What is made and not sent has a budget (`replies`). `listen` has the connections, `preface` finds out what
//! is spoken on them, `patient` and `streams` what is read of them, `metrics` what an operator sees, `problem` what goes wrong, `config` what
//! may be chosen. How frames come to be is the engine's business.

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
