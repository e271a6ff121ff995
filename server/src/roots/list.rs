//! Lists the videos of all roots in pages, sorted by the root's name and then by the bytes of the path. The next page
//! begins after the last name of the page before, so that added and removed videos do not shift others between pages.

use super::walk::PathQuery;
use super::{Root, RootBackend, Roots, SourceClients, bundled, name};

/// The most videos of one page.
const LONGEST: usize = 10_000;

/// A page of videos, from [`Roots::list`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The videos, sorted by root and path.
    pub videos: Vec<ListedVideo>,
    /// The value of `after` for the next page, if there may be one: usually the last video's name. A page with fewer
    /// videos than the limit, or with none, need not be the last one.
    pub next: Option<String>,
    /// Names of roots whose videos belong to this page and cannot be listed, each with the reason in one line.
    pub unlisted: Vec<(String, String)>,
}

/// A video in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVideo {
    /// The name, as [`Roots::open`] takes it.
    pub name: String,
    /// The length in bytes, if known.
    pub size_bytes: Option<u64>,
}

/// The part of a page from one root: sorted paths with lengths in bytes.
#[derive(Debug, Default)]
pub(super) struct RootPage {
    pub(super) videos: Vec<(String, Option<u64>)>,
    /// The search ended early at this path; further paths were not searched.
    pub(super) searched_until: Option<String>,
}

/// A part of a root: the content of a folder, or a video. Its `Ord` is the order of listings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subtree {
    /// The name of the root.
    pub(crate) root: String,
    /// The path in the root, without a slash at the end; empty for the whole root.
    pub(crate) path: String,
}

impl Subtree {
    /// Whether the path in the root belongs to this part.
    pub(crate) fn contains(&self, root: &str, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path[..]);
        self.root == root && (self.path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The ranges of its paths in listings: the video with this path, and the paths beneath a folder with this path.
    fn ranges(&self) -> Vec<PathRange<'_>> {
        let root = &self.root[..];
        let range = |prefix: String, is_one| PathRange { root, prefix, is_one };
        match &self.path[..] {
            "" => vec![range(String::new(), false)],
            path if name::is_video(path) => vec![range(path.to_owned(), true), range(format!("{path}/"), false)],
            path => vec![range(format!("{path}/"), false)],
        }
    }
}

/// Consecutive paths of one root.
struct PathRange<'a> {
    root: &'a str,
    prefix: String,
    /// The range has only the path that equals the prefix.
    is_one: bool,
}

impl Roots {
    /// At most `limit` videos (clamped to 1 to 10 000) whose names come after `after` and begin with `prefix`. A root
    /// that cannot be listed does not fail the listing: it is in [`Listing::unlisted`].
    pub fn list(&self, after: Option<&str>, limit: usize, prefix: Option<&str>) -> Listing {
        let all = self.roots.iter().map(|root| PathRange { root: &root.name, prefix: String::new(), is_one: false });
        self.list_ranges(&all.collect::<Vec<_>>(), after, limit, prefix)
    }

    /// The same for videos within these subtrees only. No subtree may lie within another.
    pub(crate) fn list_subtrees(
        &self,
        subtrees: &[Subtree],
        after: Option<&str>,
        limit: usize,
        prefix: Option<&str>,
    ) -> Listing {
        let mut ranges: Vec<PathRange<'_>> = subtrees.iter().flat_map(Subtree::ranges).collect();
        ranges.sort_by(|one, other| (one.root, &one.prefix).cmp(&(other.root, &other.prefix)));
        self.list_ranges(&ranges, after, limit, prefix)
    }

    fn list_ranges(
        &self,
        ranges: &[PathRange<'_>],
        after: Option<&str>,
        limit: usize,
        prefix: Option<&str>,
    ) -> Listing {
        let limit = limit.clamp(1, LONGEST);
        let after = after.map(|after| self.position_of(after));
        let mut listing = Listing::default();
        for range in ranges {
            let Some(root) = self.root_named(range.root) else { continue };
            let after = match after {
                Some((name, _)) if root.name[..] < *name => continue,
                Some((name, path)) if root.name == name => Some(path),
                _ => None,
            };
            let prefix = root.prefix_within(prefix.unwrap_or_default());
            let Some(prefix) = prefix.and_then(|prefix| range.narrowed(prefix)) else { continue };
            // One more than the limit shows whether there is a next page.
            let room = if range.is_one { 1 } else { limit + 1 - listing.videos.len() };
            let shadows = |first: &str| root.name.is_empty() && self.root_named(first).is_some();
            let query = PathQuery { after, prefix, limit: room, is_any: false, leave_out: &shadows };
            match root.list(&self.clients, query) {
                Err(why) => {
                    if listing.unlisted.iter().all(|(name, _)| *name != root.name) {
                        listing.unlisted.push((root.name.clone(), why));
                    }
                }
                Ok(page) => {
                    let videos = page.videos.into_iter().filter(|(path, _)| !range.is_one || *path == range.prefix);
                    let listed =
                        |(path, size_bytes): (String, _)| ListedVideo { name: root.public_name(&path), size_bytes };
                    listing.videos.extend(videos.map(listed));
                    let searched_until = page.searched_until.filter(|_| !range.is_one);
                    listing.next = searched_until.map(|path| format!("{}/{path}", root.name));
                }
            }
            if listing.videos.len() > limit {
                listing.videos.truncate(limit);
                listing.next = listing.videos.last().map(|last| last.name.clone());
            }
            if listing.next.is_some() {
                break;
            }
        }
        listing
    }

    /// The position of a page's end: the name of a root, and a path. A name that begins with a slash is not a video's
    /// name: it is a position in the unnamed root, independent of other roots' names.
    fn position_of<'a>(&self, after: &'a str) -> (&'a str, &'a str) {
        let (first, rest) = after.split_once('/').unwrap_or((after, ""));
        match self.root_named(first).is_some() || self.root_named("").is_none() {
            true => (first, rest),
            false => ("", after),
        }
    }
}

impl PathRange<'_> {
    /// The prefix of the paths that also begin with `prefix`: the longer one of both, if it begins with the other.
    fn narrowed<'a>(&'a self, prefix: &'a str) -> Option<&'a str> {
        match (self.prefix.starts_with(prefix), prefix.starts_with(&self.prefix[..])) {
            (true, _) => Some(&self.prefix),
            (_, true) if !self.is_one => Some(prefix),
            _ => None,
        }
    }
}

impl Root {
    /// The prefix of paths in this root for names with the given prefix; `None` if no name can have it.
    fn prefix_within<'a>(&self, prefix: &'a str) -> Option<&'a str> {
        if self.name.is_empty() {
            return Some(prefix);
        }
        let own = format!("{}/", self.name);
        prefix.strip_prefix(&own[..]).or_else(|| own.starts_with(prefix).then_some(""))
    }

    fn list(&self, clients: &SourceClients, query: PathQuery<'_>) -> Result<RootPage, String> {
        let _ = clients;
        match &self.backend {
            RootBackend::Folder(folder) => Ok(RootPage { videos: folder.list(query)?, searched_until: None }),
            RootBackend::Web(_) => Err("web servers cannot be listed".to_owned()),
            #[cfg(feature = "stores")]
            RootBackend::Store(store) => store.list(&clients.stores().map_err(|error| error.message())?, query),
            RootBackend::Bundled => {
                let is_match = |path: &str| {
                    let is_later = query.after.is_none_or(|after| after < path);
                    is_later && path.starts_with(query.prefix) && name::is_video(path)
                };
                let clips = bundled::CLIPS.iter().filter(|(path, _)| is_match(path)).take(query.limit);
                let videos = clips.map(|(path, bytes)| ((*path).to_owned(), Some(bytes.len() as u64))).collect();
                Ok(RootPage { videos, searched_until: None })
            }
        }
    }
}
