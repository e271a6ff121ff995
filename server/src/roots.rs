//! Roots: folders, web servers and stores with videos, named by the operator, and the mapping of names to videos.
//!
//! The name of a video is `root/path`. Responses never contain the folder, the bucket or the server behind a root. An
//! unnamed root has the paths whose first segment is the name of no other root. No name reaches anything outside of the
//! roots: `name` defines valid names, `folder` lets the system resolve paths beneath a folder, `web` and `store` escape
//! names in addresses. `spec` parses the operator's roots, `list` lists the videos of all roots in one order, `bundled`
//! has clips for servers without videos.
//!
//! All functions block, and must not run on threads of the async runtime.

mod bundled;
mod folder;
mod list;
mod name;
mod spec;
#[cfg(feature = "stores")]
mod store;
mod walk;
mod web;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) use list::Subtree;
pub use list::{ListedVideo, Listing};
pub use spec::RootSpec;

use bucket_streamer::error::{Error, ErrorKind, Result};
use bucket_streamer::source::Source;
use bucket_streamer::source::remote::HttpClient;
#[cfg(feature = "stores")]
use bucket_streamer::source::remote::StoreClient;
use folder::FolderRoot;
use web::WebRoot;

/// The roots of a server, and the HTTP and store clients that fetch from them. Threads can share it.
#[derive(Debug)]
pub struct Roots {
    /// Sorted by their names, which are unique.
    roots: Vec<Root>,
    clients: SourceClients,
    revalidate_after: Duration,
}

/// The default of [`Roots::revalidate_after()`].
const REVALIDATE_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Root {
    /// Empty for the unnamed root.
    name: String,
    backend: RootBackend,
}

/// The location of a root's videos.
#[derive(Debug)]
enum RootBackend {
    Folder(FolderRoot),
    Web(WebRoot),
    #[cfg(feature = "stores")]
    Store(store::StoreRoot),
    /// Clips in the program.
    Bundled,
}

/// The clients for web servers and stores; by default those that the process shares.
#[derive(Debug, Default)]
struct SourceClients {
    http: Option<HttpClient>,
    #[cfg(feature = "stores")]
    stores: Option<StoreClient>,
}

impl Roots {
    /// Creates the roots. Folders must exist; servers and stores get no requests yet.
    ///
    /// # Errors
    /// One line that names the root and the reason: two roots of the same name, a folder that does not exist, an
    /// address that is not valid or that this build cannot read from.
    pub fn new(specs: Vec<RootSpec>) -> std::result::Result<Roots, String> {
        let mut roots = specs.into_iter().map(Root::new).collect::<std::result::Result<Vec<Root>, String>>()?;
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = roots.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(match &pair[0].name[..] {
                "" => "only one root may be unnamed".to_owned(),
                name => format!("there are two roots {name}: each needs a name of its own"),
            });
        }
        Ok(Roots { roots, clients: SourceClients::default(), revalidate_after: REVALIDATE_AFTER })
    }

    /// A few small clips that are part of the program, in an unnamed root.
    pub fn bundled() -> Roots {
        let root = Root { name: String::new(), backend: RootBackend::Bundled };
        Roots { roots: vec![root], clients: SourceClients::default(), revalidate_after: REVALIDATE_AFTER }
    }

    /// Sets the client for web servers; by default it is the one that the process shares. A server for untrusted
    /// clients should use one without
    /// [`private_redirects`](bucket_streamer::source::remote::HttpOptions::private_redirects).
    #[must_use]
    pub fn with_http(mut self, client: HttpClient) -> Roots {
        self.clients.http = Some(client);
        self
    }

    /// Sets the client for object stores; by default it is the one that the process shares.
    #[cfg(feature = "stores")]
    #[must_use]
    pub fn with_stores(mut self, client: StoreClient) -> Roots {
        self.clients.stores = Some(client);
        self
    }

    /// Sets the time for which a video behind a network is assumed to be unchanged, before a request to its server
    /// revalidates it; by default ten seconds. Local files are checked at each request.
    #[must_use]
    pub fn revalidate_after(mut self, time: Duration) -> Roots {
        self.revalidate_after = time;
        self
    }

    /// Whether the last validation of a source is older than [`Roots::revalidate_after()`] allows.
    pub(super) fn needs_revalidation(&self, source: &dyn Source) -> bool {
        source.validated_at().is_some_and(|last| last.elapsed() >= self.revalidate_after)
    }

    /// Whether `path` is a folder with at least one video beneath it, at any depth up to the limit of listings.
    pub fn has_videos(path: impl AsRef<Path>) -> bool {
        FolderRoot::new(path.as_ref()).is_ok_and(|folder| folder.has_videos())
    }

    /// Opens the source of a video. `video` is its name, already percent-decoded. Every call resolves the name anew, so
    /// that a new mount at the folder's path takes effect. The source of a local file detects when its name leads to
    /// another file.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchVideo`] if the name is invalid, if no regular file has it, or if it leads out of the root;
    /// [`ErrorKind::Remote`] if a server or a store refuses the request; [`ErrorKind::Read`] if the system does. No
    /// error contains the location behind a root.
    pub fn open(&self, video: &str) -> Result<Arc<dyn Source>> {
        let located = Some(video).filter(|video| name::is_name(video)).and_then(|video| self.find(video));
        let Some((root, path)) = located else { return Err(no_such_video(name::printable(video))) };
        match &root.backend {
            RootBackend::Folder(folder) => Ok(Arc::new(folder.open(path, video)?)),
            RootBackend::Web(web) => Ok(Arc::new(web.open(self.clients.http()?, path, video)?)),
            #[cfg(feature = "stores")]
            RootBackend::Store(store) => Ok(Arc::new(store.open(&self.clients.stores()?, path, video)?)),
            RootBackend::Bundled => Ok(Arc::new(bundled::open(path).ok_or_else(|| no_such_video(video))?)),
        }
    }

    /// The names of roots whose folders cannot be read now; an unnamed root is the empty string.
    pub fn missing(&self) -> Vec<&str> {
        let is_unreadable =
            |root: &&Root| matches!(&root.backend, RootBackend::Folder(folder) if !folder.is_readable());
        self.roots.iter().filter(is_unreadable).map(|root| &root.name[..]).collect()
    }

    /// The number of roots behind a network: web servers and stores.
    pub(super) fn remote_count(&self) -> usize {
        self.roots.iter().filter(|root| root.is_remote()).count()
    }

    /// Bytes in memory that were fetched over networks.
    pub fn held_bytes(&self) -> u64 {
        // Without a root behind a network, the shared client need not be created.
        if self.remote_count() == 0 {
            return 0;
        }
        self.clients.http().map_or(0, |client| client.held_bytes())
    }

    /// Whether there is a root of that name.
    pub(super) fn has_root(&self, name: &str) -> bool {
        self.root_named(name).is_some()
    }

    /// The subtree of a video, folder or root by its name; `None` for an invalid name, or for one in no root.
    pub(super) fn subtree(&self, name: &str) -> Option<Subtree> {
        if !name::is_name(name) {
            return None;
        }
        let root = Subtree { root: name.to_owned(), path: String::new() };
        if self.has_root(name) {
            return Some(root);
        }
        self.find(name).map(|(root, path)| Subtree { root: root.name.clone(), path: path.to_owned() })
    }

    /// The number of a video's root among all roots; one past the last for a name in no root.
    pub(super) fn root_number(&self, video: &str) -> usize {
        let root = self.find(video).map(|(root, _)| root);
        let number = root.and_then(|root| self.roots.iter().position(|other| std::ptr::eq(other, root)));
        number.unwrap_or(self.roots.len())
    }

    /// Whether root number `root` lies behind a network.
    pub(super) fn is_remote(&self, root: usize) -> bool {
        self.roots.get(root).is_some_and(|root| !matches!(root.backend, RootBackend::Folder(_) | RootBackend::Bundled))
    }

    /// The number of roots.
    pub(super) fn count(&self) -> usize {
        self.roots.len()
    }

    fn root_named(&self, name: &str) -> Option<&Root> {
        self.roots.binary_search_by(|root| root.name[..].cmp(name)).ok().map(|position| &self.roots[position])
    }

    /// The root of a video, and its path in the root.
    fn find<'a>(&self, video: &'a str) -> Option<(&Root, &'a str)> {
        let (first, rest) = video.split_once('/').unwrap_or((video, ""));
        match self.root_named(first) {
            Some(root) => Some((root, rest)).filter(|(_, path)| !path.is_empty()),
            None => Some((self.root_named("")?, video)),
        }
    }
}

impl Root {
    fn new(spec: RootSpec) -> std::result::Result<Root, String> {
        let backend = RootBackend::new(&spec.location).map_err(|why| match &spec.name[..] {
            "" => format!("the root cannot be used: {why}"),
            name => format!("the root {name} cannot be used: {why}"),
        })?;
        Ok(Root { name: spec.name, backend })
    }

    fn is_remote(&self) -> bool {
        !matches!(self.backend, RootBackend::Folder(_) | RootBackend::Bundled)
    }

    /// The name of a video of this root, as clients see it.
    fn public_name(&self, path: &str) -> String {
        if self.name.is_empty() { path.to_owned() } else { format!("{}/{path}", self.name) }
    }
}

impl RootBackend {
    fn new(location: &str) -> std::result::Result<RootBackend, String> {
        let folder = |path: &str| FolderRoot::new(Path::new(path)).map(RootBackend::Folder);
        match location.split_once("://").filter(|(scheme, _)| scheme.len() > 1) {
            None => folder(location),
            Some(("file", path)) => folder(path),
            Some((scheme, _)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                WebRoot::new(location).map(RootBackend::Web)
            }
            #[cfg(feature = "stores")]
            Some((scheme, _)) if StoreClient::knows(scheme) => store::StoreRoot::new(location).map(RootBackend::Store),
            Some((scheme, _)) => Err(ErrorKind::UnsupportedScheme(scheme.to_owned()).to_string()),
        }
    }
}

impl SourceClients {
    fn http(&self) -> Result<HttpClient> {
        self.http.clone().map_or_else(HttpClient::shared, Ok)
    }

    #[cfg(feature = "stores")]
    fn stores(&self) -> Result<StoreClient> {
        self.stores.clone().map_or_else(StoreClient::shared, Ok)
    }
}

fn no_such_video(video: &str) -> Error {
    Error::from(ErrorKind::NoSuchVideo).of(video)
}
