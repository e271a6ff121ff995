//! Roots: places with videos, named by the operator, and the mapping of names to videos.
//!
//! A video is called `root/path`, and clients learn only that: not the folder, the bucket or the server behind a root.
//! If there is an unnamed root, it has the paths whose first segment is the name of no other root. No name reaches
//! anything outside of the roots: `name` decides which names are valid, `folder` opens files beneath a folder as the
//! system resolves them, `web` and `store` build addresses in which a name has no other meaning. `spec` parses the
//! operator's roots, `list` lists the videos of all roots in one order, `bundled` has clips for servers without videos.
//!
//! All functions block: they are for threads that may block.

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

pub(super) use list::Within;
pub use list::{Listed, Listing};
pub use spec::RootSpec;

use bucket_streamer::error::{Error, ErrorKind, Result};
use bucket_streamer::source::Source;
use bucket_streamer::source::remote::HttpClient;
#[cfg(feature = "stores")]
use bucket_streamer::source::remote::StoreClient;
use folder::Folder;
use web::Web;

/// The roots, and the clients that fetch from them. Threads share it.
#[derive(Debug)]
pub struct Roots {
    /// Sorted by their names, which are unique.
    roots: Vec<Root>,
    clients: Clients,
    good_for: Duration,
}

/// The default of [`Roots::good_for`].
const GOOD_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Root {
    /// Empty for the unnamed root.
    name: String,
    place: Place,
}

/// The place of a root's videos.
#[derive(Debug)]
enum Place {
    Folder(Folder),
    Web(Web),
    #[cfg(feature = "stores")]
    Store(store::Below),
    /// Clips in the program.
    Bundled,
}

/// The clients for servers and stores; the process's own where none is set.
#[derive(Debug, Default)]
struct Clients {
    http: Option<HttpClient>,
    #[cfg(feature = "stores")]
    stores: Option<StoreClient>,
}

impl Roots {
    /// Checks the roots. Folders must exist; servers and stores get no requests yet.
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
        Ok(Roots { roots, clients: Clients::default(), good_for: GOOD_FOR })
    }

    /// A few small clips that are part of the program, in an unnamed root.
    pub fn bundled() -> Roots {
        let root = Root { name: String::new(), place: Place::Bundled };
        Roots { roots: vec![root], clients: Clients::default(), good_for: GOOD_FOR }
    }

    /// Sets the client for web servers. A server with clients of its own should use one without
    /// [`private_redirects`](bucket_streamer::source::remote::HttpOptions::private_redirects).
    #[must_use]
    pub fn with_http(mut self, client: HttpClient) -> Roots {
        self.clients.http = Some(client);
        self
    }

    /// Sets the client for stores.
    #[cfg(feature = "stores")]
    #[must_use]
    pub fn with_stores(mut self, client: StoreClient) -> Roots {
        self.clients.stores = Some(client);
        self
    }

    /// Sets the time for which a video behind a network is assumed to be unchanged, before its server is asked again;
    /// by default ten seconds. Files are checked each time.
    #[must_use]
    pub fn good_for(mut self, time: Duration) -> Roots {
        self.good_for = time;
        self
    }

    /// Whether the last confirmation that a source is unchanged is too old.
    pub(super) fn is_due(&self, source: &dyn Source) -> bool {
        source.confirmed().is_some_and(|last| last.elapsed() >= self.good_for)
    }

    /// Whether `path` is a folder with at least one video somewhere beneath it.
    pub fn has_videos(path: impl AsRef<Path>) -> bool {
        Folder::new(path.as_ref()).is_ok_and(|folder| folder.has_videos())
    }

    /// Opens a video by its name, which is percent-decoded once, before. The video is opened where it lies now: a
    /// folder that was mounted anew is seen, and the source of a file in it notices when its name leads to another
    /// file.
    ///
    /// # Errors
    /// `NoSuchVideo` if no video has that name, none can, or if it is no regular file or lies outside of the root;
    /// `Remote` where a server or a store refuses, `Read` where the system does. No error names what is behind a root.
    pub fn open(&self, video: &str) -> Result<Arc<dyn Source>> {
        let found = Some(video).filter(|video| name::is_name(video)).and_then(|video| self.find(video));
        let Some((root, path)) = found else { return Err(no_such(name::shown(video))) };
        match &root.place {
            Place::Folder(folder) => Ok(Arc::new(folder.open(path, video)?)),
            Place::Web(web) => Ok(Arc::new(web.open(self.clients.http()?, path, video)?)),
            #[cfg(feature = "stores")]
            Place::Store(store) => Ok(Arc::new(store.open(&self.clients.stores()?, path, video)?)),
            Place::Bundled => Ok(Arc::new(bundled::open(path).ok_or_else(|| no_such(video))?)),
        }
    }

    /// The names of roots whose folders cannot be read now.
    pub fn missing(&self) -> Vec<&str> {
        let is_gone = |root: &&Root| matches!(&root.place, Place::Folder(folder) if !folder.is_there());
        self.roots.iter().filter(is_gone).map(|root| &root.name[..]).collect()
    }

    /// The number of roots behind a network.
    pub(super) fn far(&self) -> usize {
        self.roots.iter().filter(|root| root.is_far()).count()
    }

    /// Bytes that were fetched over networks and are in memory.
    pub fn held_bytes(&self) -> u64 {
        // Without a root behind a network, no client need be created.
        if self.far() == 0 {
            return 0;
        }
        self.clients.http().map_or(0, |client| client.held_bytes())
    }

    /// Whether there is a root of that name.
    pub(super) fn has_root(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// The place of a video, folder or root; `None` for an invalid name, or for one in no root.
    pub(super) fn within(&self, name: &str) -> Option<Within> {
        if !name::is_name(name) {
            return None;
        }
        let root = Within { root: name.to_owned(), path: String::new() };
        if self.has_root(name) {
            return Some(root);
        }
        self.find(name).map(|(root, path)| Within { root: root.name.clone(), path: path.to_owned() })
    }

    /// The number of a video's root among all roots; one past the last for a name in no root.
    pub(super) fn root_number(&self, video: &str) -> usize {
        let root = self.find(video).map(|(root, _)| root);
        let place = root.and_then(|root| self.roots.iter().position(|other| std::ptr::eq(other, root)));
        place.unwrap_or(self.roots.len())
    }

    /// Whether root number `root` lies behind a network.
    pub(super) fn is_remote(&self, root: usize) -> bool {
        self.roots.get(root).is_some_and(|root| !matches!(root.place, Place::Folder(_) | Place::Bundled))
    }

    /// The number of roots.
    pub(super) fn count(&self) -> usize {
        self.roots.len()
    }

    fn named(&self, name: &str) -> Option<&Root> {
        self.roots.binary_search_by(|root| root.name[..].cmp(name)).ok().map(|place| &self.roots[place])
    }

    /// The root of a video, and its path in the root.
    fn find<'a>(&self, video: &'a str) -> Option<(&Root, &'a str)> {
        let (first, rest) = video.split_once('/').unwrap_or((video, ""));
        match self.named(first) {
            Some(root) => Some((root, rest)).filter(|(_, path)| !path.is_empty()),
            None => Some((self.named("")?, video)),
        }
    }
}

impl Root {
    fn new(spec: RootSpec) -> std::result::Result<Root, String> {
        let place = Place::new(&spec.place).map_err(|why| match &spec.name[..] {
            "" => format!("the root cannot be used: {why}"),
            name => format!("the root {name} cannot be used: {why}"),
        })?;
        Ok(Root { name: spec.name, place })
    }

    fn is_far(&self) -> bool {
        !matches!(self.place, Place::Folder(_) | Place::Bundled)
    }

    /// The name of a video of this root, as clients see it.
    fn public(&self, path: &str) -> String {
        if self.name.is_empty() { path.to_owned() } else { format!("{}/{path}", self.name) }
    }
}

impl Place {
    fn new(place: &str) -> std::result::Result<Place, String> {
        let folder = |path: &str| Folder::new(Path::new(path)).map(Place::Folder);
        match place.split_once("://").filter(|(scheme, _)| scheme.len() > 1) {
            None => folder(place),
            Some(("file", path)) => folder(path),
            Some((scheme, _)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                Web::new(place).map(Place::Web)
            }
            #[cfg(feature = "stores")]
            Some((scheme, _)) if StoreClient::knows(scheme) => store::Below::new(place).map(Place::Store),
            Some((scheme, _)) => Err(ErrorKind::UnsupportedScheme(scheme.to_owned()).to_string()),
        }
    }
}

impl Clients {
    fn http(&self) -> Result<HttpClient> {
        self.http.clone().map_or_else(HttpClient::shared, Ok)
    }

    #[cfg(feature = "stores")]
    fn stores(&self) -> Result<StoreClient> {
        self.stores.clone().map_or_else(StoreClient::shared, Ok)
    }
}

fn no_such(video: &str) -> Error {
    Error::from(ErrorKind::NoSuchVideo).of(video)
}
