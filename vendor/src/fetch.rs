//! Fetches a pinned source into `vendor/sources/NAME-VERSION` and verifies it, trying one carrier after another.
//!
//! A source is unpacked beside its place, verified there, and renamed, so that no incomplete source remains.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::error::VendorError;
use crate::pins::{Carrier, CrateContent, Pin};

/// The folder of this crate in the checkout: pins, carriers and unpacked sources live below it.
pub fn vendor_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder into which `pin` is unpacked, `vendor/sources/NAME-VERSION`.
pub fn source_dir(pin: &Pin) -> PathBuf {
    vendor_dir().join("sources").join(format!("{}-{}", pin.name, pin.version))
}

/// The folder with the verified source of `pin`, fetched first if it is missing.
///
/// # Errors
/// [`VendorError::Mismatch`] if the unpacked source differs from the pin (it is not replaced silently, since a user has
/// edited it); [`VendorError::NoCarrier`] if every carrier failed.
pub fn ensure(pin: &Pin) -> Result<PathBuf, VendorError> {
    let dir = source_dir(pin);
    if dir.is_dir() {
        verify(pin, &dir)?;
        return Ok(dir);
    }
    let mut tried = Vec::new();
    for carrier in pin.carriers {
        match fetch_from(pin, carrier, &dir) {
            Ok(()) => return Ok(dir),
            // A carrier with other content than the pinned one is an attack or a mistake: no further carrier is tried.
            Err(error @ VendorError::Mismatch { .. }) => return Err(error),
            Err(error) => tried.push(format!("{carrier:?}: {error}")),
        }
    }
    Err(VendorError::NoCarrier { source_name: format!("{} {}", pin.name, pin.version), tried })
}

/// Checks that `dir` has the content of `pin`.
///
/// # Errors
/// [`VendorError::Mismatch`], or [`VendorError::Io`] for a file that is missing or unreadable.
pub fn verify(pin: &Pin, dir: &Path) -> Result<(), VendorError> {
    let found = content_sha256(pin, dir)?;
    if found == pin.content_sha256 {
        return Ok(());
    }
    Err(VendorError::Mismatch {
        what: format!("the content of {} ({} {})", dir.display(), pin.name, pin.version),
        expected: pin.content_sha256.to_owned(),
        found,
    })
}

/// The content checksum of the source in `dir`: SHA-256 over sorted `sha256  path` lines of the covered files.
///
/// # Errors
/// [`VendorError::Io`] for a file that is missing or unreadable.
pub fn content_sha256(pin: &Pin, dir: &Path) -> Result<String, VendorError> {
    let mut files = Vec::new();
    for covered in pin.covered {
        list_files(&dir.join(covered), &mut files)?;
    }
    files.sort();
    let mut all = Sha256::new();
    for file in &files {
        let name = file.strip_prefix(dir).unwrap_or(file);
        all.update(format!("{}  {}\n", file_sha256(file)?, name.display()));
    }
    Ok(hex(&all.finalize()))
}

fn list_files(path: &Path, into: &mut Vec<PathBuf>) -> Result<(), VendorError> {
    let kind = fs::symlink_metadata(path).map_err(VendorError::io(path))?;
    if !kind.is_dir() {
        into.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(VendorError::io(path))? {
        let entry = entry.map_err(VendorError::io(path))?;
        // Version-control files differ between an archive and a crate and take no part in a build.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            list_files(&entry.path(), into)?;
        }
    }
    Ok(())
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`VendorError::Io`] if it cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, VendorError> {
    Ok(hex(&Sha256::digest(fs::read(path).map_err(VendorError::io(path))?)))
}

/// Bytes in hexadecimal, two lower-case digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs `command` to its end.
///
/// # Errors
/// [`VendorError::Command`] with the end of its output if it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<String, VendorError> {
    let shown = format!("{command:?}");
    let fail = |tail: String| VendorError::Command { command: shown.clone(), tail };
    let output = command.output().map_err(|error| fail(error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let all = text(&output.stdout) + &text(&output.stderr);
    let lines: Vec<&str> = all.lines().collect();
    Err(fail(lines[lines.len().saturating_sub(25)..].join("\n")))
}

fn fetch_from(pin: &Pin, carrier: &Carrier, dir: &Path) -> Result<(), VendorError> {
    let parent = dir.parent().expect("a source folder lies in vendor/sources");
    fs::create_dir_all(parent).map_err(VendorError::io(parent))?;
    let staging = parent.join(format!(".{}-{}", pin.name, std::process::id()));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir(&staging).map_err(VendorError::io(&staging))?;
    let result = unpack(pin, carrier, &staging).and_then(|root| {
        verify(pin, &root)?;
        match fs::rename(&root, dir) {
            // A concurrent build of the same checkout was faster; callers verify its result.
            Err(_) if dir.is_dir() => Ok(()),
            other => other.map_err(VendorError::io(dir)),
        }
    });
    let _ = fs::remove_dir_all(&staging);
    result
}

/// Unpacks the source of `carrier` below `staging` and returns its root.
fn unpack(pin: &Pin, carrier: &Carrier, staging: &Path) -> Result<PathBuf, VendorError> {
    match carrier {
        Carrier::Crate { package, inside } => {
            let krate = crate_dir(package)?;
            match inside {
                CrateContent::Folder(path) => {
                    let root = staging.join("copy");
                    run(Command::new("cp").arg("-R").arg(krate.join(path)).arg(&root))?;
                    Ok(root)
                }
                CrateContent::Archive { path, sha256 } => {
                    let archive = krate.join(path);
                    check_archive(&archive, sha256)?;
                    unpack_archive(&archive, staging)
                }
            }
        }
        Carrier::Url { url, archive_sha256 } => {
            let archive = staging.join(format!("{}.tar.xz", pin.name));
            let mut curl = Command::new("curl");
            curl.args(["--fail", "--silent", "--show-error", "--location", "--proto", "=https"]);
            // Fail fast: an unreachable host must not delay the next carrier.
            curl.args(["--connect-timeout", "10", "--speed-limit", "1000", "--speed-time", "20", "--output"]);
            run(curl.arg(&archive).arg(url))?;
            if let Some(sha256) = archive_sha256 {
                check_archive(&archive, sha256)?;
            }
            unpack_archive(&archive, staging)
        }
    }
}

fn check_archive(archive: &Path, expected: &str) -> Result<(), VendorError> {
    let found = file_sha256(archive)?;
    if found == expected {
        return Ok(());
    }
    Err(VendorError::Mismatch { what: archive.display().to_string(), expected: expected.to_owned(), found })
}

/// Unpacks an archive with one top folder, and returns that folder.
fn unpack_archive(archive: &Path, staging: &Path) -> Result<PathBuf, VendorError> {
    let out = staging.join("unpacked");
    fs::create_dir(&out).map_err(VendorError::io(&out))?;
    run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&out))?;
    let mut entries = fs::read_dir(&out).map_err(VendorError::io(&out))?;
    match (entries.next(), entries.next()) {
        (Some(Ok(only)), None) => Ok(only.path()),
        _ => Err(VendorError::Unfit(format!("{}: expected one top folder", archive.display()))),
    }
}

/// The unpacked crate `package` (`name-version`) of Cargo's registry, fetched if it is missing.
fn crate_dir(package: &str) -> Result<PathBuf, VendorError> {
    if let Some(found) = crate_in_registry(package)? {
        return Ok(found);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = vendor_dir().join("carriers/Cargo.toml");
    run(Command::new(cargo).args(["fetch", "--locked", "--manifest-path"]).arg(manifest))?;
    crate_in_registry(package)?.ok_or_else(|| {
        VendorError::Unfit(format!(
            "cargo fetch did not bring {package} (is crates.io replaced in Cargo's configuration?)"
        ))
    })
}

fn crate_in_registry(package: &str) -> Result<Option<PathBuf>, VendorError> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let Some(sources) = home.map(|home| home.join("registry/src")) else {
        return Ok(None);
    };
    let Ok(registries) = fs::read_dir(&sources) else {
        return Ok(None);
    };
    // Cargo writes `.cargo-ok` at the end of a complete unpacking.
    Ok(registries.flatten().map(|registry| registry.path().join(package)).find(|dir| dir.join(".cargo-ok").is_file()))
}
