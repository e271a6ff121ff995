//! Checks the layers: the dependencies between packages, and the imports between the files and folders of a package.
//! The tables in ARCHITECTURE.md and docs/layers.md ("Layers") list those that are allowed. Others fail, and so do unused
//! entries. Also limits the length of code files.
//!
//! It reads text only: the manifests, and paths with `crate::`, `super::` or `self::` in Rust files. Comments, strings
//! and code under `#[cfg(test)]` are ignored; code behind any feature counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders with a table of their files, and the root file of each.
const TREES: [(&str, &str); 8] = [
    ("engine/src", "lib.rs"),
    ("engine/src/decode", "mod.rs"),
    ("engine/src/device", "mod.rs"),
    ("engine/src/session", "mod.rs"),
    ("engine/src/session/attempt", "mod.rs"),
    ("server/src", "lib.rs"),
    ("bench/src", "lib.rs"),
    ("src", "main.rs"),
];
/// The documents with the tables, each under the heading "Layers".
const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "docs/layers.md"];
/// Programs below it are crates of their own: they use the public interface of the library.
const PROGRAMS: &str = "bin";
/// A package outside of the workspace.
const OUTSIDE: &str = "fuzz";
/// The most lines of a code file.
const MOST_LINES: usize = 600;
/// Extensions of code files; scripts that begin with `#!` count too.
const CODE: [&str; 6] = ["c", "h", "js", "py", "rs", "sh"];
/// Generated files.
const GENERATED: [&str; 2] = ["ffi/shim/gpu_jpeg_kernel.ptx.h", "ffi/src/bindings.rs"];

#[test]
fn packages_use_what_the_table_allows() {
    let table = Table::read("Packages");
    let mut problems = table.problems.clone();
    let manifest = text("Cargo.toml");
    let shared = dependencies(&manifest, "workspace.dependencies");
    let folders: BTreeMap<&str, &str> =
        shared.iter().filter_map(|(name, value)| Some((name.as_str(), quoted(value, "path")?))).collect();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("a list of members");
    let packages: BTreeSet<&str> = members.split('"').skip(1).step_by(2).chain([OUTSIDE]).collect();
    problems.extend(table.compare(&packages));
    for package in &packages {
        let file = format!("{package}/Cargo.toml").replace("./", "");
        let manifest = text(&file);
        let of = |sections: &[&str]| -> Vec<Use> {
            let found = sections.iter().flat_map(|section| dependencies(&manifest, section));
            let folder = |(name, value): (String, String)| match quoted(&value, "path") {
                Some(path) => Some(path.trim_start_matches("../").to_owned()),
                None => folders.get(name.as_str()).map(|&folder| folder.to_owned()),
            };
            found.filter_map(folder).map(|to| Use { to, at: file.clone() }).collect()
        };
        problems.extend(table.check(package, 0, &of(&["dependencies", "build-dependencies"])));
        problems.extend(table.check(package, 1, &of(&["dev-dependencies"])));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn files_import_what_the_tables_allow() {
    let mut problems = Vec::new();
    for (tree, root) in TREES {
        let table = Table::read(tree);
        problems.extend(table.problems.clone());
        let own = Tree::read(Path::new(tree), root);
        let units: BTreeSet<&str> = own.files.iter().filter_map(File::unit).collect();
        problems.extend(table.compare(&units));
        let (imports, wrong) = own.imports(&units);
        problems.extend(wrong);
        for unit in &units {
            problems.extend(table.check(unit, 0, imports.get(unit).map_or(&[], Vec::as_slice)));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn files_of_code_have_at_most_600_lines() {
    let ignored = text(".gitignore");
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut long = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder().join(&below)).expect("a folder of the repository").flatten() {
            let path = below.join(entry.file_name());
            let name = path.to_string_lossy().into_owned();
            if name == ".git" || ignored.contains(&name[..]) || GENERATED.contains(&&name[..]) {
                continue;
            }
            let kind = entry.file_type().expect("its kind");
            if kind.is_dir() {
                folders.push(path);
            } else if let Some(lines) = lines_of_code(&path).filter(|&lines| kind.is_file() && lines > MOST_LINES) {
                long.push(format!("{name} has {lines} lines: split it along what it is about"));
            }
        }
    }
    long.sort();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

/// The number of lines of a file, if it is code.
fn lines_of_code(path: &Path) -> Option<usize> {
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    if extension.as_ref().is_some_and(|extension| !CODE.contains(&&extension[..])) {
        return None;
    }
    let bytes = fs::read(folder().join(path)).ok()?;
    let is_code = extension.is_some() || bytes.starts_with(b"#!");
    is_code.then(|| bytes.iter().filter(|&&byte| byte == b'\n').count())
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let source = r##"
        //! crate::comment
        /* crate::block /* crate::nested */ */
        use crate::{alpha, beta::{self, Gamma as Delta}, epsilon::*};
        use super::{super::zeta::Eta, theta};
        pub(crate) use self::inside::Iota;
        fn kappa<'a>(text: &'a str) -> crate::lambda::Mu<'a> {
            let (_, _, _) = ('"', '\'', "crate::string \" crate::still");
            let _ = r#"crate::raw " "#;
            crate::nu(super::xi::<u8>())
        }
        mod inline { use super::omicron; }
        #[cfg(test)]
        use crate::{for_tests, only};
        #[cfg(all(test, feature = "server"))]
        mod tests { use crate::more; fn nested() { { crate::yet_more() } } }
        #[cfg(test)]
        mod elsewhere;
        #[cfg(feature = "remote")]
        fn last() { crate::last::of_all() }
    "##;
    let file = File::parse(Path::new("a.rs"), vec!["one".into(), "two".into()], source);
    let found: Vec<String> = file.paths.iter().map(|path| path.segments.join("::")).collect();
    let wanted = [
        ("alpha", 4),
        ("beta", 4),
        ("beta::Gamma", 4),
        ("epsilon", 4),
        ("zeta::Eta", 5),
        ("one::theta", 5),
        ("one::two::inside::Iota", 6),
        ("lambda::Mu", 7),
        ("nu", 10),
        ("one::xi", 10),
        ("one::two::omicron", 12),
        ("last::of_all", 20),
    ];
    assert_eq!(found, wanted.map(|(path, _)| path));
    assert_eq!(file.paths.iter().map(|path| path.line).collect::<Vec<_>>(), wanted.map(|(_, line)| line));
    assert_eq!(file.paths[2].name, "Delta");
    assert_eq!(file.test_modules, [["one", "two", "elsewhere"]]);
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A use of another unit, with its place.
struct Use {
    to: String,
    at: String,
}

/// A table of layers: rows stand above those that use them, so that there is no cycle.
struct Table {
    document: &'static str,
    title: String,
    /// In order: the line, the name, and the names in each further cell.
    rows: Vec<(usize, String, Vec<Vec<String>>)>,
    problems: Vec<String>,
}

impl Table {
    /// The table under the heading with this title, in one of the documents.
    fn read(title: &str) -> Table {
        let tables = DOCUMENTS.iter().filter_map(|document| Table::find(document, title));
        let mut tables: Vec<Table> = tables.collect();
        assert_eq!(tables.len(), 1, "tables of {title} under Layers in {}", DOCUMENTS.join(" and "));
        tables.remove(0)
    }

    fn find(document: &'static str, title: &str) -> Option<Table> {
        let text = text(document);
        let lines = text.lines().enumerate().skip_while(|(_, line)| *line != "## Layers").skip(1);
        let section = lines.take_while(|(_, line)| !line.starts_with("## "));
        let own =
            section.skip_while(|(_, line)| line.strip_prefix("### ").is_none_or(|it| it.replace('`', "") != title));
        let body = own.skip(1).take_while(|(_, line)| !line.starts_with("### "));
        let rows: Vec<_> = body.filter(|(_, line)| line.starts_with("| `")).collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let row = |(line, row): (usize, &str)| {
            let mut cells = row.trim_matches('|').split('|').map(names);
            let name = cells.next().into_iter().flatten().next().expect("rows begin with a name");
            (line + 1, name, cells.collect())
        };
        let rows: Vec<_> = rows.into_iter().map(row).collect();
        let mut table = Table { document, title: title.to_owned(), rows, problems: Vec::new() };
        table.problems = table.unordered();
        (!table.rows.is_empty()).then_some(table)
    }

    /// Uses of rows that do not stand above: cycles, or the wrong order.
    fn unordered(&self) -> Vec<String> {
        let (mut above, mut problems, document) = (BTreeSet::new(), Vec::new(), self.document);
        for (line, name, cells) in &self.rows {
            for other in cells.first().into_iter().flatten().filter(|other| !above.contains(other)) {
                problems.push(format!(
                    "{document}:{line}: `{name}` uses `{other}`, which does not stand above it: a cycle, or the wrong order"
                ));
            }
            above.insert(name);
        }
        problems
    }

    /// Compares the names of the rows with the existing ones.
    fn compare(&self, there: &BTreeSet<&str>) -> Vec<String> {
        let Table { document, title, .. } = self;
        let listed: BTreeSet<&str> = self.rows.iter().map(|(_, name, _)| name.as_str()).collect();
        let missing = there.difference(&listed).map(|name| format!("{document}: {title}: `{name}` has no row"));
        let gone = listed.difference(there).map(|name| format!("{document}: {title}: there is no `{name}`"));
        missing.chain(gone).collect()
    }

    /// Checks that each use is allowed by this cell of the row, and that all entries of the cell are used.
    fn check(&self, name: &str, cell: usize, uses: &[Use]) -> Vec<String> {
        let Some((line, _, cells)) = self.rows.iter().find(|row| row.1 == name) else { return Vec::new() };
        let allowed = cells.get(cell).map_or(&[][..], Vec::as_slice);
        let Table { document, title, .. } = self;
        let wrong = uses.iter().filter(|one| !allowed.contains(&one.to)).map(|Use { to, at }| {
            format!("{at}: `{name}` uses `{to}`, which {document}:{line} ({title}) does not allow")
        });
        let unused = allowed.iter().filter(|other| !uses.iter().any(|one| one.to == **other));
        let unused = unused.map(|other| format!("{document}:{line}: {title}: `{name}` does not use `{other}`"));
        wrong.chain(unused).collect()
    }
}

/// The entries of a section of a manifest, including target-specific ones: names and values.
fn dependencies(manifest: &str, section: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            is_inside = header == section || header.starts_with("target.") && header.ends_with(&format!(".{section}"));
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside && !line.starts_with('#')) {
            let name = name.trim().split('.').next().unwrap_or_default();
            found.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// `x` of `key = "x"` in an inline table.
fn quoted<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    value.split_once(&format!("{key} = \""))?.1.split('"').next()
}

/// The files of a crate without its programs, or of a folder in it.
struct Tree {
    tree: PathBuf,
    files: Vec<File>,
}

impl Tree {
    fn read(tree: &Path, root: &str) -> Tree {
        let mut files = Vec::new();
        // The modules of the crate above this folder.
        let above: Vec<String> =
            tree.iter().skip_while(|name| *name != "src").skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let place = folder().join(tree).join(&below);
            for entry in fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())).flatten() {
                let path = below.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.extend((path != Path::new(PROGRAMS)).then_some(path));
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let is_root = path == Path::new(root);
                    let own = if is_root { Vec::new() } else { modules(&path) };
                    let source = fs::read_to_string(entry.path()).expect("a Rust file is text");
                    files.push(File::parse(&tree.join(&path), [&above[..], &own].concat(), &source).below(&above));
                }
            }
        }
        let tests: Vec<Vec<String>> = files.iter().flat_map(|file| file.test_modules.clone()).collect();
        files.retain(|file| !tests.iter().any(|test| file.modules.starts_with(test)));
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Tree { tree: tree.to_owned(), files }
    }

    /// The imports of each file or folder at the top level from the others; and imports from the root file itself,
    /// which uses all of them. Re-exports of the root file count as names of their own file.
    fn imports<'a>(&'a self, units: &BTreeSet<&'a str>) -> (BTreeMap<&'a str, Vec<Use>>, Vec<String>) {
        let roots = || self.files.iter().filter(|file| file.modules.is_empty());
        let passed_on: BTreeMap<&str, &str> = roots()
            .flat_map(|file| &file.paths)
            .filter_map(|path| Some((path.name.as_str(), path.segments.first()?.as_str())))
            .collect();
        let mut imports: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
        let mut wrong = Vec::new();
        for file in &self.files {
            let Some(unit) = file.unit() else { continue };
            for path in &file.paths {
                let at = format!("{}:{}", file.path.display(), path.line);
                let first = path.segments.first().map_or("*", String::as_str);
                let to = if units.contains(first) { Some(&first) } else { passed_on.get(first) };
                match to {
                    // A path to another crate, or within the unit.
                    Some(&to) if to == unit || !units.contains(to) => {}
                    Some(&to) => imports.entry(unit).or_default().push(Use { to: to.to_owned(), at }),
                    None => wrong.push(format!(
                        "{at}: `{unit}` uses `{first}` of the root file of {}, which uses all others: a cycle",
                        self.tree.display()
                    )),
                }
            }
        }
        (imports, wrong)
    }
}

/// The modules of a file: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn modules(path: &Path) -> Vec<String> {
    let without = path.with_extension("");
    let names = without.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

struct File {
    path: PathBuf,
    modules: Vec<String>,
    paths: Vec<Import>,
    /// Modules with files of their own that exist for tests only.
    test_modules: Vec<Vec<String>>,
}

/// A path to an item of the same crate, from the crate's root.
#[derive(Debug)]
struct Import {
    segments: Vec<String>,
    /// Its name in the importing file.
    name: String,
    line: usize,
}

impl File {
    fn parse(path: &Path, modules: Vec<String>, source: &str) -> File {
        let (tokens, tests) = without_tests(&tokens(source));
        let test_modules = tests.into_iter().map(|name| [&modules[..], &[name]].concat()).collect();
        let paths = paths(&tokens, &modules);
        File { path: path.to_owned(), modules, paths, test_modules }
    }

    /// The same relative to a folder of the crate; paths outside of it are dropped.
    fn below(mut self, above: &[String]) -> File {
        let within = |modules: &[String]| modules.strip_prefix(above).map(<[String]>::to_vec);
        self.modules = within(&self.modules).unwrap_or_default();
        self.test_modules = self.test_modules.iter().filter_map(|test| within(test)).collect();
        let path = |path: Import| Some(Import { segments: within(&path.segments)?, ..path });
        self.paths = self.paths.into_iter().filter_map(path).collect();
        self
    }

    /// The top-level file or folder of the file, unless it is the root file.
    fn unit(&self) -> Option<&str> {
        self.modules.first().map(String::as_str)
    }
}

/// A word, `::`, or a sign, and its line.
type Token<'a> = (&'a str, usize);

/// The tokens of a Rust file, without comments, strings, characters and lifetimes.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < bytes.len() {
        let rest = &source.as_bytes()[at..];
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        let is_string = matches!(&rest[..word], b"" | b"b" | b"c") && rest.get(word) == Some(&b'"');
        let hashes = rest[word..].iter().take_while(|byte| **byte == b'#').count();
        let is_raw = matches!(&rest[..word], b"r" | b"br" | b"cr") && rest.get(word + hashes) == Some(&b'"');
        let length = match rest {
            [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            _ if is_raw => {
                let end = format!("\"{}", "#".repeat(hashes));
                let start = word + hashes + 1;
                rest[start..].windows(end.len()).position(|part| part == end.as_bytes()).expect("an end")
                    + start
                    + end.len()
            }
            _ if is_string => word + 1 + until_quote(&rest[word + 1..], b'"'),
            [b'\'', b'\\', ..] => 1 + until_quote(&rest[1..], b'\''),
            // A lifetime has no second quote; a character may take several bytes.
            [b'\'', next, ..] if is_word(*next) && rest.get(2) != Some(&b'\'') => 1,
            [b'\'', ..] => 1 + until_quote(&rest[1..], b'\''),
            [b':', b':', ..] => 2,
            _ => word.max(1),
        };
        if word > 0 && !is_raw && !is_string || matches!(rest, [b':', b':', ..]) {
            tokens.push((&source[at..at + length], line));
        } else if length == 1 && rest[0].is_ascii_punctuation() && rest[0] != b'\'' {
            tokens.push((&source[at..=at], line));
        }
        line += rest[..length].iter().filter(|byte| **byte == b'\n').count();
        at += length;
    }
    tokens
}

/// The length of a comment, which may be nested.
fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// The length up to and including the closing quote.
fn until_quote(bytes: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The tokens without items under `#[cfg(test)]` or `#[cfg(all(test, ...))]`; and the names of modules in other files
/// under it.
fn without_tests<'a>(tokens: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<String>) {
    let is = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(n, word)| tokens.get(at + n).is_some_and(|it| it.0 == *word))
    };
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !is(at, &["#", "[", "cfg", "(", "test", ")"]) && !is(at, &["#", "[", "cfg", "(", "all", "(", "test"]) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        while is(at, &["#"]) {
            at = end_of(tokens, at + 1);
        }
        let item = at;
        let is_import =
            tokens[item..].iter().map(|it| it.0).take_while(|it| *it != ";" && *it != "{").any(|it| it == "use");
        while !is(at, &[";"]) && (is_import || !is(at, &["{"])) {
            at = end_of(tokens, at);
        }
        let name = tokens[item..at].iter().position(|it| it.0 == "mod").and_then(|word| tokens.get(item + word + 1));
        modules.extend(name.filter(|_| is(at, &[";"])).map(|name| name.0.to_owned()));
        at = end_of(tokens, at);
    }
    (kept, modules)
}

/// The position after this token, or after the group that it opens.
fn end_of(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match token.0 {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth <= 0 {
            return n + 1;
        }
    }
    tokens.len()
}

/// All paths within the crate; and all imports of the root file, which need not begin with `crate`.
fn paths(tokens: &[Token<'_>], modules: &[String]) -> Vec<Import> {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.0);
    let mut found = Vec::new();
    // Modules in braces: the depth at which each ends.
    let (mut inline, mut ends, mut depth) = (modules.to_vec(), Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "mod" if word(at + 2) == "{" => {
                inline.push(word(at + 1).to_owned());
                ends.push(depth);
                (at, depth) = (at + 3, depth + 1);
            }
            "crate" | "super" | "self" if word(at + 1) == "::" => at = tree(tokens, at, &inline, &mut found),
            "use" if modules.is_empty() => at = tree(tokens, at + 1, &inline, &mut found),
            sign => {
                depth += usize::from(sign == "{");
                if sign == "}" {
                    depth -= 1;
                    if ends.last() == Some(&depth) {
                        ends.pop();
                        inline.pop();
                    }
                }
                at += 1;
            }
        }
    }
    found
}

/// Adds a path, or each of the paths of `{...}`. Returns the position after it.
fn tree(tokens: &[Token<'_>], mut at: usize, base: &[String], found: &mut Vec<Import>) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.0);
    let line = tokens.get(at).map_or(0, |token| token.1);
    let mut note = |segments: Vec<String>, name: &str| found.push(Import { segments, name: name.to_owned(), line });
    let segments = match word(at) {
        "{" => {
            at += 1;
            while at < tokens.len() && word(at) != "}" {
                at = if word(at) == "," { at + 1 } else { tree(tokens, at, base, found) };
            }
            return at + 1;
        }
        "*" => {
            note(base.to_vec(), "*");
            return at + 1;
        }
        "crate" => Vec::new(),
        "self" => base.to_vec(),
        "super" => base[..base.len().saturating_sub(1)].to_vec(),
        other => [base, &[other.to_owned()]].concat(),
    };
    let goes_on =
        |next: &str| matches!(next, "{" | "*") || next.starts_with(|it: char| it == '_' || it.is_alphabetic());
    if word(at + 1) == "::" && goes_on(word(at + 2)) {
        return tree(tokens, at + 2, &segments, found);
    }
    if word(at + 1) == "as" {
        note(segments, word(at + 2));
        return at + 3;
    }
    let name = segments.last().cloned().unwrap_or_default();
    note(segments, &name);
    at + 1
}
