//! The machine of a measurement, and the processor time and memory that the measurement used.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::time::Duration;

use bucket_streamer::source::redacted;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Serialize;

/// The machine and the program, as far as the system reports them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MachineRecord {
    cpu: Option<String>,
    cores: usize,
    memory_bytes: Option<u64>,
    os: Option<String>,
    kernel: Option<String>,
    /// The version of this program.
    version: &'static str,
    /// The version of the linked FFmpeg.
    ffmpeg: String,
    /// Average number of runnable processes over the last minute.
    load: Option<f64>,
}

impl MachineRecord {
    pub(crate) fn this() -> MachineRecord {
        MachineRecord {
            cpu: value("/proc/cpuinfo", "model name", ':'),
            cores: ffi::cpu_count(),
            memory_bytes: kibibytes("/proc/meminfo", "MemTotal"),
            os: value("/etc/os-release", "PRETTY_NAME", '='),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            version: env!("CARGO_PKG_VERSION"),
            ffmpeg: ffi::components()
                .into_iter()
                .find(|part| part.name.eq_ignore_ascii_case("ffmpeg"))
                .map_or_else(String::new, |part| part.version),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

impl Display for MachineRecord {
    /// `Intel(R) Xeon(R), 2 cores, 23.5 GiB, Debian GNU/Linux 12, Linux 6.1, bucket-streamer 0.1.0, FFmpeg 9.0.2`
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores", self.cpu.as_deref().unwrap_or("unknown processor"), self.cores)?;
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.1} GiB", bytes as f64 / f64::from(1 << 30))?;
        }
        for system in [self.os.clone(), self.kernel.as_ref().map(|kernel| format!("Linux {kernel}"))].iter().flatten() {
            write!(f, ", {system}")?;
        }
        write!(f, ", bucket-streamer {}, FFmpeg {}", self.version, self.ffmpeg)
    }
}

/// The command line, quoted for a shell; without the secrets of addresses.
pub(crate) fn command_line() -> String {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    // The program's path says nothing on another machine.
    words.next();
    let mut is_header = false;
    let words = words.map(|word| {
        let is_its_value = std::mem::replace(&mut is_header, word == "--header");
        quoted(match word.strip_prefix("--header=") {
            Some(header) => format!("--header={}", name_of(header)),
            None if is_its_value => name_of(&word),
            None => redacted(&word),
        })
    });
    std::iter::once("bucket-streamer".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The name of a header, without its value, which may be a secret.
fn name_of(header: &str) -> String {
    header.split_once(':').map_or_else(|| "...".to_owned(), |(name, _)| format!("{name}: ..."))
}

fn quoted(text: String) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@+%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The first value of a name in a file of lines `NAME separator VALUE`, without blanks and quotes.
fn value(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|pair| pair.0.trim() == name).map(|pair| pair.1.trim().trim_matches('"').to_owned())
}

fn kibibytes(file: &str, name: &str) -> Option<u64> {
    value(file, name, ':')?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The processor time of this process so far, in user and kernel mode.
pub(crate) fn own_cpu() -> Option<Duration> {
    cpu(UsageWho::RUSAGE_SELF)
}

/// The processor time of child processes that have ended.
pub(crate) fn cpu_of_children() -> Option<Duration> {
    cpu(UsageWho::RUSAGE_CHILDREN)
}

fn cpu(usage_of: UsageWho) -> Option<Duration> {
    let usage = getrusage(usage_of).ok()?;
    let duration = |time: TimeVal| Duration::new(time.tv_sec().max(0) as u64, time.tv_usec().max(0) as u32 * 1000);
    Some(duration(usage.user_time()) + duration(usage.system_time()))
}

/// The peak of a process's resident memory: since it began, or since [`forget_peak`]. `self` is this process.
///
/// `getrusage` reports it for children, too, but includes the parent's memory at their start.
pub(crate) fn peak_rss(process: &str) -> Option<u64> {
    kibibytes(&format!("/proc/{process}/status"), "VmHWM")
}

/// Resets the peak, so that one engine is not charged with another one's memory. If the system does not allow it,
/// the peak stays that of the whole process.
pub(crate) fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::{quoted, redacted};

    #[test]
    fn secrets_of_addresses_are_redacted() {
        assert_eq!(redacted("https://me:word@host:8080/a@b/c.mp4?X-Signature=1"), "https://host:8080/a@b/c.mp4");
        assert_eq!(redacted("s3://bucket"), "s3://bucket");
        assert_eq!(redacted("clips/what?.mp4"), "clips/what?.mp4");
    }

    #[test]
    fn words_are_quoted_where_a_shell_wants_it() {
        let quoted = |text: &str| quoted(text.to_owned());
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!([quoted("it's"), quoted(""), quoted("5,3")], [r"'it'\''s'", "''", "5,3"]);
    }
}
