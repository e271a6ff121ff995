//! From a request to its pictures: what an engine may use, an open video, its requests, and how their frames come to be.
//!
//! [`engine`] is what all videos of a process share, [`video`] the face of one, [`request`] frames on their way to the reader,
//! [`fetch`] how they come to be, `losses` which of them may show that samples are damaged or missing. Which samples a picture
//! is made of is a matter of [`plan`](crate::plan), decoders and workers of [`decode`](crate::decode).

pub(crate) mod engine;
pub(crate) mod fetch;
pub(crate) mod losses;
pub(crate) mod request;
pub(crate) mod video;
