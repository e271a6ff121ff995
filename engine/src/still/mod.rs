//! From pictures to stills: the files that show them.
//!
//! [`StillOptions`] says what a still is to be, [`StillMaker`] makes it: colour and size by [`pixels`](crate::pixels), one
//! instant of two fields ([`deinterlace`]), what is shown and how large ([`layout`]), turning ([`turn`]), and a file
//! ([`encode`]). [`sheet`] puts many small ones into one. [`raw`] gives the planes as they are, or their MD5, untouched by
//! all this. Where a picture came from is not known here: [`Video::still_options`](crate::Video::still_options) says how its
//! container wants it shown.

pub mod deinterlace;
pub mod encode;
pub mod layout;
mod maker;
mod on_device;
mod options;
pub mod raw;
pub mod sheet;
pub mod turn;

pub use encode::{StillEncoder, StillFormat};
pub use layout::Layout;
pub use maker::StillMaker;
pub(crate) use on_device::may_be_made_there;
pub use options::StillOptions;
pub use sheet::Grid;
pub use turn::Turn;
