//! Documents name only existing files: relative links of every Markdown file with their anchors, and paths in
//! backticks.
//!
//! A span in backticks counts as a path of the repository if it has a slash, ends in a slash or in a known extension,
//! and has no character that no path of the repository has. Paths are relative to the root or to the folder of the
//! document. Blocks of code do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders without documents of this repository.
const SKIPPED: [&str; 3] = [".git", "node_modules", "target"];
/// A path in backticks ends in one of these, or in a slash.
const EXTENSIONS: [&str; 20] = [
    "c", "cu", "h", "html", "jpg", "js", "json", "lock", "md", "mp4", "ptx", "py", "rs", "sh", "svg", "toml", "ts",
    "txt", "yaml", "yml",
];
/// Paths in documents that are not in the repository: examples, and outputs of scripts.
const ELSEWHERE: [&str; 5] = ["DIR/frame-000120.jpg", "a/b.mp4", "bucket/", "docs/nvdec-performance.md", "videos/"];

#[test]
fn documents_name_only_existing_files() {
    let repository = Repository::read();
    let mut problems = Vec::new();
    for document in &repository.documents {
        problems.extend(repository.problems(document));
    }
    assert!(!repository.documents.is_empty(), "there are no documents");
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn the_map_is_short() {
    let words = read(Path::new("ARCHITECTURE.md")).split_whitespace().count();
    assert!(words <= 1800, "ARCHITECTURE.md has {words} words: details belong on a page in docs/");
}

#[test]
fn the_tests_of_invariants_exist() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let section = text.split("\n## ").find(|section| section.starts_with("What must always hold")).expect("a section");
    let spans = section.split('`').skip(1).step_by(2);
    let is_name = |span: &&str| span.contains('_') && span.chars().all(|sign| sign.is_ascii_lowercase() || sign == '_');
    let names: BTreeSet<&str> = spans.filter(is_name).filter(|name| *name != "undocumented_unsafe_blocks").collect();
    let mut sources = String::new();
    for folder in ["engine/tests", "engine/src", "server/tests", "tests", "testing/guest/tests"] {
        sources += &rust_below(Path::new(folder));
    }
    let missing: Vec<_> = names.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(names.len() > 10 && missing.is_empty(), "ARCHITECTURE.md names tests that do not exist: {missing:?}");
}

/// The text of all Rust files below a folder.
fn rust_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder of the repository").flatten() {
        let path = folder.join(entry.file_name());
        if entry.file_type().expect("its kind").is_dir() {
            text += &rust_below(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &read(&path);
        }
    }
    text
}

#[test]
fn links_paths_and_anchors_are_read() {
    let text = "# A *title*, `code` & more\n\
        See [one](a.md), [two `x](no.md)`](b.md#c) and `d/e.rs`, `a b/c.rs`, `f/`.\n\
        A span `that goes\non` and `g/h.c`.\n\
        ```\n[no](no.md) `no/no.rs`\n```\n\
        \n    [no](no.md) `no/no.rs`\n\
        ## Twice\n## Twice\n";
    let document = Document::parse(PathBuf::from("docs/x.md"), text);
    let links: Vec<_> = document.links.iter().map(|(line, target)| (*line, target.as_str())).collect();
    assert_eq!(links, [(2, "a.md"), (2, "b.md#c")]);
    let paths = document.spans.iter().filter(|(_, span)| is_path(span));
    let paths: Vec<_> = paths.map(|(line, path)| (*line, path.as_str())).collect();
    assert_eq!(paths, [(2, "d/e.rs"), (2, "f/"), (4, "g/h.c")]);
    let anchors: Vec<_> = document.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["a-title-code--more", "twice", "twice-1"]);
}

#[test]
fn paths_are_distinguished_from_other_words() {
    for path in ["engine/src/", "engine/src/lib.rs", "../README.md", ".ci/x.sh"] {
        assert!(is_path(path), "{path}");
    }
    for other in ["lib.rs", "m/s", "/frame/a.mp4", "s3://a/b.mp4", "a/*.rs", "--x/y.rs", "text/html", "a/b c.rs"] {
        assert!(!is_path(other), "{other}");
    }
}

/// The documents, and the ignored paths.
struct Repository {
    documents: Vec<Document>,
    ignored: BTreeSet<PathBuf>,
}

impl Repository {
    fn read() -> Repository {
        let ignored = read(Path::new(".gitignore"));
        let ignored: BTreeSet<PathBuf> = ignored
            .lines()
            .map(|line| line.trim().trim_matches('/'))
            .filter(|line| !line.is_empty())
            .map(PathBuf::from)
            .collect();
        let mut documents = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let place = root().join(&below);
            for entry in fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())).flatten() {
                let path = below.join(entry.file_name());
                let kind = entry.file_type().expect("its kind");
                let is_skipped = SKIPPED.iter().any(|name| entry.file_name() == *name) || ignored.contains(&path);
                if kind.is_dir() && !is_skipped {
                    folders.push(path);
                } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
                    let text = read(&path);
                    documents.push(Document::parse(path, &text));
                }
            }
        }
        documents.sort_by(|one, other| one.path.cmp(&other.path));
        Repository { documents, ignored }
    }

    /// The links and paths of a document without a target.
    fn problems(&self, document: &Document) -> Vec<String> {
        let name = document.path.display();
        let mut problems = Vec::new();
        for (line, target) in &document.links {
            if let Some(problem) = self.problem_of_link(document, target) {
                problems.push(format!("{name}:{line}: the link {target}: {problem}"));
            }
        }
        for (line, path) in document.spans.iter().filter(|(_, span)| is_path(span)) {
            let is_known = ELSEWHERE.contains(&path.as_str())
                || self.is_there(Path::new(path))
                || self.is_there(&document.folder().join(path));
            if !is_known {
                problems.push(format!("{name}:{line}: there is no `{path}`"));
            }
        }
        problems
    }

    fn problem_of_link(&self, document: &Document, target: &str) -> Option<String> {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let to = if path.is_empty() { document.path.clone() } else { document.folder().join(path) };
        let Some(to) = plain(&to) else { return Some("it leaves the repository".to_owned()) };
        if !root().join(&to).exists() {
            return Some(format!("there is no {}", to.display()));
        }
        let other = self.documents.iter().find(|other| other.path == to)?;
        let is_there = anchor.is_empty() || other.anchors.iter().any(|it| it == anchor);
        (!is_there).then(|| format!("{} has no heading for #{anchor}", to.display()))
    }

    /// Whether a path is in the tree, or an output of builds and scripts.
    fn is_there(&self, path: &Path) -> bool {
        let Some(path) = plain(path) else { return false };
        root().join(&path).exists() || self.ignored.iter().any(|ignored| path.starts_with(ignored))
    }
}

/// A Markdown file: its links, spans and anchors, with their lines.
struct Document {
    /// The path from the root.
    path: PathBuf,
    /// Relative targets of links.
    links: Vec<(usize, String)>,
    /// Spans in backticks.
    spans: Vec<(usize, String)>,
    /// The anchors of headings, in GitHub's form.
    anchors: Vec<String>,
}

impl Document {
    fn parse(path: PathBuf, text: &str) -> Document {
        let mut document = Document { path, links: Vec::new(), spans: Vec::new(), anchors: Vec::new() };
        let (mut is_fenced, mut is_span) = (false, false);
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim_start().starts_with("```") {
                (is_fenced, is_span) = (!is_fenced, false);
                continue;
            }
            if is_fenced || text.starts_with("    ") {
                is_span = false;
                continue;
            }
            if let Some(heading) = text.strip_prefix('#') {
                document.add_anchor(heading.trim_start_matches('#').trim());
            }
            // A span may continue in the next line of a paragraph, and nowhere else.
            if text.trim().is_empty() || text.trim_start().starts_with(['|', '#', '-']) {
                is_span = false;
            }
            is_span = document.add_line(line, text, is_span);
        }
        document
    }

    /// Extracts links and spans from a line that begins within a span or not. Returns whether it ends within one.
    fn add_line(&mut self, line: usize, text: &str, begins_in_span: bool) -> bool {
        let parts: Vec<&str> = text.split('`').collect();
        let mut prose = String::new();
        let mut is_span = begins_in_span;
        for (n, part) in parts.iter().enumerate() {
            if !is_span {
                prose.push_str(part);
            } else if n > 0 && n + 1 < parts.len() {
                self.spans.push((line, (*part).to_owned()));
            }
            is_span = !is_span;
        }
        for rest in prose.split("](").skip(1) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                self.links.push((line, target.to_owned()));
            }
        }
        // `is_span` changes once more than there are backticks.
        !is_span
    }

    fn add_anchor(&mut self, heading: &str) {
        let is_kept = |sign: &char| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_');
        let name = heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-");
        let mut names = (0..).map(|n| if n == 0 { name.clone() } else { format!("{name}-{n}") });
        let free = names.find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Does this look like a path of the repository?
fn is_path(span: &str) -> bool {
    let is_of_path = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-' | '.' | '/');
    let begins = span.starts_with(|sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '.'));
    let (_, name) = span.rsplit_once('/').unwrap_or_default();
    let has_end = span.ends_with('/') || name.rsplit_once('.').is_some_and(|(_, end)| EXTENSIONS.contains(&end));
    span.contains('/') && begins && span.chars().all(is_of_path) && has_end
}

/// The path without `.` and `..`; nothing if it leads out of the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
