//! From planes to stills.
//!
//! A decoded picture is a view of its planes. [`colour`] knows what they mean and turns them into JFIF's YCbCr, by a matrix
//! ([`jfif`]) or a table, with chroma where [`siting`] has it. [`deinterlace`] makes one instant of two fields, [`layout`]
//! says what is shown and how large, [`scale`] resizes, [`turn`] turns, [`encode`] makes files; [`still`] does all of it
//! in this order. [`sheet`] puts many small ones into one. [`raw`] gives the planes as they are, or their MD5, untouched
//! by all this. Where a picture came from is not known here: [`Video::still_options`](crate::Video::still_options) says how its container
//! wants it shown.

pub mod colour;
pub mod deinterlace;
pub mod encode;
pub mod jfif;
pub mod layout;
mod light;
mod on_device;
pub mod raw;
#[cfg(test)]
mod reference;
pub mod rgb;
pub mod scale;
pub mod sheet;
pub mod siting;
pub mod still;
mod subsample;
mod table;
#[cfg(test)]
mod testing;
pub mod turn;

pub use colour::{ColourConverter, ColourOptions, Meaning};
pub use encode::{StillEncoder, StillFormat};
pub use jfif::{JfifPlanes, PictureError};
pub use layout::{Layout, Part};
pub(crate) use on_device::may_be_made_there;
pub use scale::{Fit, Shape};
pub use sheet::Grid;
pub use still::{StillMaker, StillOptions};
pub use turn::Turn;
