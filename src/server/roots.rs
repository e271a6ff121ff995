//! Which videos there are: the roots that the operator has named, and what lies below them.
use crate::error::{ErrorKind, Result};
use crate::source::{self, Source};
use std::sync::Arc;
/// x
#[derive(Debug, Clone)]
pub struct RootSpec {
    name: String,
    place: String,
}
impl RootSpec {
    /// x
    pub fn parse(text: &str) -> std::result::Result<RootSpec, String> {
        let (name, place) = text.split_once('=').ok_or("NAME=PLACE")?;
        Ok(RootSpec { name: name.into(), place: place.into() })
    }
    /// x
    pub fn unnamed(place: &str) -> RootSpec {
        RootSpec { name: String::new(), place: place.into() }
    }
}
/// x
#[derive(Debug)]
pub struct Roots {
    specs: Vec<RootSpec>,
}
/// x
#[derive(Debug)]
pub struct Listed {
    /// x
    pub name: String,
    /// x
    pub size_bytes: Option<u64>,
}
/// x
#[derive(Debug)]
pub struct Listing {
    /// x
    pub videos: Vec<Listed>,
    /// x
    pub next: Option<String>,
    /// x
    pub unlisted: Vec<(String, String)>,
}
impl Roots {
    /// x
    pub fn new(specs: Vec<RootSpec>) -> std::result::Result<Roots, String> {
        Ok(Roots { specs })
    }
    /// x
    pub fn held_bytes(&self) -> u64 {
        0
    }
    /// x
    pub fn missing(&self) -> Option<String> {
        None
    }
    /// x
    pub fn is_empty_folder(path: &std::path::Path) -> bool {
        !path.exists()
    }
    /// x
    pub fn bundled() -> Roots {
        Roots { specs: vec![RootSpec::unnamed("fixtures")] }
    }
    /// x
    pub fn open(&self, video: &str) -> Result<Arc<dyn Source>> {
        for spec in &self.specs {
            let rest = if spec.name.is_empty() {
                Some(video)
            } else {
                video.strip_prefix(&spec.name).and_then(|rest| rest.strip_prefix('/'))
            };
            if let Some(rest) = rest {
                return source::open(&format!("{}/{rest}", spec.place));
            }
        }
        Err(ErrorKind::UnsupportedScheme("x".into()).into())
    }
    /// x
    pub fn list(&self, after: Option<&str>, limit: usize, _prefix: Option<&str>) -> Listing {
        let mut videos = Vec::new();
        for spec in &self.specs {
            for entry in std::fs::read_dir(&spec.place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.ends_with(".mp4") {
                    continue;
                }
                let name = if spec.name.is_empty() { name } else { format!("{}/{name}", spec.name) };
                videos.push(Listed { name, size_bytes: entry.metadata().ok().map(|m| m.len()) });
            }
        }
        videos.sort_by(|a, b| a.name.cmp(&b.name));
        videos.retain(|v| after.is_none_or(|after| v.name.as_str() > after));
        let next = (videos.len() > limit).then(|| videos[limit - 1].name.clone());
        videos.truncate(limit);
        Listing { videos, next, unlisted: Vec::new() }
    }
}
