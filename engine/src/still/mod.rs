//! Stills: picture files made from decoded pictures.
//!
//! [`StillOptions`] describes a still, and [`StillMaker`] makes it: colour and size with [`pixels`](crate::pixels),
//! deinterlacing ([`deinterlace`]), geometry ([`layout`]), rotation ([`orientation`]), and the file ([`encode`]).
//! [`sheet`] combines small pictures in one. [`raw`] gives the planes without any conversion, or their MD5. Stills know
//! nothing of the video: [`Video::still_options`](crate::Video::still_options) has the options that its container
//! implies.

pub mod deinterlace;
mod device_encoder;
pub mod encode;
pub mod layout;
mod maker;
mod options;
pub mod orientation;
pub mod raw;
pub mod sheet;

pub(crate) use device_encoder::can_encode_on_device;
pub use encode::{StillEncoder, StillFormat};
pub use layout::Layout;
pub use maker::StillMaker;
pub use options::StillOptions;
pub use orientation::Orientation;
pub use sheet::Grid;
