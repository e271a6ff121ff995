//! Parses the operator's roots.

/// A root as the operator specifies it. [`Roots::new`](super::Roots::new) checks its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpec {
    /// Empty for the unnamed root.
    pub(super) name: String,
    pub(super) location: String,
}

impl RootSpec {
    /// Parses `NAME=LOCATION`. The name has letters, digits and `-_.` only. The location is a folder, such as
    /// `/data/cams`, the address of a web server's folder, or that of a part of a bucket, such as `s3://bucket/prefix`.
    ///
    /// # Errors
    /// One line with the expected form and the fault.
    pub fn parse(text: &str) -> Result<RootSpec, String> {
        let expected = "a root is named like cams=/data/cams or film=s3://bucket/prefix";
        let Some((name, location)) = text.split_once('=') else {
            return Err(format!("{expected}: {text:?} has no ="));
        };
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if matches!(name, "" | "." | "..") || !is_plain {
            return Err(format!("{expected}: names have letters, digits and -_. only (not {name:?})"));
        }
        if location.is_empty() {
            return Err(format!("{expected}: the place after {name}= is missing"));
        }
        Ok(RootSpec { name: name.to_owned(), location: location.to_owned() })
    }

    /// The unnamed root at a location: the names of its videos do not begin with a root's name. Nothing is checked yet.
    pub fn unnamed(location: &str) -> RootSpec {
        RootSpec { name: String::new(), location: location.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::RootSpec;

    #[test]
    fn a_root_is_a_name_and_a_place() {
        let spec = RootSpec::parse("my-cams_1.0=https://host/a=b/").unwrap();
        assert_eq!((&spec.name[..], &spec.location[..]), ("my-cams_1.0", "https://host/a=b/"));
        for none in ["", "/data", "=/data", ".=/data", "..=/data", "a/b=/data", "ü=/data", "a b=/data", "a=", "a%2f=/x"]
        {
            let why = RootSpec::parse(none).unwrap_err();
            assert!(why.starts_with("a root is named like ") && !why.contains('\n'), "{why}");
        }
    }
}
