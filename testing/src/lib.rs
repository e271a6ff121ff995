//! Helpers for the tests of several packages, compiled once: clips with the vendored `ffmpeg` as oracle (`clips`),
//! damaged clips (`damage`), runs of programs (`program_run`), and servers: of ranges (`range_server`), behind TLS
//! (`tls`), of objects (`s3`), of frames (`mock`), and one with random faults (`faults`). Expectations are left to the
//! tests.
#![allow(missing_docs, reason = "nothing is published; what is not plain from its name is said")]

pub mod clips;
pub mod damage;
#[cfg(feature = "network")]
pub mod faults;
#[cfg(feature = "mock")]
pub mod mock;
pub mod program_run;
#[cfg(feature = "network")]
pub mod range_server;
#[cfg(feature = "stores")]
pub mod s3;
#[cfg(feature = "network")]
pub mod tls;
