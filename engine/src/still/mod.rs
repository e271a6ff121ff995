//! Stills: picture files made from decoded pictures.
//!
//! [`StillOptions`] describes a still, and [`StillMaker`] makes it: colour and size with [`pixels`](crate::pixels),
//! deinterlacing ([`deinterlace`]), geometry ([`layout`]), rotation ([`turn`]), and the file ([`encode`]). [`sheet`]
//! combines small pictures in one. [`raw`] gives the planes without any conversion, or their MD5. Stills know nothing
//! of the video: [`Video::still_options`](crate::Video::still_options) has the options that its container implies.

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
