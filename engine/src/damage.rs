//! What becomes of pictures that are known to be damaged.
//!
//! Which pictures those are is found out where they are decoded (`ffi/shim/inspect.c`) and where their samples are read
//! (`session/losses.rs`). Here is only what the caller wants of them.

use std::fmt;
use std::str::FromStr;

/// What a request gets for a frame that damage may have touched, directly or through a reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// The picture as far as it can be decoded, flagged: [`VideoFrame::is_corrupt`](crate::VideoFrame::is_corrupt).
    #[default]
    Flag,
    /// The error [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    Error,
}

impl OnDamage {
    /// The names that users write.
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

/// Pixels that a picture may have unless more are allowed: a little above 8192x4320.
pub const DEFAULT_MAX_PIXELS: u64 = 8192 * 4352;
