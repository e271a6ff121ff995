//! Planes of samples: their encoding, their conversion to JFIF's colour, and their size.
//!
//! A decoded picture is a view of its planes ([`planes`]). [`colour`] completes its colour description and converts it
//! to JFIF's YCbCr, by a matrix ([`matrix`], [`jfif`]) or a table, with chroma placed by [`siting`]. [`scale`] resizes
//! planes, [`rgb`] converts them to R'G'B'. The content of a still, and files, are left to [`still`](crate::still).

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

pub use colour::{ColourConverter, ColourInterpretation, ColourOptions};
pub use crop::PixelRect;
pub use error::PictureError;
pub use planes::JfifPlanes;
pub use scale::{Fit, Shape};
