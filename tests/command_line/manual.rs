//! Shell completions and manual pages.
#![cfg(feature = "manual")]

use super::*;

/// The completions that Bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = run_command(&["completions", "bash"]);
    assert_eq!((script.code(), script.stderr.as_str()), (0, ""));
    let script = script.text();
    let registered = script.lines().find_map(|line| line.trim().strip_prefix("complete -F ")).expect("a registration");
    let function = registered.split(' ').next().expect("a name");
    let (before, last) = (words[words.len() - 2], words[words.len() - 1]);
    let call = format!(
        "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; {function} {program} '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        at = words.len() - 1,
        program = words[0],
    );
    let ran = Command::new("bash").args(["--norc", "-c", &call]).output().expect("Bash");
    String::from_utf8(ran.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(completed(&["bucket-streamer", "ext"]), ["extract"]);
    assert_eq!(completed(&["bucket-streamer", "extract", "a.mp4", "--form"]), ["--format"]);
    assert_eq!(completed(&["bucket-streamer", "extract", "--format", "frame"]), ["framemd5"]);
    assert_eq!(completed(&["bucket-streamer", "completions", "b"]), ["bash"]);
}

#[test]
fn each_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run_command(&["completions", shell]);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{shell}");
        assert!(ran.text().contains("on-damage"), "{shell}");
    }
    let ran = run_command(&["completions", "csh"]);
    assert_eq!(ran.code(), 2);
    check_messages(&ran);
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("man1");
    let ran = run_command(&["man", "--output", output.to_str().expect("text")]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
    let main = run_command(&["man"]).text().to_owned();
    assert!(main.starts_with(".ie ") || main.contains("\n.TH "), "{main:.80}");
    let mut pages = 1;
    for line in main.lines().filter(|line| line.starts_with("bucket\\-streamer\\-")) {
        let command = line.trim_start_matches("bucket\\-streamer\\-").split('(').next().expect("a name");
        let page = run_command(&["man", command]);
        assert_eq!((page.code(), page.stderr.as_str()), (0, ""), "{command}");
        let written = fs::read_to_string(output.join(format!("bucket-streamer-{command}.1"))).expect("the page");
        assert_eq!(page.text(), written, "{command}");
        pages += 1;
    }
    assert_eq!(fs::read_dir(&output).expect("the folder").count(), pages);
    let ran = run_command(&["man", "extrakt"]);
    assert_eq!(ran.code(), 2);
    check_messages(&ran);
}

/// Pages and completions contain no secret from the environment.
#[test]
fn pages_have_no_values_of_the_environment() {
    for arguments in [&["man", "serve"][..], &["man"], &["completions", "bash"], &["completions", "zsh"]] {
        let mut command = bucket_streamer(arguments);
        command.env("BUCKET_STREAMER_INDEX_CACHE", "/geheim").env("BUCKET_STREAMER_URL_KEYS", "geheim");
        let ran = command.output().expect("the program");
        assert!(ran.status.success(), "{arguments:?}");
        assert!(!String::from_utf8_lossy(&ran.stdout).contains("geheim"), "{arguments:?}");
    }
}
