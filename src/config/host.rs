//! What the machine can spare: available memory, and what the control groups leave.

use std::fs;
use std::path::{Path, PathBuf};

/// Host memory that could be taken now, in bytes: the smaller of the system's available memory
/// and the headroom of every control group above this process. Read anew at each call, because
/// other processes take memory too.
pub fn headroom() -> u64 {
    headroom_in(Path::new("/"))
}

/// Processes of the same job on this node, this one included.
pub fn local_world_size() -> u64 {
    ["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.parse().ok())
        .find(|&n: &u64| n > 0)
        .unwrap_or(1)
}

/// This process's number among those of the job on this node.
pub fn local_rank() -> Option<u64> {
    ["LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
}

fn headroom_in(root: &Path) -> u64 {
    let available = available(root).unwrap_or(0);
    groups(root).into_iter().filter_map(|g| g.headroom()).fold(available, u64::min)
}

/// `MemAvailable` of `/proc/meminfo`.
fn available(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files of one control group.
struct Group {
    folder: PathBuf,
    /// Files with a limit; the smallest counts. Past `memory.high` the kernel only slows us down,
    /// but slowing a training job to a crawl is no way to save it.
    limits: &'static [&'static str],
    usage: &'static str,
    /// The line of `memory.stat` with page cache that the kernel drops before it says no.
    cache: &'static str,
}

impl Group {
    fn headroom(&self) -> Option<u64> {
        let number = |name| read_number(&self.folder.join(name));
        // "max" is no number: no limit here.
        let limit = self.limits.iter().copied().filter_map(number).min()?;
        let cache = fs::read_to_string(self.folder.join("memory.stat"))
            .ok()
            .and_then(|t| {
                t.lines().find_map(|l| l.strip_prefix(self.cache)?.trim().parse::<u64>().ok())
            })
            .unwrap_or(0);
        Some(limit.saturating_sub(number(self.usage)?.saturating_sub(cache)))
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The groups of this process and everything above them, version 2 and version 1.
fn groups(root: &Path) -> Vec<Group> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            climb(&root.join("sys/fs/cgroup"), path, |folder| {
                groups.push(Group {
                    folder,
                    limits: &["memory.max", "memory.high"],
                    usage: "memory.current",
                    cache: "inactive_file ",
                });
            });
        } else if controllers.split(',').any(|c| c == "memory") {
            climb(&root.join("sys/fs/cgroup/memory"), path, |folder| {
                groups.push(Group {
                    folder,
                    limits: &["memory.limit_in_bytes"],
                    usage: "memory.usage_in_bytes",
                    cache: "total_inactive_file ",
                });
            });
        }
    }
    groups
}

/// Visits `mount`/`path` and every folder up to `mount`. In a container `path` may name a folder
/// of the host that is not mounted here; then the mount itself is the container's group.
fn climb(mount: &Path, path: &str, mut visit: impl FnMut(PathBuf)) {
    let mut folder = mount.join(path.trim_start_matches('/'));
    while folder.starts_with(mount) {
        visit(folder.clone());
        if !folder.pop() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("coldpress-{name}-{}", std::process::id()));
        let all = [("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    1048576 kB\n")];
        for (path, text) in all.iter().chain(files) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        root
    }

    #[test]
    fn without_groups_available_memory_counts() {
        let root = machine("plain", &[]);
        assert_eq!(headroom_in(&root), 1024 * MIB);
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn the_tightest_group_of_version_2_counts() {
        let root = machine(
            "v2",
            &[
                ("proc/self/cgroup", "0::/job/step\n"),
                ("sys/fs/cgroup/job/step/memory.max", "max\n"),
                ("sys/fs/cgroup/job/step/memory.current", "100\n"),
                ("sys/fs/cgroup/job/memory.max", "max\n"),
                ("sys/fs/cgroup/job/memory.high", "104857600\n"),
                ("sys/fs/cgroup/job/memory.current", "83886080\n"),
                ("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 10485760\n"),
            ],
        );
        assert_eq!(headroom_in(&root), 30 * MIB, "limit - usage + cache");
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn version_1_in_a_container_whose_path_is_not_mounted() {
        let root = machine(
            "v1",
            &[
                ("proc/self/cgroup", "4:cpu:/x\n3:memory:/docker/abc\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "33554432\n"),
            ],
        );
        assert_eq!(headroom_in(&root), 32 * MIB);
        fs::remove_dir_all(root).expect("clean");
    }
}
