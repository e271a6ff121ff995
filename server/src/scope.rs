//! The scope of a token or a key: all videos, or those in some roots and below some prefixes.
//!
//! Functions that open videos take only a [`PermittedName`], from [`Reach::permit`]. So the decision about a name
//! precedes any lookup, and a refusal reveals nothing about existing videos.

use super::problem::Problem;
use super::roots::{Roots, Subtree};

/// A token or a key, and its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The token or key itself. It is a secret: keep it out of logs.
    pub secret: String,
    /// The name of a token in logs; by default its number.
    pub name: Option<String>,
    /// The videos that it reaches.
    pub scope: Scope,
}

/// The videos that a credential reaches: those of `roots`, and those below `prefixes`. Empty lists mean all videos.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Names of roots, all of whose videos are reached; the empty string is the unnamed root.
    pub roots: Vec<String>,
    /// Folders, as prefixes of videos' names: `films/customer-a`. A slash at the end makes no difference: the prefix
    /// reaches the content of a folder with that name, or a video with that name.
    pub prefixes: Vec<String>,
}

impl Scope {
    /// Whether the scope is all videos, because it has no roots and no prefixes.
    pub fn is_all(&self) -> bool {
        self.roots.is_empty() && self.prefixes.is_empty()
    }
}

/// A credential that reaches all videos.
impl From<String> for Credential {
    fn from(secret: String) -> Credential {
        Credential { secret, name: None, scope: Scope::default() }
    }
}

/// A credential that reaches all videos.
impl From<&str> for Credential {
    fn from(secret: &str) -> Credential {
        secret.to_owned().into()
    }
}

/// A scope, resolved against the roots of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    /// Sorted in the order of listings; none of them lies within another.
    Subtrees(Vec<Subtree>),
}

/// The name of a video that the principal may open, whether it exists or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct PermittedName<'a>(&'a str);

impl<'a> PermittedName<'a> {
    pub(super) fn name(self) -> &'a str {
        self.0
    }
}

impl Reach {
    /// The reach of a scope in these roots.
    ///
    /// # Errors
    /// One line with the root or prefix that does not exist.
    pub(super) fn new(scope: &Scope, roots: &Roots) -> Result<Reach, String> {
        if scope.is_all() {
            return Ok(Reach::All);
        }
        let mut subtrees = Vec::new();
        for root in &scope.roots {
            if !roots.has_root(root) {
                return Err(format!("a token or key is limited to the root {root:?}, which does not exist"));
            }
            subtrees.push(Subtree { root: root.clone(), path: String::new() });
        }
        for prefix in &scope.prefixes {
            let none = || format!("a token or key is limited to {prefix:?}, which no video's name begins with");
            subtrees.push(roots.subtree(prefix.strip_suffix('/').unwrap_or(prefix)).ok_or_else(none)?);
        }
        subtrees.sort();
        // A subtree within another one sorts after it, but not always next to it.
        let mut reach: Vec<Subtree> = Vec::new();
        for one in subtrees {
            if !reach.iter().any(|wider| wider.contains(&one.root, &one.path)) {
                reach.push(one);
            }
        }
        Ok(Reach::Subtrees(reach))
    }

    /// Permits a name that is within reach.
    ///
    /// # Errors
    /// The same refusal for all other names: of existing and missing videos, and invalid ones.
    pub(super) fn permit<'a>(&self, roots: &Roots, video: &'a str) -> Result<PermittedName<'a>, Problem> {
        let Reach::Subtrees(reach) = self else { return Ok(PermittedName(video)) };
        let subtree = roots.subtree(video).filter(|place| !place.path.is_empty());
        let is_reached = subtree.is_some_and(|place| reach.iter().any(|one| one.contains(&place.root, &place.path)));
        if is_reached { Ok(PermittedName(video)) } else { Err(Problem::out_of_reach()) }
    }

    /// Whether all videos are within reach.
    pub(super) fn is_all(&self) -> bool {
        *self == Reach::All
    }
}

#[cfg(test)]
mod tests {
    use super::super::roots::{RootSpec, Roots};
    use super::{Reach, Scope};

    fn roots(names: &[&str]) -> Roots {
        let folder = std::env::temp_dir().to_string_lossy().into_owned();
        let spec = |name: &&str| match *name {
            "" => RootSpec::unnamed(&folder),
            name => RootSpec::parse(&format!("{name}={folder}")).unwrap(),
        };
        Roots::new(names.iter().map(spec).collect()).unwrap()
    }

    fn scope(roots: &[&str], prefixes: &[&str]) -> Scope {
        let owned = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
        Scope { roots: owned(roots), prefixes: owned(prefixes) }
    }

    #[test]
    fn a_prefix_is_whole_segments_of_one_root() {
        let roots = roots(&["", "films", "films-2"]);
        for prefixes in [["films/a", "b/c.mp4"], ["films/a/", "b/c.mp4/"]] {
            let reach = Reach::new(&scope(&["films-2"], &prefixes), &roots).unwrap();
            for name in ["films/a/x.mp4", "films/a/b/x.mp4", "films/a", "films-2/x", "b/c.mp4", "films/a/%2e%2e/x"] {
                assert!(reach.permit(&roots, name).is_ok(), "{name}");
            }
            let outside = [
                "films/ab/x.mp4",
                "films/A/x.mp4",
                "films/a.mp4",
                "films/x.mp4",
                "films",
                "films/",
                "films/a/",
                "films-2",
                "films-2/",
                "films-20/x",
                "a/x.mp4",
                "b/c.mp4.mkv",
                "b",
                "x.mp4",
                "films/a/../b/x.mp4",
                "films/a/./x",
                "films//a/x",
                "/films/a/x",
                "./films/a/x",
                "films/a\\..\\b/x",
                "films/a/x\0",
                "",
                "/",
                "FILMS/a/x",
                "films/a /x",
            ];
            for name in outside {
                assert_eq!(reach.permit(&roots, name).unwrap_err().status, 403, "{name:?}");
            }
        }
        assert!(Reach::new(&scope(&[""], &[]), &roots).unwrap().permit(&roots, "a/x").is_ok());
        assert!(Reach::new(&scope(&[""], &[]), &roots).unwrap().permit(&roots, "films/x").is_err());
    }

    #[test]
    fn a_scope_without_its_root_is_an_error() {
        let roots = roots(&["films"]);
        for wrong in [scope(&["film"], &[]), scope(&[""], &[]), scope(&[], &["other/a"]), scope(&[], &["films/../a"])] {
            assert!(Reach::new(&wrong, &roots).is_err(), "{wrong:?}");
        }
        for wrong in ["", "/", "films//a", "films/a//"] {
            assert!(Reach::new(&scope(&[], &[wrong]), &roots).is_err(), "{wrong:?}");
        }
        // A root's name is a valid prefix, and a subtree within another one adds nothing.
        let Reach::Subtrees(reach) = Reach::new(&scope(&[], &["films/b", "films/b/c", "films/"]), &roots).unwrap()
        else {
            panic!("not everything")
        };
        assert_eq!((reach.len(), &reach[0].root[..], &reach[0].path[..]), (1, "films", ""));
    }
}
