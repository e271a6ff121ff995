//! Parses the operator's roots.

/// A root as the operator writes it; [`Roots::new`](super::Roots::new) checks that its place exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpec {
    /// Empty for the unnamed root.
    pub(super) name: String,
    pub(super) place: String,
}

impl RootSpec {
    /// Parses `cams=/data/cams`: a name, and a folder, or the address of a server's folder or of a part of a bucket.
    ///
    /// # Errors
    /// One line with the expected form.
    pub fn parse(text: &str) -> Result<RootSpec, String> {
        let expected = "a root is named like cams=/data/cams or film=s3://bucket/prefix";
        let Some((name, place)) = text.split_once('=') else {
            return Err(format!("{expected}: {text:?} has no ="));
        };
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if matches!(name, "" | "." | "..") || !is_plain {
            return Err(format!("{expected}: names have letters, digits and -_. only (not {name:?})"));
        }
        if place.is_empty() {
            return Err(format!("{expected}: the place after {name}= is missing"));
        }
        Ok(RootSpec { name: name.to_owned(), place: place.to_owned() })
    }

    /// The unnamed root: names of its videos have no root.
    pub fn unnamed(place: &str) -> RootSpec {
        RootSpec { name: String::new(), place: place.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::RootSpec;

    #[test]
    fn a_root_is_a_name_and_a_place() {
        let spec = RootSpec::parse("my-cams_1.0=https://host/a=b/").unwrap();
        assert_eq!((&spec.name[..], &spec.place[..]), ("my-cams_1.0", "https://host/a=b/"));
        for none in ["", "/data", "=/data", ".=/data", "..=/data", "a/b=/data", "ü=/data", "a b=/data", "a=", "a%2f=/x"]
        {
            let why = RootSpec::parse(none).unwrap_err();
            assert!(why.starts_with("a root is named like ") && !why.contains('\n'), "{why}");
        }
    }
}
