//! The C sources that bucket-streamer links statically: versions, verification, configuration and build.
//!
//! [`pins`] has each source with version, licence, content checksum and carriers; [`fetch`] fetches one from the first
//! carrier that works and verifies it; [`recipe`] has the configurations; [`cache`] stores results once per machine and
//! configuration, for all Cargo profiles and clones; [`build`] combines them.
//!
//! Bindings, C shims and linking are left to the `ffi` crate.

pub mod build;
pub mod cache;
pub mod error;
pub mod fetch;
pub mod pins;
pub mod recipe;

pub use build::{Prefix, ensure, ensure_with_http};
pub use error::VendorError;
