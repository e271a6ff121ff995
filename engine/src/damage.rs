//! The treatment of damaged pictures, as requested by the caller.
//!
//! Damage is detected where pictures are decoded (`ffi/shim/inspect.c`) and where samples are read
//! (`session/losses.rs`).

use std::fmt;
use std::str::FromStr;

/// The result for a frame that damage may have affected, directly or through a reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// The picture as far as it decodes, flagged by [`VideoFrame::is_corrupt`](crate::VideoFrame::is_corrupt).
    #[default]
    Flag,
    /// The error [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    Error,
}

impl OnDamage {
    /// The names in options and requests.
    pub const NAMES: [&'static str; 2] = ["flag", "error"];
}

impl FromStr for OnDamage {
    type Err = String;

    fn from_str(text: &str) -> Result<OnDamage, String> {
        match text {
            "flag" => Ok(OnDamage::Flag),
            "error" => Ok(OnDamage::Error),
            _ => Err(format!("'{text}' is neither 'error' nor 'flag'")),
        }
    }
}

impl fmt::Display for OnDamage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            OnDamage::Flag => "flag",
            OnDamage::Error => "error",
        })
    }
}

/// The default limit of pixels of a picture: a little above 8192x4320.
pub const DEFAULT_MAX_PIXELS: u64 = 8192 * 4352;
