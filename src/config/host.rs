//! What the machine can spare: available memory, and what the control groups leave.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Host memory that could be taken now, in bytes: the smaller of the system's available memory
/// and the headroom of every control group above this process, less what is kept for the job
/// itself. Read anew at each call, because other processes take memory too. An error when nobody
/// can be asked (no descriptor is left, say): a limit that is not seen is not absent.
pub fn headroom() -> io::Result<u64> {
    // Tests show machines that are not there.
    #[cfg(debug_assertions)]
    if let Some(root) = std::env::var_os("TEST_COLDPRESS_CGROUP") {
        return headroom_in(Path::new(&root));
    }
    headroom_in(Path::new("/"))
}

/// What is kept free below a limit of `bytes`: past it somebody is killed, and the program needs
/// memory between two looks of ours too.
fn reserve(bytes: u64) -> u64 {
    (bytes / 16).min(1 << 30)
}

/// Processes of the same job on this node, this one included.
pub fn local_world_size() -> u64 {
    ["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.trim().parse().ok())
        .find(|&n: &u64| n > 0)
        .unwrap_or(1)
}

/// This process's number among those of the job on this node.
pub fn local_rank() -> Option<u64> {
    ["LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.trim().parse().ok())
}

fn headroom_in(root: &Path) -> io::Result<u64> {
    let mut least = available(root)?;
    for group in groups(root)? {
        least = least.min(group.headroom()?.unwrap_or(u64::MAX));
    }
    Ok(least)
}

/// `MemAvailable` of `/proc/meminfo`, less the reserve.
fn available(root: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo"))?;
    let field = |name| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let available = field("MemAvailable:").ok_or(ErrorKind::InvalidData)?;
    Ok(available.saturating_sub(reserve(field("MemTotal:").unwrap_or(0))))
}

/// The files of one control group.
struct Group {
    folder: PathBuf,
    /// Files with a limit, each with the file of what counts against it; the smallest room counts.
    /// Past `memory.high` the kernel only slows us down, but slowing a training job to a crawl is
    /// no way to save it.
    limits: &'static [(&'static str, &'static str)],
    /// The line of `memory.stat` with page cache that the kernel drops before it says no.
    cache: &'static str,
}

impl Group {
    /// What can still be taken in this group; nothing where it has no limit.
    fn headroom(&self) -> io::Result<Option<u64>> {
        let number = |name| -> io::Result<Option<u64>> {
            // "max" is no number: no limit here.
            Ok(read(&self.folder.join(name))?.and_then(|text| text.trim().parse().ok()))
        };
        let mut least = None;
        for &(limit, usage) in self.limits {
            let Some(limit) = number(limit)? else { continue };
            let Some(usage) = number(usage)? else { continue };
            let cache = read(&self.folder.join("memory.stat"))?.unwrap_or_default();
            let cache = cache.lines().find_map(|l| l.strip_prefix(self.cache)?.trim().parse().ok());
            let used = usage.saturating_sub(cache.unwrap_or(0));
            let room = limit.saturating_sub(reserve(limit)).saturating_sub(used);
            least = Some(least.unwrap_or(u64::MAX).min(room));
        }
        Ok(least)
    }
}

/// The text of a file, if there is such a file for us. Other failures are no answer.
fn read(path: &Path) -> io::Result<Option<String>> {
    // A group that has just been removed answers so.
    const NO_DEVICE: i32 = 19;
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.raw_os_error() == Some(NO_DEVICE) => Ok(None),
        Err(e) => match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied => {
                Ok(None)
            }
            _ => Err(e),
        },
    }
}

/// The groups of this process and everything above them, version 2 and version 1.
fn groups(root: &Path) -> io::Result<Vec<Group>> {
    let text = read(&root.join("proc/self/cgroup"))?.unwrap_or_default();
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            climb(&root.join("sys/fs/cgroup"), path, |folder| {
                groups.push(Group {
                    folder,
                    limits: &[("memory.max", "memory.current"), ("memory.high", "memory.current")],
                    cache: "inactive_file ",
                });
            });
        } else if controllers.split(',').any(|c| c == "memory") {
            climb(&root.join("sys/fs/cgroup/memory"), path, |folder| {
                groups.push(Group {
                    folder,
                    limits: &[
                        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
                        ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"),
                    ],
                    cache: "total_inactive_file ",
                });
            });
        }
    }
    Ok(groups)
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
        let all = [("proc/meminfo", "MemTotal: 0 kB\nMemAvailable:    1048576 kB\n")];
        for (path, text) in all.iter().chain(files) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        root
    }

    fn room(root: &Path) -> u64 {
        headroom_in(root).expect("readable")
    }

    #[test]
    fn without_groups_available_memory_counts() {
        let root = machine("plain", &[]);
        assert_eq!(room(&root), 1024 * MIB);
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
        assert_eq!(room(&root), 30 * MIB - 104_857_600 / 16, "limit - usage + cache - reserve");
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
        assert_eq!(room(&root), 28 * MIB);
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn memory_with_swap_has_its_own_limit_in_version_1() {
        let root = machine(
            "v1-swap",
            &[
                ("proc/self/cgroup", "3:memory:/job\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "67108864\n"),
                ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "0\n"),
                ("sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", "67108864\n"),
                ("sys/fs/cgroup/memory/job/memory.memsw.usage_in_bytes", "33554432\n"),
            ],
        );
        assert_eq!(room(&root), 28 * MIB);
        fs::remove_dir_all(root).expect("clean");
    }

    #[test]
    fn a_limit_that_cannot_be_read_is_not_absent() {
        let root = machine(
            "unreadable",
            &[("proc/self/cgroup", "0::/job\n"), ("sys/fs/cgroup/job/memory.current", "1\n")],
        );
        // Reading a folder fails in another way than a file that is missing.
        fs::create_dir(root.join("sys/fs/cgroup/job/memory.max")).expect("folder");
        assert!(headroom_in(&root).is_err());
        fs::remove_dir_all(root).expect("clean");
    }
}
