//! Objects in stores with the command's configuration: environment and profiles.
#![cfg(feature = "stores")]

mod common;

use std::process::Command;

use testing::range_server::{RangeReply, RangeServer};
use testing::s3::{KEY_ID, S3Server, SECRET};

use common::{ProgramRun, bucket_streamer, fixture};

fn demo() -> Vec<u8> {
    std::fs::read(fixture("hevc_demo.mp4")).expect("the fixture")
}

/// The program without this machine's own configuration.
fn clean(arguments: &[&str]) -> Command {
    let mut command = bucket_streamer(arguments);
    for (name, _) in std::env::vars_os() {
        if ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

const FRAMES: [&str; 4] = ["--frames", "0,100", "--format", "framemd5"];

fn frames_of(command: &mut Command) -> String {
    let ran = ProgramRun::run(command);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    ran.text().to_owned()
}

#[test]
fn the_command_uses_the_configuration_of_the_environment() {
    let store = S3Server::start();
    let address = store.put("clip.mp4", demo(), "1");
    let local = fixture("hevc_demo.mp4");
    let expected = frames_of(&mut clean(&[&["extract", local.to_str().expect("a name")][..], &FRAMES].concat()));
    let extract = [&["extract", &address][..], &FRAMES].concat();
    let keys = [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        assert_eq!(frames_of(clean(&extract).envs(keys).env(variable, store.endpoint())), expected);
    }
    let info = ProgramRun::run(clean(&["info", &address]).env("AWS_ENDPOINT_URL", store.endpoint()));
    assert_eq!(info.code(), 3);
    assert_eq!(info.stderr.lines().count(), 1, "{}", info.stderr);
    assert!(info.stderr.contains("s3://clips/clip.mp4") && info.stderr.contains("AccessDenied"), "{}", info.stderr);
}

/// A folder with profiles: keys, a program that prints keys, an endpoint for S3 only.
fn profiles(endpoint: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = format!("{{\"Version\": 1, \"AccessKeyId\": \"{KEY_ID}\", \"SecretAccessKey\": \"{SECRET}\"}}");
    let config = format!(
        "[profile keys]\nregion = eu-west-3\nendpoint_url = {endpoint}\n\
         [profile program]\ncredential_process = /bin/echo '{keys}'\nservices = local\n\
         [services local]\ns3 =\n  endpoint_url = {endpoint}\n\
         [profile broken]\ncredential_process = /bin/false\nendpoint_url = {endpoint}\n"
    );
    let credentials = format!("[keys]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(folder.path().join("config"), config).expect("to write");
    std::fs::write(folder.path().join("credentials"), credentials).expect("to write");
    folder
}

#[test]
fn profiles_are_read() {
    let store = S3Server::start();
    let address = store.put("clip.mp4", demo(), "1");
    let folder = profiles(&store.endpoint());
    let with = |profile: &str| {
        let mut command = clean(&[&["extract", &address][..], &FRAMES].concat());
        command.env("AWS_CONFIG_FILE", folder.path().join("config"));
        command.env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("credentials"));
        command.env("AWS_PROFILE", profile);
        ProgramRun::run(&mut command)
    };
    for (profile, region) in [("keys", "eu-west-3"), ("program", "us-east-1")] {
        let ran = with(profile);
        assert_eq!(ran.code(), 0, "{profile}: {}", ran.stderr);
        assert!(store.take_requests().iter().all(|asked| asked.region.as_deref() == Some(region)), "{profile}");
    }
    for profile in ["broken", "missing"] {
        let ran = with(profile);
        assert!(ran.code() == 3 && ran.stderr.contains("no credentials"), "{profile}: {}", ran.stderr);
        assert!(ran.stderr.lines().count() == 1 && store.take_requests().is_empty(), "{profile}: {}", ran.stderr);
    }
}

/// The test's server acts as the credential service of containers.
#[test]
fn credentials_are_renewed_before_they_expire_and_when_the_store_says_so() {
    let (store, service) = (S3Server::start(), RangeServer::start());
    let address = store.put("clip.mp4", demo(), "1");
    let give = |expires: &str| {
        let keys = format!("\"AccessKeyId\": \"{KEY_ID}\", \"SecretAccessKey\": \"{SECRET}\", \"Token\": \"t\"");
        service.put("keys", format!("{{{keys}, \"Expiration\": \"{expires}\"}}").into(), "\"1\"")
    };
    let extract = |endpoint: &str, expires: &str| {
        let mut command = clean(&[&["extract", &address][..], &FRAMES].concat());
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", give(expires)).env("AWS_ENDPOINT_URL", endpoint);
        let ran = ProgramRun::run(&mut command);
        (ran, service.take_requests().len())
    };
    for (expires, is_renewed) in [("2099-01-01T00:00:00Z", false), ("2020-01-01T00:00:00Z", true)] {
        let (ran, asked) = extract(&store.endpoint(), expires);
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        assert_eq!((asked > 1, asked > 0), (is_renewed, true), "{asked} for {expires}");
    }
    let stern = RangeServer::start();
    stern.set_behaviour(|_| RangeReply::Status(400, "x-ms-error-code: ExpiredToken"));
    let (ran, asked) = extract(stern.at("").trim_end_matches('/'), "2099-01-01T00:00:00Z");
    assert!(ran.code() == 3 && ran.stderr.contains("ExpiredToken"), "{}", ran.stderr);
    assert_eq!((asked, stern.take_requests().len()), (2, 2), "looked for once more");
}
