//! Stamps the commit and date that `--version` prints, and refuses a toolchain that is too old with one line.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BUCKET_STREAMER_COMMIT");
    let rustc = output(&env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), &["--version"]).unwrap_or_default();
    check(&rustc);
    println!("cargo::rustc-env=BUCKET_STREAMER_RUSTC={}", rustc.trim_start_matches("rustc "));
    println!("cargo::rustc-env=BUCKET_STREAMER_SOURCE={}", source());
    println!("cargo::rustc-env=BUCKET_STREAMER_FEATURES={}", features().join(", "));
}

/// Cargo checks this too, but not with `--ignore-rust-version`. Without this check that build would report errors in
/// the code.
fn check(rustc: &str) {
    let version = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.split(['.', '-', ' ']).filter_map(|part| part.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    let wanted = env::var("CARGO_PKG_RUST_VERSION").unwrap_or_default();
    if let (Some(found), Some(least)) = (version(rustc), version(&wanted))
        && found < least
    {
        println!("cargo::error=Rust {wanted} or later is needed, and this is {rustc}: run `rustup update stable`");
        std::process::exit(1);
    }
}

/// The commit and its date: the value of `BUCKET_STREAMER_COMMIT` (for builds without a repository, as in an image),
/// else those of the repository.
fn source() -> String {
    if let Some(said) = env::var("BUCKET_STREAMER_COMMIT").ok().filter(|said| !said.is_empty()) {
        return said;
    }
    // The repository must be this package's own, not one that contains it.
    let Some(found) = git(&["rev-parse", "--show-prefix"]).filter(|prefix| prefix.is_empty()).and_then(|_| {
        // A commit changes the log of HEAD, or the branch. Watching all files of the checkout would take longer at each
        // build and show nothing more. A missing file would run this script at each build.
        let branch = git(&["symbolic-ref", "-q", "HEAD"]);
        for path in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
            let file = git(&["rev-parse", "--git-path", path])?;
            if Path::new(&file).exists() {
                println!("cargo::rerun-if-changed={file}");
            }
        }
        git(&["log", "-1", "--format=%h of %cs"])
    }) else {
        return "unknown".to_owned();
    };
    found
}

fn features() -> Vec<String> {
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase))
        .filter(|name| name != "default")
        .collect();
    features.sort();
    features
}

fn git(arguments: &[&str]) -> Option<String> {
    output("git", arguments)
}

/// The standard output of a program; `None` if it is missing or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
