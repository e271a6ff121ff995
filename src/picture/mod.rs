//! From planes to stills.
//!
//! A decoded picture is a view of its planes. [`jfif`] turns them into JFIF's YCbCr, [`scale`] resizes those, [`still`]
//! makes files of them; [`raw`] gives the planes as they are, or their MD5. Where a picture came from is not known here.

pub mod jfif;
pub mod raw;
pub mod scale;
pub mod still;

pub use jfif::PictureError;
pub use scale::{Fit, Shape};
pub use still::{Jpeg, JpegOptions};
