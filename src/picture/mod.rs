//! From planes to stills.
//!
//! A decoded picture is a view of its planes. [`jfif`] turns them into JFIF's YCbCr, [`deinterlace`] makes one instant of
//! two fields, [`layout`] says what is shown and how large, [`scale`] resizes, [`turn`] turns, [`encode`] makes files;
//! [`still`] does all of it in this order. [`sheet`] puts many small ones into one. [`raw`] gives the planes as they are,
//! or their MD5, untouched by all this. Where a picture came from is not known here, but for what
//! [`StillOptions::for_video`] asks of its video.

pub mod deinterlace;
pub mod encode;
pub mod jfif;
pub mod layout;
pub mod raw;
pub mod rgb;
pub mod scale;
pub mod sheet;
pub mod siting;
pub mod still;
mod subsample;
#[cfg(test)]
mod testing;
pub mod turn;

pub use encode::{StillEncoder, StillFormat};
pub use jfif::{JfifPlanes, PictureError};
pub use layout::{Layout, Part};
pub use scale::{Fit, Shape};
pub use sheet::Grid;
pub use still::{StillMaker, StillOptions};
pub use turn::Turn;
