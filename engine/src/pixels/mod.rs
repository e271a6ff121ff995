//! Planes of samples: what they mean, their conversion to JFIF's colour, and their size.
//!
//! A decoded picture is a view of its planes ([`planes`]). [`colour`] knows what they mean and turns them into JFIF's YCbCr,
//! by a matrix ([`matrix`], [`jfif`]) or a table, with chroma where [`siting`] has it. [`scale`] resizes them, [`rgb`] makes
//! R'G'B' of them. What a still shows of a picture, and files, are [`still`](crate::still)'s.

pub mod colour;
pub mod crop;
pub mod error;
pub mod jfif;
mod light;
pub mod matrix;
pub mod planes;
#[cfg(test)]
mod reference;
pub mod rgb;
pub mod scale;
pub mod siting;
pub(crate) mod subsample;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use colour::{ColourConverter, ColourOptions, Meaning};
pub use crop::Part;
pub use error::PictureError;
pub use planes::JfifPlanes;
pub use scale::{Fit, Shape};
