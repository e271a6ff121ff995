//! Tests of [`Machine`] on simulated machines.

use std::path::{Path, PathBuf};

use super::{Machine, count};

const GIB: u64 = 1 << 30;

/// A folder that stands for `/`.
struct TestRoot(tempfile::TempDir);

impl TestRoot {
    /// 64 processors and 256 GiB, outside of containers, in no group.
    fn new() -> TestRoot {
        let root = TestRoot(tempfile::tempdir().unwrap());
        root.write("sys/devices/system/cpu/online", "0-63\n");
        root.write("proc/meminfo", "MemTotal:       268435456 kB\nMemFree:  1 kB\n");
        root.write("proc/thread-self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-63\n");
        root.namespaces("cgroup:[4026531835]", "pid:[4026531836]");
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn namespaces(&self, cgroup: &str, pid: &str) {
        std::fs::create_dir_all(self.path("proc/self/ns")).unwrap();
        for (name, target) in [("cgroup", cgroup), ("pid", pid)] {
            let _ = std::fs::remove_file(self.path("proc/self/ns").join(name));
            std::os::unix::fs::symlink(target, self.path("proc/self/ns").join(name)).unwrap();
        }
    }

    /// Version 2 alone, with the group at `root` at the mount point, and the process in the group at `path`.
    fn unified(&self, root: &str, path: &str) {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let line = format!("30 24 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
        self.write("proc/self/mountinfo", &format!("{mounts}{line}"));
        self.write("proc/self/cgroup", &format!("0::{path}\n"));
    }

    /// Version 1, as most distributions mounted it.
    fn separate(&self, root: &str, path: &str) {
        let mount = |point: &str, controllers: &str| {
            format!("33 31 0:30 {root} /sys/fs/cgroup/{point} rw - cgroup cgroup rw,{controllers}\n")
        };
        let mounts = [mount("cpu,cpuacct", "cpu,cpuacct"), mount("memory", "memory"), mount("cpuset", "cpuset")];
        self.write("proc/self/mountinfo", &mounts.concat());
        let lines = ["12:cpuset", "5:memory", "4:cpu,cpuacct", "1:name=systemd"];
        self.write("proc/self/cgroup", &lines.map(|line| format!("{line}:{path}\n")).concat());
    }

    fn machine(&self) -> Machine {
        Machine::read_from(self.0.path())
    }
}

#[test]
fn without_groups_the_machine_is_what_there_is() {
    let root = TestRoot::new();
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.memory_bytes()), (64, Some(256 * GIB)));
    assert!(machine.may_pin());
    assert_eq!(machine.to_string(), "64 processors, 256.0 GiB of memory");
    let nothing = tempfile::tempdir().unwrap();
    let machine = Machine::read_from(nothing.path());
    assert_eq!((machine.processors(), machine.memory_bytes(), machine.may_pin()), (1, None, false));
    assert_eq!((machine.memory_share(4, 100), machine.to_string()), (100, "1 processor".to_owned()));
}

#[test]
fn a_quota_of_version_2_counts() {
    let root = TestRoot::new();
    root.unified("/", "/a.slice");
    root.write("sys/fs/cgroup/a.slice/cpu.max", "200000 100000\n");
    root.write("sys/fs/cgroup/a.slice/memory.max", "4294967296\n");
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.memory_bytes(), machine.may_pin()), (2, Some(4 * GIB), false));
    assert_eq!(
        machine.to_string(),
        "2 of 64 processors (quota of 2.0 in /sys/fs/cgroup/a.slice), 4.0 GiB of memory (limit in /sys/fs/cgroup/a.slice)"
    );
    assert_eq!((machine.memory_share(16, GIB), machine.memory_share(2, GIB)), (GIB / 4, GIB));
    // Fractions of a processor are left to other threads, but one worker is the minimum.
    for (text, processors) in [("250000 100000", 2), ("5000 10000", 1), ("1000 100000", 1), ("150000", 1)] {
        root.write("sys/fs/cgroup/a.slice/cpu.max", text);
        assert_eq!(root.machine().processors(), processors, "{text}");
    }
}

#[test]
fn the_tightest_of_nested_groups_counts_as_systemd_makes_them() {
    let root = TestRoot::new();
    root.unified("/", "/system.slice/frames.slice/frames@1.service");
    let slice = "sys/fs/cgroup/system.slice";
    root.write(&format!("{slice}/cpu.max"), "max 100000\n");
    root.write(&format!("{slice}/frames.slice/cpu.max"), "300000 100000\n");
    root.write(&format!("{slice}/frames.slice/frames@1.service/cpu.max"), "800000 100000\n");
    root.write(&format!("{slice}/memory.max"), "8589934592\n");
    root.write(&format!("{slice}/frames.slice/memory.high"), "2147483648\n");
    root.write(&format!("{slice}/frames.slice/memory.max"), "3221225472\n");
    root.write(&format!("{slice}/frames.slice/frames@1.service/memory.max"), "max\n");
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.memory_bytes()), (3, Some(2 * GIB)));
    assert_eq!(machine.quota().unwrap().cgroup, "/sys/fs/cgroup/system.slice/frames.slice");
    assert_eq!(machine.memory_limit().unwrap().cgroup, "/sys/fs/cgroup/system.slice/frames.slice");
}

#[test]
fn version_1_counts_and_includes_groups_above_the_namespace() {
    let root = TestRoot::new();
    root.separate("/", "/docker/0123abcd");
    let groups = "sys/fs/cgroup";
    root.write(&format!("{groups}/cpu,cpuacct/docker/0123abcd/cpu.cfs_quota_us"), "-1\n");
    root.write(&format!("{groups}/cpu,cpuacct/docker/0123abcd/cpu.cfs_period_us"), "100000\n");
    root.write(&format!("{groups}/cpu,cpuacct/docker/cpu.cfs_quota_us"), "400000\n");
    root.write(&format!("{groups}/cpu,cpuacct/docker/cpu.cfs_period_us"), "50000\n");
    // The value of version 1 for no limit.
    root.write(&format!("{groups}/memory/docker/0123abcd/memory.limit_in_bytes"), "9223372036854771712\n");
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.memory_bytes()), (8, Some(256 * GIB)));
    let stat = format!("cache 0\nhierarchical_memory_limit {GIB}\ntotal_cache 0\n");
    root.write(&format!("{groups}/memory/docker/0123abcd/memory.stat"), &stat);
    assert_eq!(root.machine().memory_bytes(), Some(GIB));
}

#[test]
fn a_container_without_a_namespace_sees_its_group_at_the_mount_point() {
    let root = TestRoot::new();
    root.separate("/kubepods/pod1/c1", "/kubepods/pod1/c1/inner");
    root.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "500000\n");
    root.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    root.write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1073741824\n");
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.memory_bytes()), (5, Some(GIB)));
    assert_eq!(machine.quota().unwrap().cgroup, "/sys/fs/cgroup/cpu,cpuacct");
}

#[test]
fn in_a_namespace_the_group_is_the_root() {
    let root = TestRoot::new();
    root.namespaces("cgroup:[4026532999]", "pid:[4026532998]");
    root.unified("/", "/");
    assert!(!root.machine().may_pin(), "containers beside it may have the same processors");
    root.write("sys/fs/cgroup/cpu.max", "700000 100000\n");
    assert_eq!(root.machine().processors(), 7);
    // Entered from outside: the process's group is not in its namespace, and the visible groups count.
    root.unified("/", "/../../other");
    assert_eq!(root.machine().processors(), 7);
    root.unified("/..", "/../other");
    root.write("sys/fs/cgroup/other/cpu.max", "300000 100000\n");
    assert_eq!(root.machine().processors(), 3);
}

#[test]
fn a_hybrid_has_its_limits_in_version_1() {
    let root = TestRoot::new();
    let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                  32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                  33 31 0:30 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory\n\
                  41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    root.write("proc/self/mountinfo", mounts);
    root.write("proc/self/cgroup", "4:memory:/m\n1:cpu:/c\n0::/u\n");
    root.write("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "150000");
    root.write("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "50000");
    root.write("sys/fs/cgroup/my memory/m/memory.limit_in_bytes", "1073741824");
    assert_eq!((root.machine().processors(), root.machine().memory_bytes()), (3, Some(GIB)));
    root.write("sys/fs/cgroup/unified/u/cpu.max", "100000 50000");
    assert_eq!(root.machine().processors(), 2);
}

#[test]
fn nonsense_is_no_limit() {
    let root = TestRoot::new();
    root.unified("/", "/a");
    for (cpu, memory) in [
        ("max 100000", "max"),
        ("", ""),
        ("0 100000", "0"),
        ("100000 0", "-1"),
        ("-5 100000", "many"),
        ("99999999999999999999999 1", "99999999999999999999999"),
        ("6400000 100000", "274877906944"),
        ("\0\u{ff}", "\n\n"),
    ] {
        root.write("sys/fs/cgroup/a/cpu.max", cpu);
        root.write("sys/fs/cgroup/a/memory.max", memory);
        let machine = root.machine();
        assert_eq!((machine.processors(), machine.memory_bytes()), (64, Some(256 * GIB)), "{cpu:?} {memory:?}");
        assert!(machine.quota().is_none() && machine.memory_limit().is_none());
    }
    std::fs::write(root.path("proc/self/mountinfo"), b"x\n- \n1 2 3\n\xff\xfe - cgroup2\n").unwrap();
    std::fs::write(root.path("proc/self/cgroup"), b"::\n0:\n:x:y\n\xff").unwrap();
    root.write("proc/thread-self/status", "Cpus_allowed_list:\t7-3\n");
    root.write("proc/meminfo", "MemTotal: lots\n");
    assert_eq!((root.machine().processors(), root.machine().memory_bytes()), (64, None));
}

#[test]
fn workers_are_bound_to_processors_of_an_exclusive_process() {
    let root = TestRoot::new();
    root.separate("/", "/set");
    let allowed = |list: &str| root.write("proc/thread-self/status", &format!("Cpus_allowed_list:\t{list}\n"));
    assert!(root.machine().may_pin());
    allowed("0-3,8");
    let machine = root.machine();
    assert_eq!((machine.processors(), machine.may_pin()), (5, false), "other processes may use the mask");
    assert_eq!(machine.to_string(), "5 of 64 processors (affinity), 256.0 GiB of memory");
    root.write("sys/fs/cgroup/cpuset/cpuset.cpu_exclusive", "1");
    root.write("sys/fs/cgroup/cpuset/cpuset.cpus", "0-63");
    root.separate("/", "/");
    assert!(!root.machine().may_pin(), "the root of version 1 is always exclusive");
    root.separate("/", "/set");
    root.write("sys/fs/cgroup/cpuset/set/cpuset.cpus", "0-3,8");
    root.write("sys/fs/cgroup/cpuset/set/cpuset.cpu_exclusive", "0");
    assert!(!root.machine().may_pin(), "another group may use them too");
    root.write("sys/fs/cgroup/cpuset/set/cpuset.cpu_exclusive", "1");
    assert!(root.machine().may_pin());
    root.unified("/", "/set");
    root.write("sys/fs/cgroup/set/cpuset.cpus.effective", "0-3,8\n");
    root.write("sys/fs/cgroup/set/cpuset.cpus.partition", "member\n");
    assert!(!root.machine().may_pin());
    root.write("sys/fs/cgroup/set/cpuset.cpus.partition", "root\n");
    assert!(root.machine().may_pin());
    root.write("sys/fs/cgroup/set/cpu.max", "400000 100000\n");
    assert!(!root.machine().may_pin(), "a quota below the mask");
    root.write("sys/fs/cgroup/set/cpu.max", "500000 100000\n");
    assert!(root.machine().may_pin(), "a quota that covers the whole mask");
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::read();
    assert!(machine.processors() >= 1 && machine.processors() <= ffi::cpu_count());
    assert!(machine.memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    assert!(Path::new("/proc/self/cgroup").exists());
    assert_eq!([count("0"), count("0-3,8"), count(""), count("3-1"), count("a")], [Some(1), Some(5), None, None, None]);
}
