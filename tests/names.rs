//! One type name, one meaning: no two types of the libraries and of the command have the same name, so that a name can be
//! searched for, and none has a name that says nothing by itself.
//!
//! It reads text only: `struct`, `enum`, `trait`, `union` and `type` at the beginning of a line, after visibility. Code
//! under `#[cfg(test)]` does not count, and neither do programs below `bin/`, which are crates of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The source folders of the packages.
const SOURCES: [&str; 7] = ["bench/src", "engine/src", "ffi/src", "server/src", "src", "testing/src", "vendor/src"];
/// Generated from C headers: the names are those of C.
const GENERATED: &str = "ffi/src/bindings.rs";
/// Names that say nothing without their module.
const VAGUE: [&str; 13] =
    ["Data", "Given", "Held", "Inner", "Item", "Made", "Manager", "Place", "Seen", "Shared", "State", "Told", "Wanted"];

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in SOURCES {
        for file in files(Path::new(source)) {
            let text = fs::read_to_string(root().join(&file)).expect("a file of the repository");
            for (line, name) in types(&text) {
                places.entry(name).or_default().push(format!("{}:{line}", file.display()));
            }
        }
    }
    assert!(places.len() > 500, "{} types", places.len());
    let mut problems = Vec::new();
    for (name, places) in &places {
        if places.len() > 1 {
            problems.push(format!("{name} is defined more than once: {}", places.join(", ")));
        }
        if VAGUE.contains(&&name[..]) {
            problems.push(format!("{}: {name} says nothing by itself", places[0]));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn types_are_found_and_those_of_tests_are_not() {
    let text = "pub struct A;\npub(in crate::a) enum B<T> {\n}\n    struct C {\ntype D = u8;\n// struct No;\nimpl A {\n    \
        type No = u8;\n}\nunsafe trait E {}\nlet structure = 1;\n#[cfg(test)]\nstruct No;\nstruct F;\n\
        #[cfg(test)]\nmod tests {\n    struct No;\n}\nstruct G;\n";
    let names: Vec<String> = types(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["A", "B", "C", "D", "E", "F", "G"]);
}

/// The types that a file defines, with their lines.
fn types(text: &str) -> Vec<(usize, String)> {
    let mut types = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.starts_with("#[cfg(test)]") {
            // The next item: one line, or all lines up to its closing brace in the first column.
            let item = lines.by_ref().find(|(_, line)| !line.starts_with('#'));
            if item.is_some_and(|(_, line)| line.ends_with('{')) {
                lines.by_ref().find(|(_, line)| line.starts_with('}'));
            }
            continue;
        }
        types.extend(defined(line).map(|name| (number, name)));
    }
    types
}

/// The name of the type whose definition begins on this line.
fn defined(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    // `pub`, `pub(crate)`, `pub(in path)`.
    let item = trimmed.strip_prefix("pub").map_or(trimmed, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or("", |(_, item)| item),
        None => rest,
    });
    let mut words = item.split_whitespace();
    let mut keyword = words.next()?;
    if keyword == "unsafe" {
        keyword = words.next()?;
    }
    // An indented `type` is that of a trait.
    let is_type =
        matches!(keyword, "struct" | "enum" | "trait" | "union") || keyword == "type" && !line.starts_with(' ');
    let name: String = words.next()?.chars().take_while(|&sign| sign.is_alphanumeric() || sign == '_').collect();
    (is_type && name.starts_with(char::is_uppercase)).then_some(name)
}

/// The Rust files below a folder, without programs, tests and generated files.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder of the repository").flatten() {
        let (path, name) = (folder.join(entry.file_name()), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().expect("its kind").is_dir() {
            if !matches!(&name[..], "bin" | "tests") {
                files.extend(self::files(&path));
            }
        } else if name.ends_with(".rs") && !is_test(&path) && path != Path::new(GENERATED) {
            files.push(path);
        }
    }
    files
}

/// True for a file that its parent declares under `#[cfg(test)]` or `#[cfg(shuttle)]`.
fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let folder = path.parent().expect("a folder");
    let parents = [folder.join("mod.rs"), folder.join("lib.rs"), folder.join("main.rs"), folder.with_extension("rs")];
    parents.iter().filter_map(|parent| fs::read_to_string(root().join(parent)).ok()).any(|text| {
        let mut lines = text.lines();
        let mut before = "";
        lines.any(|line| {
            let is_declared =
                line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ") == format!("mod {stem};");
            let is_test = before.starts_with("#[cfg(") && (before.contains("test") || before.contains("shuttle"));
            before = line;
            is_declared && is_test
        })
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
