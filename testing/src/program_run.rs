//! Runs programs to their end, or kills them when they hang.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// A finished run of a program.
#[derive(Debug)]
pub struct ProgramRun {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A longer run counts as hanging.
const HANGS: Duration = Duration::from_secs(120);

impl ProgramRun {
    /// Runs a command to its end, or kills it when it hangs.
    pub fn run(command: &mut Command) -> ProgramRun {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("to start");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let child = &Mutex::new(child);
        let (ended, end) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let stdout = scope.spawn(move || all_of(stdout));
            let stderr = scope.spawn(move || all_of(stderr));
            scope.spawn(move || {
                if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                    let _ = child.lock().expect("no panic").kill();
                }
            });
            let (stdout, stderr) = (stdout.join().expect("no panic"), stderr.join().expect("no panic"));
            drop(ended);
            let status = child.lock().expect("no panic").wait().expect("a status");
            ProgramRun { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
        })
    }

    /// The exit code. A signal, a kill for hanging, and a panic are test failures.
    pub fn code(&self) -> i32 {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.status.code().unwrap_or_else(|| panic!("{}: {}", self.status, self.stderr))
    }

    /// Standard output as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// The JSON lines on standard output, and nothing else.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

fn all_of(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.expect("a pipe").read_to_end(&mut bytes).expect("to read a pipe");
    bytes
}
