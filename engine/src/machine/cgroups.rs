//! Limits of the process's control groups, and of all visible groups above them.
//!
//! `/proc/self/cgroup` names the process's group in each hierarchy; `/proc/self/mountinfo` says where a hierarchy is
//! mounted, and which of its groups is at the mount point. Both use names within the process's control group namespace,
//! so a group lies beneath a mount point if the mount's own path is a prefix of the group's path (cgroups(7), proc(5)).

use std::path::{Path, PathBuf};

/// A quota of processor time.
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    /// The quota in processors: its time divided by its period (`cpu.max`; `cpu.cfs_quota_us` and `cpu.cfs_period_us`).
    pub processors: f64,
    /// Directory of the control group with the quota.
    pub cgroup: String,
}

/// A limit of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit in bytes.
    pub bytes: u64,
    /// Directory of the control group with the limit.
    pub cgroup: String,
}

/// The default period of versions 1 and 2, in microseconds.
const PERIOD_US: u64 = 100_000;

/// The groups of the process.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The folder that stands for `/`.
    root: PathBuf,
    mounts: Vec<Mount>,
    members: Vec<Member>,
}

/// A mounted hierarchy.
#[derive(Debug)]
struct Mount {
    kind: CgroupKind,
    /// The group at the mount point.
    group: String,
    point: String,
}

/// A group that the process is in.
#[derive(Debug)]
struct Member {
    kind: CgroupKind,
    path: String,
}

/// The kind of a hierarchy.
#[derive(Debug)]
enum CgroupKind {
    /// Version 1, with these controllers.
    Controllers(Vec<String>),
    /// Version 2.
    Unified,
}

impl CgroupKind {
    fn has(&self, controller: &str) -> bool {
        match self {
            CgroupKind::Controllers(all) => all.iter().any(|one| one == controller),
            CgroupKind::Unified => true,
        }
    }

    fn is_like(&self, other: &CgroupKind) -> bool {
        matches!(self, CgroupKind::Unified) == matches!(other, CgroupKind::Unified)
    }
}

impl Cgroups {
    pub(super) fn read(root: &Path) -> Cgroups {
        let lines = |path: &str| {
            let bytes = std::fs::read(root.join(path)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        Cgroups {
            root: root.to_owned(),
            mounts: lines("proc/self/mountinfo").iter().filter_map(|line| mount(line)).collect(),
            members: lines("proc/self/cgroup").iter().filter_map(|line| member(line)).collect(),
        }
    }

    /// The tightest quota.
    pub(super) fn quota(&self) -> Option<Quota> {
        let of = |place: String| {
            let (quota_us, period_us) = self.times(&place)?;
            Some(Quota { processors: quota_us as f64 / period_us as f64, cgroup: place })
        };
        let all = self.places("cpu").into_iter().filter_map(of);
        all.min_by(|a, b| a.processors.total_cmp(&b.processors))
    }

    /// Quota and period of a group in microseconds, of either version.
    fn times(&self, place: &str) -> Option<(u64, u64)> {
        let (quota, period) = match self.text(place, "cpu.max") {
            Some(text) => {
                let mut words = text.split_whitespace();
                (words.next()?.parse().ok()?, words.next().and_then(|word| word.parse().ok()))
            }
            // -1 stands for no quota.
            None => (self.number(place, "cpu.cfs_quota_us")?, self.number(place, "cpu.cfs_period_us")),
        };
        let period = period.unwrap_or(PERIOD_US);
        (quota > 0 && period > 0).then_some((quota, period))
    }

    /// The tightest limit of memory.
    pub(super) fn memory_limit(&self) -> Option<MemoryLimit> {
        let of = |place: String| {
            let mut limits =
                ["memory.max", "memory.high", "memory.limit_in_bytes"].map(|name| self.number(&place, name));
            // Version 1 includes here the limits of groups above the namespace.
            let stat = self.text(&place, "memory.stat").unwrap_or_default();
            let above = stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "));
            limits[2] = limits[2].into_iter().chain(above.and_then(|text| text.trim().parse().ok())).min();
            let bytes = limits.into_iter().flatten().filter(|bytes| *bytes > 0).min()?;
            Some(MemoryLimit { bytes, cgroup: place })
        };
        self.places("memory").into_iter().filter_map(of).min_by_key(|limit| limit.bytes)
    }

    /// The number of processors that the process's own group has exclusively.
    pub(super) fn exclusive_processors(&self) -> Option<usize> {
        let place = self.places("cpuset").into_iter().find(|place| self.path(place).is_dir())?;
        let partition = self.text(&place, "cpuset.cpus.partition");
        let is_partition = partition.is_some_and(|text| matches!(text.trim(), "root" | "isolated"));
        let is_exclusive = is_partition || self.number(&place, "cpuset.cpu_exclusive") == Some(1);
        let lists = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
        let list = lists.iter().filter(|_| is_exclusive).find_map(|file| self.text(&place, file))?;
        super::count(&list)
    }

    /// Directories of the process's groups for a controller on this machine, each followed by those above it up to the
    /// mount point.
    fn places(&self, controller: &str) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        for member in self.members.iter().filter(|member| member.kind.has(controller)) {
            let is_its = |mount: &&Mount| mount.kind.is_like(&member.kind) && mount.kind.has(controller);
            let mounts: Vec<&Mount> = self.mounts.iter().filter(is_its).collect();
            let mut below: Vec<(&Mount, &str)> =
                mounts.iter().filter_map(|mount| Some((*mount, mount.below(&member.path)?))).collect();
            // A group outside of all mounts, or of the namespace: the visible groups count.
            if below.is_empty() {
                below = mounts.iter().map(|mount| (*mount, "")).collect();
            }
            for (mount, below) in below {
                let mut path = below.trim_matches('/');
                while !path.is_empty() {
                    places.push(format!("{}/{path}", mount.point.trim_end_matches('/')));
                    path = path.rsplit_once('/').map_or("", |(above, _)| above);
                }
                places.push(mount.point.clone());
            }
        }
        places
    }

    fn path(&self, place: &str) -> PathBuf {
        self.root.join(place.trim_start_matches('/'))
    }

    fn text(&self, place: &str, file: &str) -> Option<String> {
        std::fs::read_to_string(self.path(place).join(file)).ok()
    }

    /// A text that is not a number, such as `max` or -1, is no limit.
    fn number(&self, place: &str, file: &str) -> Option<u64> {
        self.text(place, file)?.trim().parse().ok()
    }
}

impl Mount {
    /// The path of a group relative to the mount point; `None` if it is not beneath.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(self.group.trim_end_matches('/'))?;
        let is_beneath = below.is_empty() || below.starts_with('/');
        (is_beneath && !below.split('/').any(|part| part == "..")).then_some(below)
    }
}

/// A line of `/proc/self/cgroup`: `4:cpu,cpuacct:/a/b`, and in version 2 `0::/a/b`.
fn member(line: &str) -> Option<Member> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let kind = match controllers {
        "" => CgroupKind::Unified,
        all => CgroupKind::Controllers(all.split(',').map(str::to_owned).collect()),
    };
    path.starts_with('/').then(|| Member { kind, path: path.to_owned() })
}

/// A line of `/proc/self/mountinfo`: `33 31 0:30 /group /mount/point rw shared:1 - cgroup cgroup rw,cpu,cpuacct`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
    let (group, point) = (unescaped(before.next()?), unescaped(before.next()?));
    let kind = match after.next()? {
        "cgroup2" => CgroupKind::Unified,
        "cgroup" => CgroupKind::Controllers(after.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Mount { kind, group, point })
}

/// Decodes spaces, tabs, line feeds and backslashes, which are written as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
