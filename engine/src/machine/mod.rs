//! The processors and the memory that the process may use: those of the machine, within the limits of its control
//! groups.
//!
//! The defaults of an engine (threads, checkpoint memory) and of the server's caches depend on it. `cgroups` reads the
//! limits of control groups, versions 1 and 2; `core_reservation` reserves cores for workers. Everything is read
//! beneath a folder that stands for `/`, so that tests can simulate machines.

mod cgroups;
mod core_reservation;

use std::fmt::{self, Display, Formatter};
use std::path::Path;

pub use cgroups::{MemoryLimit, Quota};
pub(crate) use core_reservation::CoreReservation;

use cgroups::Cgroups;

/// The inodes of the initial control group and process namespaces (`include/linux/proc_ns.h`). A process in others runs
/// in a container.
const FIRST_NAMESPACES: [(&str, &str); 2] = [("cgroup", "cgroup:[4026531835]"), ("pid", "pid:[4026531836]")];

/// The resources of the process, at the time of reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Processors of the machine.
    online: usize,
    /// Processors that the calling thread may run on.
    allowed: usize,
    quota: Option<Quota>,
    memory_bytes: Option<u64>,
    memory_limit: Option<MemoryLimit>,
    is_container: bool,
    has_exclusive_cpuset: bool,
}

impl Machine {
    /// Reads the current state.
    pub fn read() -> Machine {
        let machine = Machine::read_from(Path::new("/"));
        // The system call answers even where /proc is hidden.
        Machine { allowed: ffi::cpu_count(), online: machine.online.max(ffi::cpu_count()), ..machine }
    }

    /// The machine whose `/proc` and `/sys` lie beneath `root`. A value that cannot be read or parsed is no limit.
    pub fn read_from(root: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let status = read("proc/thread-self/status").or_else(|| read("proc/self/status")).unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(count);
        let online = read("sys/devices/system/cpu/online").as_deref().and_then(count);
        let allowed = allowed.or(online).unwrap_or(1);
        let groups = Cgroups::read(root);
        let memory_bytes = read("proc/meminfo").as_deref().and_then(total);
        let namespace = |name: &str| std::fs::read_link(root.join("proc/self/ns").join(name)).ok();
        let is_other = |(name, first): (&str, &str)| namespace(name).is_none_or(|found| found.as_os_str() != first);
        Machine {
            online: online.unwrap_or(allowed).max(allowed),
            allowed,
            quota: groups.quota().filter(|quota| quota.processors < allowed as f64),
            memory_bytes,
            memory_limit: groups.memory_limit().filter(|limit| memory_bytes.is_none_or(|all| limit.bytes < all)),
            is_container: FIRST_NAMESPACES.into_iter().any(is_other),
            // An affinity mask below the cpuset excludes no other process, nor does the root of version 1, which is
            // always exclusive.
            has_exclusive_cpuset: groups.exclusive_processors() == Some(allowed),
        }
    }

    /// The number of threads that can run all the time, at least 1: the processors of the affinity mask, or the whole
    /// processors of the tightest quota. More threads would use up the quota early in each period, and all of them
    /// would stop until its end.
    pub fn processors(&self) -> usize {
        let paid = self.quota.as_ref().map_or(usize::MAX, |quota| quota.processors as usize);
        self.allowed.min(paid).max(1)
    }

    /// Bytes of memory: the machine's, or the tightest limit of the control groups. `None` if neither is known.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_limit.as_ref().map(|limit| limit.bytes).or(self.memory_bytes)
    }

    /// The memory in bytes divided by `part` (0 counts as 1), at most `most` bytes; `most` if the memory is not known.
    pub fn memory_share(&self, part: u64, most: u64) -> u64 {
        self.memory_bytes().map_or(most, |bytes| (bytes / part.max(1)).min(most))
    }

    /// The tightest quota of processors, if it is below the affinity mask.
    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// The tightest limit of memory, if it is below the machine's memory.
    pub fn memory_limit(&self) -> Option<&MemoryLimit> {
        self.memory_limit.as_ref()
    }

    /// Whether binding workers to cores is useful: only if the process has its processors to itself, which means the
    /// whole machine without a quota or container, or an exclusive cpuset (`cpuset.cpu_exclusive`, a partition of
    /// version 2). Elsewhere other processes would bind their workers to the same cores while others are idle.
    pub fn may_pin(&self) -> bool {
        let has_all = self.allowed == self.online && !self.is_container;
        self.quota.is_none() && (has_all || (self.has_exclusive_cpuset && self.allowed < self.online))
    }
}

impl Display for Machine {
    /// Writes `2 of 64 processors (quota of 2.0 in /sys/fs/cgroup/a.slice), 4.0 GiB of memory (limit in
    /// /sys/fs/cgroup/a.slice)`
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match (&self.quota, self.processors()) {
            (Some(Quota { processors, cgroup: place }), usable) => {
                write!(formatter, "{usable} of {} processors (quota of {processors:.1} in {place})", self.online)?;
            }
            (None, usable) if usable < self.online => {
                write!(formatter, "{usable} of {} processors (affinity)", self.online)?;
            }
            (None, 1) => write!(formatter, "1 processor")?,
            (None, usable) => write!(formatter, "{usable} processors")?,
        }
        let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        match (&self.memory_limit, self.memory_bytes) {
            (Some(MemoryLimit { bytes, cgroup: place }), _) => {
                write!(formatter, ", {:.1} GiB of memory (limit in {place})", gibibytes(*bytes))
            }
            (None, Some(bytes)) => write!(formatter, ", {:.1} GiB of memory", gibibytes(bytes)),
            (None, None) => Ok(()),
        }
    }
}

/// The number of elements of a list such as `0-3,8`; `None` for an empty or malformed one.
fn count(list: &str) -> Option<usize> {
    let mut all = 0_usize;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        all = all.checked_add(last.checked_sub(first)? as usize + 1)?;
    }
    Some(all)
}

/// The memory of the machine in bytes, from the text of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests;
