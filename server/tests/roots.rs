//! Any name opens a file beneath the roots of a server, or nothing.
#![cfg(feature = "stores")]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bucket_streamer::source::remote::{HttpClient, HttpOptions, Settings, StoreClient};
use bucket_streamer::source::{ByteRange, Refusal, Source};
use bucket_streamer::{Catalog, Engine, Error, ErrorKind};
use bucket_streamer_server::roots::{RootSpec, Roots};

const INSIDE: &[u8] = b"inside";
const SECRET: &[u8] = b"secret";

/// A folder that contains a root and, outside of it, secret files.
fn folders() -> (tempfile::TempDir, Roots) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sub")).expect("folders");
    fs::create_dir_all(folder.path().join("out")).expect("folders");
    fs::write(root.join("a.mp4"), INSIDE).expect("a file");
    fs::write(root.join("sub/b.mp4"), INSIDE).expect("a file");
    fs::write(folder.path().join("secret.mp4"), SECRET).expect("a file");
    fs::write(folder.path().join("out/b.mp4"), SECRET).expect("a file");
    let roots = roots(&format!("cams={}", root.display()));
    (folder, roots)
}

fn roots(spec: &str) -> Roots {
    Roots::new(vec![RootSpec::parse(spec).expect("a root")]).expect("roots")
}

fn bytes(source: &Arc<dyn Source>) -> Vec<u8> {
    source.read(ByteRange { start: 0, len: source.len() }).expect("bytes").to_vec()
}

#[track_caller]
fn is_none(opened: Result<Arc<dyn Source>, Error>, name: &str) {
    match opened {
        Ok(source) => panic!("{name:?} is open: {:?}", bytes(&source)),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::NoSuchVideo), "{name:?}: {error}"),
    }
}

fn within(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join("root").join(name)
}

#[test]
fn videos_in_a_root_are_opened_by_their_public_name() {
    let (folder, roots) = folders();
    let source = roots.open("cams/sub/b.mp4").expect("a video");
    assert_eq!((source.name(), &bytes(&source)[..]), ("cams/sub/b.mp4", INSIDE));
    symlink("sub/b.mp4", within(folder.path(), "link.mp4")).expect("a link");
    symlink("sub", within(folder.path(), "way")).expect("a link");
    symlink("../a.mp4", within(folder.path(), "sub/up.mp4")).expect("a link");
    for name in ["cams/link.mp4", "cams/way/b.mp4", "cams/sub/up.mp4", "cams/way/up.mp4"] {
        let source = roots.open(name).unwrap_or_else(|error| panic!("links that stay inside: {error}"));
        assert_eq!(bytes(&source), INSIDE);
        source.check().expect("it is still there");
    }
    let error = roots.open("cams/none.mp4").expect_err("nothing is there");
    assert_eq!(error.to_string(), "cams/none.mp4: there is no such video");
}

#[test]
fn no_name_leads_out() {
    let (folder, roots) = folders();
    let absolute = format!("cams/{}", folder.path().join("secret.mp4").display());
    let doubled = format!("cams/{}", folder.path().join("secret.mp4").display()).replacen('/', "//", 1);
    for name in [
        "cams/../secret.mp4",
        "cams/sub/../../secret.mp4",
        "cams/sub/../a.mp4",
        "cams/./a.mp4",
        "cams//a.mp4",
        "/cams/a.mp4",
        "cams/a.mp4/",
        "cams/a.mp4/.",
        "cams/%2e%2e/secret.mp4",
        "cams/..%2fsecret.mp4",
        "cams/%2e%2e%2fsecret.mp4",
        "cams/..\\secret.mp4",
        "cams/a.mp4\0",
        "cams/a.mp4\0.jpg",
        "cams\0/a.mp4",
        "cams/\u{2025}/secret.mp4",
        "cams",
        "cams/",
        "",
        "/",
        "..",
        "../secret.mp4",
        "a.mp4",
        "CAMS/a.mp4",
        "other/a.mp4",
        "cams/~/a.mp4",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        &absolute,
        &doubled,
    ] {
        is_none(roots.open(name), name);
    }
    is_none(roots.open(&format!("cams/{}", "x".repeat(300))), "a name that is too long");
    is_none(roots.open(&format!("cams/{}", "x/".repeat(2000))), "one that is much too long");
}

#[test]
fn no_link_leads_out_and_only_files_are_opened() {
    let (folder, roots) = folders();
    let at = |name: &str| within(folder.path(), name);
    symlink("../secret.mp4", at("out.mp4")).expect("a link");
    symlink(folder.path().join("secret.mp4"), at("absolute.mp4")).expect("a link");
    symlink("../out", at("outer")).expect("a link");
    symlink("..", at("sub/up")).expect("a link");
    symlink("out.mp4", at("twice.mp4")).expect("a link");
    symlink("round.mp4", at("round.mp4")).expect("a link");
    symlink("/proc/self/root", at("proc")).expect("a link");
    assert!(Command::new("mkfifo").arg(at("pipe.mp4")).status().expect("mkfifo").success());
    let _socket = UnixListener::bind(at("socket.mp4")).expect("a socket");
    symlink("/dev/zero", at("device.mp4")).expect("a link");
    for name in [
        "out.mp4",
        "absolute.mp4",
        "outer/b.mp4",
        "twice.mp4",
        "round.mp4",
        "sub/up/../../secret.mp4",
        "sub/up/out.mp4",
        "proc/etc/passwd",
        "pipe.mp4",
        "socket.mp4",
        "device.mp4",
        "sub",
        "outer",
        "a.mp4/b.mp4",
    ] {
        let name = format!("cams/{name}");
        is_none(roots.open(&name), &name);
    }
}

#[test]
fn swapping_links_during_opens_gains_nothing() {
    let (folder, roots) = folders();
    let at = |name: &str| within(folder.path(), name);
    let is_over = AtomicBool::new(false);
    symlink("sub", at("way")).expect("a link");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                for (target, name) in [("../out", "way"), ("sub", "way"), ("../secret.mp4", "swap.mp4")] {
                    symlink(target, at("new")).and_then(|()| fs::rename(at("new"), at(name))).expect("a link");
                }
                fs::copy(at("a.mp4"), at("new")).and_then(|_| fs::rename(at("new"), at("swap.mp4"))).expect("a file");
            }
        });
        let mut opened = 0;
        for _ in 0..40_000 {
            for name in ["cams/way/b.mp4", "cams/swap.mp4"] {
                match roots.open(name) {
                    Ok(source) => assert!(bytes(&source) != SECRET),
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::NoSuchVideo | ErrorKind::Read(_)), "{error}")
                    }
                }
                opened += 1;
            }
        }
        is_over.store(true, Relaxed);
        assert_eq!(opened, 80_000);
    });
}

#[test]
fn another_file_of_the_same_name_is_opened_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let (clip, new) = (folder.path().join("a.mp4"), folder.path().join("new"));
    fs::copy(fixture("hevc_demo.mp4"), &clip).expect("a clip");
    let roots = Arc::new(roots(&format!("cams={}", folder.path().display())));
    let own = Arc::clone(&roots);
    let catalog = Catalog::new(&Engine::new(Some(1))).with_opener(move |name| own.open(name));
    let frames = || catalog.open("cams/a.mp4", 0).map(|video| video.frame_count());
    let first = frames().expect("a video");
    fs::copy(fixture("hevc_10bit.mp4"), &new).and_then(|_| fs::rename(&new, &clip)).expect("replaced");
    assert_ne!(frames().expect("another video"), first);
    fs::remove_file(&clip).expect("removed");
    assert!(matches!(frames().expect_err("it is gone").kind(), ErrorKind::NoSuchVideo));
    // The whole folder is replaced, as by a mount.
    let source = roots.open("cams/a.mp4");
    is_none(source, "cams/a.mp4");
    let (old, path) = (folder.path().with_extension("old"), folder.path().to_owned());
    fs::copy(fixture("hevc_demo.mp4"), &clip).expect("a clip");
    let source = roots.open("cams/a.mp4").expect("a video");
    fs::rename(&path, &old).and_then(|()| fs::create_dir(&path)).expect("another folder");
    assert!(source.check().is_err());
    is_none(roots.open("cams/a.mp4"), "cams/a.mp4");
    fs::remove_dir(&path).expect("removed");
    let error = roots.open("cams/a.mp4").expect_err("there is no folder");
    assert!(matches!(error.kind(), ErrorKind::Read(_)) && !error.to_string().contains("/tmp"), "{error}");
    fs::rename(&old, &path).expect("the folder is restored, for its removal");
}

#[test]
fn names_stay_below_a_web_root() {
    let server = testing::range_server::RangeServer::start();
    server.put("films/a%20b.mp4", INSIDE.to_vec(), "\"1\"");
    server.put("secret.mp4", SECRET.to_vec(), "\"1\"");
    let root = format!("web={}", server.at("films"));
    let roots = roots(&root)
        .with_http(HttpClient::new(HttpOptions { private_redirects: false, ..Default::default() }).expect("a client"));
    let source = roots.open("web/a b.mp4").expect("a video");
    assert_eq!((source.name(), &bytes(&source)[..]), ("web/a b.mp4", INSIDE));
    server.take_requests();
    for name in [
        "web/%2e%2e/secret.mp4",
        "web/..%2fsecret.mp4",
        "web/@evil",
        "web/a b.mp4?x",
        "web/a b.mp4#x",
        "web/x:y",
        "web/http:/evil",
        "web/;/a",
    ] {
        let error = roots.open(name).expect_err(name);
        assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::NotFound(404))), "{name}: {error}");
        assert!(error.to_string().starts_with(&format!("{name}: ")) && !error.to_string().contains("films"), "{error}");
    }
    let requests = server.take_requests();
    assert_eq!(requests.len(), 8);
    assert!(
        requests
            .iter()
            .all(|requests| requests.path.starts_with("/films/") && !requests.path.contains(['?', '#', '@'])),
        "{requests:?}"
    );
    for name in ["web/../secret.mp4", "web//evil", "web///evil", "web/\\evil", "web/..\\secret.mp4"] {
        is_none(roots.open(name), name);
    }
    assert!(server.take_requests().is_empty());
    let away = "Location: http://localhost:1/latest";
    server.set_behaviour(move |_| testing::range_server::RangeReply::Status(302, away));
    let error = roots.open("web/a b.mp4").expect_err("the redirect is refused");
    assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Redirect(_))), "{error}");
}

#[test]
fn names_stay_below_a_part_of_a_bucket() {
    let store = testing::s3::S3Server::start();
    store.put("films/a b?#.mp4", INSIDE, "1");
    store.put("secret.mp4", SECRET, "2");
    let settings = Settings::none().with("AWS_ENDPOINT_URL", store.endpoint());
    let settings =
        settings.with("AWS_ACCESS_KEY_ID", testing::s3::KEY_ID).with("AWS_SECRET_ACCESS_KEY", testing::s3::SECRET);
    let client = StoreClient::new(HttpClient::new(HttpOptions::default()).expect("a client"), settings);
    let roots = roots("film=s3://clips/films").with_stores(client);
    let source = roots.open("film/a b?#.mp4").expect("a video");
    assert_eq!((source.name(), &bytes(&source)[..]), ("film/a b?#.mp4", INSIDE));
    let error = roots.open("film/none.mp4").expect_err("nothing is there");
    assert!(matches!(error.kind(), ErrorKind::Remote(Refusal::Store { status: 404, .. })), "{error}");
    assert!(!error.to_string().contains("clips"), "{error}");
    is_none(roots.open("film/../secret.mp4"), "film/../secret.mp4");
    assert!(roots.open("film/%2e%2e/secret.mp4").is_err());
}

#[test]
fn invalid_roots_are_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (place, file) = (folder.path().display().to_string(), folder.path().join("a.mp4"));
    fs::write(&file, INSIDE).expect("a file");
    let new = |specs: &[&str]| {
        let spec = |text: &&str| RootSpec::parse(text).unwrap_or_else(|_| RootSpec::unnamed(text));
        Roots::new(specs.iter().map(spec).collect()).map(|_| ()).expect_err("refused")
    };
    assert_eq!(
        new(&[&format!("a={place}"), &format!("a={place}")]),
        "there are two roots a: each needs a name of its own"
    );
    assert_eq!(new(&[&place, &place]), "only one root may be unnamed");
    assert_eq!(new(&["a=/no/where"]), "the root a cannot be used: the folder /no/where does not exist");
    assert!(new(&[&format!("a={}", file.display())]).ends_with("is not a folder"));
    assert!(new(&["a=ftp://host/"]).contains("this build reads no ftp:// addresses"));
    for none in ["a=s3://", "a=s3://b/../c", "a=https://host/?q", "a=http://"] {
        assert!(new(&[none]).starts_with("the root a cannot be used: "), "{none}");
    }
    assert!(Roots::has_videos(&place) && !Roots::has_videos("/no/where") && !Roots::has_videos(&file));
    fs::remove_file(&file).expect("removed");
    assert!(!Roots::has_videos(&place));
}

#[test]
fn the_unnamed_root_has_the_paths_of_no_other_root() {
    let (folder, _) = folders();
    let named = RootSpec::parse(&format!("sub={}", folder.path().join("out").display())).expect("a root");
    let unnamed = RootSpec::unnamed(&folder.path().join("root").display().to_string());
    let roots = Roots::new(vec![named, unnamed]).expect("roots");
    assert_eq!(bytes(&roots.open("a.mp4").expect("in the root without a name")), INSIDE);
    assert_eq!(bytes(&roots.open("sub/b.mp4").expect("in the root that has it")), SECRET);
    is_none(roots.open("sub"), "sub");
    let bundled = Roots::bundled();
    for listed in bundled.list(None, 10, None).videos {
        let video = Engine::new(Some(1)).open(bundled.open(&listed.name).expect("a clip"), 0).expect("a video");
        assert!(video.frame(0).is_ok() && listed.size_bytes == Some(video.source().len()));
    }
    is_none(bundled.open("none.mp4"), "none.mp4");
}
