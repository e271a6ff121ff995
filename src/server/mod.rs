//! The server: frames over HTTP and WebSocket, for many at once.
//!
//! `roots` says which videos there are and opens them.

pub mod roots;
