//! The C sources that bucket-streamer links statically: which ones, how they are verified, configured and built.
//!
//! [`pins`] names each source with version, licence, content checksum and carriers; [`fetch`] brings one through the
//! first carrier that works and checks what arrived; [`recipe`] says how each is configured; [`cache`] keeps the
//! results once per machine and configuration, whatever Cargo profile or clone asks; [`build`] ties them together.
//!
//! Left to others: bindings, C shims and linking (the `ffi` crate).

pub mod build;
pub mod cache;
pub mod error;
pub mod fetch;
pub mod pins;
pub mod recipe;

pub use build::{Prefix, ensure, ensure_with_http};
pub use error::Error;
