//! Lists of a server's videos: complete, and in one order for any page length.
#![cfg(feature = "stores")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use bucket_streamer::source::remote::{HttpClient, HttpOptions, Settings, StoreClient};
use bucket_streamer_server::roots::{RootSpec, Roots};

fn roots(specs: &[(&str, &str)]) -> Roots {
    let spec = |(name, place): &(&str, &str)| match *name {
        "" => RootSpec::unnamed(place),
        name => RootSpec::parse(&format!("{name}={place}")).expect("a root"),
    };
    Roots::new(specs.iter().map(spec).collect()).expect("roots")
}

fn put(folder: &Path, files: &[&str]) {
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).and_then(|()| fs::write(path, file)).expect("a file");
    }
}

/// All names, listed by pages of this length.
fn all(roots: &Roots, limit: usize, prefix: Option<&str>) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), None);
    for _ in 0..1000 {
        let listing = roots.list(after.as_deref(), limit, prefix);
        assert!(listing.videos.len() <= limit);
        names.extend(listing.videos.into_iter().map(|listed| listed.name));
        match listing.next {
            Some(next) => after = Some(next),
            None => return names,
        }
    }
    panic!("the list does not end: {names:?}");
}

/// A store with this many objects of each kind, and a client for it.
fn store() -> (testing::s3::S3Server, StoreClient) {
    let store = testing::s3::S3Server::start();
    for number in 0..12 {
        store.put(&format!("films/{number:02}.mp4"), "1234", "1");
        store.put(&format!("films/{number:02}.txt"), "no video", "1");
        store.put(&format!("films/series//{number}.mp4"), "no name", "1");
    }
    for key in ["films/", "films/x.mp4/", "films/series/s 1&<é>.mkv", "films/.hidden.mp4", "films0.mp4", "other/a.mp4"]
    {
        store.put(key, "", "1");
    }
    let client = client(&store.endpoint(), testing::s3::SECRET);
    (store, client)
}

fn client(endpoint: &str, secret: &str) -> StoreClient {
    let settings = Settings::none().with("AWS_ENDPOINT_URL", endpoint).with("AWS_ACCESS_KEY_ID", testing::s3::KEY_ID);
    let http = HttpClient::new(HttpOptions { deadline: Duration::from_secs(2), ..HttpOptions::default() });
    StoreClient::new(http.expect("a client"), settings.with("AWS_SECRET_ACCESS_KEY", secret))
}

#[test]
fn pages_of_any_length_are_one_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cams, rest) = (folder.path().join("cams"), folder.path().join("rest"));
    // A slash sorts before some letters and after others.
    put(&cams, &["a/b.mp4", "a.mp4", "a-b.mp4", "a0.mp4", "a/b/c.mp4", "a/b-c.mp4", "B.MOV", "ü.webm", "z/z/z.ivf"]);
    put(&cams, &["a.txt", ".hidden.mp4", ".git/a.mp4", "a/.mp4", "mp4", "a\\b.mp4", "new\nline.mp4", "a/b/.c/d.mp4"]);
    put(&rest, &["x.mp4", "cams/shadowed.mp4", "cams0/seen.mp4", "~.mp4"]);
    let (_store, client) = store();
    let (cams, rest) = (cams.display().to_string(), rest.display().to_string());
    let roots = roots(&[("cams", &cams), ("", &rest), ("film", "s3://clips/films")]).with_stores(client);
    let mut expected: Vec<String> = ["cams0/seen.mp4", "x.mp4", "~.mp4"].map(Into::into).into();
    let mut own = ["a/b.mp4", "a.mp4", "a-b.mp4", "a0.mp4", "a/b/c.mp4", "a/b-c.mp4", "B.MOV", "ü.webm", "z/z/z.ivf"];
    own.sort_unstable();
    expected.extend(own.map(|name| format!("cams/{name}")));
    expected.extend((0..12).map(|number| format!("film/{number:02}.mp4")));
    expected.push("film/series/s 1&<é>.mkv".to_owned());
    for limit in [1, 2, 3, 5, 7, 24, 25, 26, 10_000] {
        assert_eq!(all(&roots, limit, None), expected, "{limit} at a time");
    }
    for prefix in
        ["cams/a", "cams/a/b", "cams/a/", "c", "cams", "film/0", "film/series/", "x", "none", "cams/z/z/z.ivf"]
    {
        let begin: Vec<String> = expected.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        for limit in [1, 2, 100] {
            assert_eq!(all(&roots, limit, Some(prefix)), begin, "{prefix}, {limit} at a time");
        }
    }
    for name in &expected {
        if !name.starts_with("film/series") {
            assert!(roots.open(name).is_ok(), "{name}");
        }
    }
    let listing = roots.list(Some("cams/ü.webm"), 2, None);
    assert!(listing.unlisted.is_empty() && listing.videos[0].size_bytes == Some(4), "{listing:?}");
    // The last name of a page may not exist any more, nor its root.
    for (after, next) in
        [("cams/a-zzz", "cams/a.mp4"), ("cam", "cams0/seen.mp4"), ("dash/a", "x.mp4"), ("/cams/x", "cams0/seen.mp4")]
    {
        assert_eq!(roots.list(Some(after), 1, None).videos[0].name, next, "after {after}");
    }
}

#[test]
fn links_within_the_root_are_followed_and_cycles_end() {
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), &["root/a/b.mp4", "out/secret.mp4"]);
    let root = folder.path().join("root");
    for (target, link) in [
        ("..", "a/up"),
        (".", "self"),
        ("a", "again"),
        ("../out", "out"),
        ("../out/secret.mp4", "s.mp4"),
        ("a/b.mp4", "l.mp4"),
        ("none", "n.mp4"),
        ("round.mp4", "round.mp4"),
        ("a", "dir.mp4"),
    ] {
        symlink(target, root.join(link)).expect("a link");
    }
    let roots = roots(&[("r", &root.display().to_string())]);
    let expected = ["r/a/b.mp4", "r/again/b.mp4", "r/dir.mp4/b.mp4", "r/l.mp4"];
    assert_eq!(all(&roots, 100, None), expected);
    assert_eq!(all(&roots, 1, None), expected);
    // Two links at each of many levels: the number of paths grows exponentially.
    let deep = folder.path().join("deep");
    for level in 0..60 {
        fs::create_dir_all(deep.join(format!("{level}"))).expect("a folder");
        for way in ["x", "y"] {
            symlink(format!("../{}", level + 1), deep.join(format!("{level}/{way}"))).expect("a link");
        }
    }
    put(&deep, &["59/a.mp4"]);
    let crossings = self::roots(&[("", &deep.display().to_string())]);
    let found = all(&crossings, 100, None);
    assert!(found.len() == 31 && found.contains(&"55/x/y/x/y/a.mp4".to_owned()), "{found:?}");
}

#[test]
fn a_listing_of_many_files_keeps_only_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..20_000 {
        fs::File::create(folder.path().join(format!("{number:05}.mp4"))).expect("a file");
    }
    let roots = roots(&[("", &folder.path().display().to_string())]);
    let listing = roots.list(Some("12344.mp4"), 3, None);
    let names: Vec<&str> = listing.videos.iter().map(|listed| &listed.name[..]).collect();
    assert_eq!(names, ["12345.mp4", "12346.mp4", "12347.mp4"]);
    assert_eq!(all(&roots, 3000, None).len(), 20_000);
    assert_eq!(roots.list(None, usize::MAX, None).videos.len(), 10_000);
}

#[test]
fn a_root_that_cannot_be_listed_does_not_fail_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), &["z/a.mp4", "gone/a.mp4"]);
    let (store, _) = store();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let specs =
        [("a", "s3://clips/films"), ("gone", &place("gone")[..]), ("web", "http://127.0.0.1:1/x/"), ("z", &place("z"))];
    let roots = roots(&specs).with_stores(client(&store.endpoint(), "another secret"));
    fs::remove_dir_all(folder.path().join("gone")).expect("removed");
    let listing = roots.list(None, 10, None);
    assert_eq!(listing.videos[0].name, "z/a.mp4");
    let unlisted: Vec<(&str, &str)> = listing.unlisted.iter().map(|(root, why)| (&root[..], &why[..])).collect();
    assert!(unlisted[0].1.starts_with("the object store refuses: SignatureDoesNotMatch"), "{unlisted:?}");
    assert_eq!(unlisted.iter().map(|it| it.0).collect::<Vec<_>>(), ["a", "gone", "web"]);
    assert!(unlisted.iter().all(|(_, why)| !why.contains("clips") && !why.contains("/tmp") && !why.contains('\n')));
    let roots = self::roots(&specs[..1]).with_stores(client("http://127.0.0.1:1", testing::s3::SECRET));
    let begun = Instant::now();
    let listing = roots.list(None, 10, None);
    assert!(listing.videos.is_empty() && listing.unlisted.len() == 1, "{listing:?}");
    assert!(begun.elapsed() < Duration::from_secs(12));
}

#[test]
fn a_store_that_ignores_the_start_of_a_list_gets_few_requests() {
    let server = testing::range_server::RangeServer::start();
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a.txt</Key><Size>1</Size></Contents>\
        </ListBucketResult>";
    server.put("clips", page.as_bytes().to_vec(), "\"1\"");
    let endpoint = server.at("");
    let roots = roots(&[("a", "s3://clips")]).with_stores(client(endpoint.trim_end_matches('/'), testing::s3::SECRET));
    server.set_behaviour(|_| testing::range_server::RangeReply::Whole);
    let listing = roots.list(None, 10, None);
    assert!(listing.unlisted[0].1.contains("a list that does not go on"), "{listing:?}");
    assert_eq!(server.take_requests().len(), 2);
}

#[test]
fn a_page_may_end_before_it_is_full() {
    let store = testing::s3::S3Server::start();
    for number in 0..400 {
        store.put(&format!("{number:03}.txt"), "no video", "1");
    }
    store.put("zzz.mp4", "1", "1");
    let roots =
        roots(&[("a", "s3://clips/"), ("", "s3://clips/")]).with_stores(client(&store.endpoint(), testing::s3::SECRET));
    let listing = roots.list(None, 10, None);
    assert!(listing.videos.is_empty() && listing.unlisted.is_empty(), "{listing:?}");
    assert_eq!(listing.next.as_deref(), Some("/249.txt"));
    assert_eq!(all(&roots, 10, None), ["zzz.mp4", "a/zzz.mp4"]);
}
