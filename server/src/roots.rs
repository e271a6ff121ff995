//! Which videos there are: the roots that the operator has named, and what lies below them.
//!
//! A video is called `root/path`, and only that is ever told: not the folder, the bucket or the server behind a root. With a
//! root that has no name, a path whose first segment is the name of no other root lies in that. Nothing outside of the roots
//! can be reached, whatever a name says: `name` says which names can be, `folder` opens files beneath a folder as the system
//! resolves them, `web` and `store` make addresses in which a name has no meaning but its own. `spec` is what an operator
//! writes, `list` puts the videos of all roots into one order, `bundled` is what is served where there is nothing else.
//!
//! All of this blocks: it is for threads that may.

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

/// Roots, and who asks for what lies in them. Shared by threads.
#[derive(Debug)]
pub struct Roots {
    /// By their names, each once.
    roots: Vec<Root>,
    clients: Clients,
    good_for: Duration,
}

/// What lies behind a network is as it was for so long, before it is asked for again.
const GOOD_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Root {
    /// Empty for the one without.
    name: String,
    place: Place,
}

/// Where a root's videos are.
#[derive(Debug)]
enum Place {
    Folder(Folder),
    Web(Web),
    #[cfg(feature = "stores")]
    Store(store::Below),
    /// In the program.
    Bundled,
}

/// Who asks servers and stores: the process's own where nobody else was named.
#[derive(Debug, Default)]
struct Clients {
    http: Option<HttpClient>,
    #[cfg(feature = "stores")]
    stores: Option<StoreClient>,
}

impl Roots {
    /// Roots as they were named. Folders must exist; servers and stores are not asked.
    ///
    /// # Errors
    /// One line that says which root cannot be, and why: two of the same name, a folder that is none, an address that is none
    /// or that this build cannot read from.
    pub fn new(specs: Vec<RootSpec>) -> std::result::Result<Roots, String> {
        let mut roots = specs.into_iter().map(Root::new).collect::<std::result::Result<Vec<Root>, String>>()?;
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = roots.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(match &pair[0].name[..] {
                "" => "only one root may be without a name".to_owned(),
                name => format!("there are two roots {name}: each needs a name of its own"),
            });
        }
        Ok(Roots { roots, clients: Clients::default(), good_for: GOOD_FOR })
    }

    /// A few small clips that are part of the program, in a root without a name.
    pub fn bundled() -> Roots {
        let root = Root { name: String::new(), place: Place::Bundled };
        Roots { roots: vec![root], clients: Clients::default(), good_for: GOOD_FOR }
    }

    /// Servers are asked by `client`. A server that serves others should have one without
    /// [`private_redirects`](bucket_streamer::source::remote::HttpOptions::private_redirects).
    #[must_use]
    pub fn with_http(mut self, client: HttpClient) -> Roots {
        self.clients.http = Some(client);
        self
    }

    /// Stores are asked by `client`.
    #[cfg(feature = "stores")]
    #[must_use]
    pub fn with_stores(mut self, client: StoreClient) -> Roots {
        self.clients.stores = Some(client);
        self
    }

    /// For so long a video behind a network is taken to be what it was, before whoever has it is asked again; by default ten
    /// seconds. Files are looked at each time.
    #[must_use]
    pub fn good_for(mut self, time: Duration) -> Roots {
        self.good_for = time;
        self
    }

    /// Has nobody said for too long that a source is still what was opened?
    pub(super) fn is_due(&self, source: &dyn Source) -> bool {
        source.confirmed().is_some_and(|last| last.elapsed() >= self.good_for)
    }

    /// Is there a folder at `path` with at least one video somewhere beneath it?
    pub fn has_videos(path: impl AsRef<Path>) -> bool {
        Folder::new(path.as_ref()).is_ok_and(|folder| folder.has_videos())
    }

    /// Opens a video by its name, percent-decoded once, and never again here. It is read as it lies there now: a folder that
    /// was mounted anew is seen, and the source of a file in it notices when its name stands for another file.
    ///
    /// # Errors
    /// `NoSuchVideo` if nothing has that name, nothing can, or what has it is no regular file or lies outside of the root;
    /// `Remote` where a server or a store refuses, `Read` where the system does. None of them names what is behind a root.
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

    /// Which folders cannot be read now, by the names of their roots.
    pub fn missing(&self) -> Vec<&str> {
        let is_gone = |root: &&Root| matches!(&root.place, Place::Folder(folder) if !folder.is_there());
        self.roots.iter().filter(is_gone).map(|root| &root.name[..]).collect()
    }

    /// How many roots lie behind a network.
    pub(super) fn far(&self) -> usize {
        self.roots.iter().filter(|root| root.is_far()).count()
    }

    /// Bytes that came over networks and are in memory.
    pub fn held_bytes(&self) -> u64 {
        // Where nothing lies behind a network, nobody has to be made ready to ask.
        if self.far() == 0 {
            return 0;
        }
        self.clients.http().map_or(0, |client| client.held_bytes())
    }

    /// Is there a root of that name?
    pub(super) fn has_root(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// Where the video, folder or root of a name lies; `None` for what is no name, or lies in no root.
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

    /// The number of a video's root among all roots; one past the last for a name without a root.
    pub(super) fn root_number(&self, video: &str) -> usize {
        let root = self.find(video).map(|(root, _)| root);
        let place = root.and_then(|root| self.roots.iter().position(|other| std::ptr::eq(other, root)));
        place.unwrap_or(self.roots.len())
    }

    /// Does root number `root` lie behind a network?
    pub(super) fn is_remote(&self, root: usize) -> bool {
        self.roots.get(root).is_some_and(|root| !matches!(root.place, Place::Folder(_) | Place::Bundled))
    }

    /// How many roots there are.
    pub(super) fn count(&self) -> usize {
        self.roots.len()
    }

    fn named(&self, name: &str) -> Option<&Root> {
        self.roots.binary_search_by(|root| root.name[..].cmp(name)).ok().map(|place| &self.roots[place])
    }

    /// The root of a video, and its path in that.
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

    /// What a video of this root is called.
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
