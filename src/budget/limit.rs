//! How much memory the process may use, and how much of that is for batches.
//!
//! Who is told a limit keeps it; otherwise the cgroup's limit counts, else the
//! machine's memory. A limit above what the cgroup grants cannot be kept: the
//! system would kill the process.

use std::fmt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::telemetry::units;

/// A limit and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit of the whole process.
    pub bytes: ByteSize,
    /// Where it comes from.
    pub origin: LimitOrigin,
    /// What the user should know about it.
    pub warning: Option<String>,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", units::bytes(self.bytes.0), self.origin)
    }
}

/// Where a memory limit comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitOrigin {
    /// `--memory` or `HIGHWATER_MEMORY`.
    Flag,
    /// `memory` in the configuration.
    Config,
    /// 90% of the limit of this control group.
    Cgroup(PathBuf),
    /// Half of the machine's memory.
    Machine,
    /// Nothing could be found out.
    Assumed,
}

impl fmt::Display for LimitOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("from --memory"),
            Self::Config => f.write_str("from the configuration"),
            Self::Cgroup(path) => write!(f, "90% of the cgroup's limit, {}", path.display()),
            Self::Machine => f.write_str("half of this machine's memory"),
            Self::Assumed => f.write_str("assumed: the system does not tell"),
        }
    }
}

/// What is used where the system tells nothing.
const ASSUMED: ByteSize = ByteSize::gib(1);

impl MemoryLimit {
    /// The limit of this process: what it was `told`, else what the system says.
    #[must_use]
    pub fn find(told: Option<(ByteSize, LimitOrigin)>) -> Self {
        Self::find_below(Path::new("/"), told)
    }

    /// The same in a file system below `root`, for tests.
    fn find_below(root: &Path, told: Option<(ByteSize, LimitOrigin)>) -> Self {
        let cgroup = cgroup_limit(root);
        let machine = machine_memory(root);
        // A cgroup may "allow" more than there is; then the machine counts.
        let cgroup = cgroup.filter(|(bytes, _)| machine.is_none_or(|machine| *bytes < machine));
        let found = match (&cgroup, machine) {
            (Some((bytes, path)), _) => (bytes / 10 * 9, LimitOrigin::Cgroup(path.clone())),
            (None, Some(machine)) => (machine / 2, LimitOrigin::Machine),
            (None, None) => (ASSUMED.0, LimitOrigin::Assumed),
        };
        let (bytes, origin) = found;
        let found = Self {
            bytes: ByteSize(bytes),
            origin,
            warning: None,
        };
        let Some((bytes, origin)) = told else {
            return found;
        };
        match cgroup {
            Some((granted, _)) if bytes.0 > granted => Self {
                warning: Some(format!(
                    "{} of memory {origin} is more than the cgroup grants ({}), and the system would kill the run: using {}",
                    units::bytes(bytes.0),
                    units::bytes(granted),
                    units::bytes(found.bytes.0),
                )),
                ..found
            },
            _ => Self {
                bytes,
                origin,
                warning: None,
            },
        }
    }
}

/// The tightest limit of any control group that this process is in.
fn cgroup_limit(root: &Path) -> Option<(u64, PathBuf)> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            match controllers {
                "" => Some(tightest(
                    root,
                    "sys/fs/cgroup",
                    path,
                    &["memory.max", "memory.high"],
                )),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    let file = ["memory.limit_in_bytes"];
                    Some(tightest(root, "sys/fs/cgroup/memory", path, &file))
                }
                _ => None,
            }
        })
        .flatten()
        .min()
}

/// The least limit on the way from a group up to the mount: every group above
/// limits those below it. Inside a container the path may not exist below the
/// mount; the mount itself is then the container's group.
fn tightest(root: &Path, mount: &str, path: &str, files: &[&str]) -> Option<(u64, PathBuf)> {
    let inside = Path::new(path.trim_start_matches('/'));
    inside
        .ancestors()
        .flat_map(|group| {
            files
                .iter()
                .map(move |file| Path::new(mount).join(group).join(file))
        })
        .filter_map(|file| {
            let text = std::fs::read_to_string(root.join(&file)).ok()?;
            // "max" is no number; version 1 says "no limit" by a number near 2^63.
            let bytes = text
                .trim()
                .parse::<u64>()
                .ok()
                .filter(|bytes| *bytes < 1 << 60)?;
            Some((bytes, Path::new("/").join(file)))
        })
        .min()
}

fn machine_memory(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The limit, split into what the process needs anyway and what batches,
/// encoders and buffers may hold (B5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The limit of the whole process.
    pub limit: ByteSize,
    /// For code, libraries, stacks and the allocator's own slack.
    pub fixed: ByteSize,
    /// For everything that is paid for by permits.
    pub budget: ByteSize,
}

/// What a process with no workers needs.
/// Measured (peak resident size of loads under limits of 128 to 512 MiB, less the
/// budget), see `benches/README.md`.
const FIXED: ByteSize = ByteSize::mib(108);
/// What one worker adds: its stacks and its share of the allocator's slack.
const FIXED_PER_WORKER: ByteSize = ByteSize::mib(4);
/// Below this, one large row group alone would fill the budget.
const LEAST_BUDGET: ByteSize = ByteSize::mib(12);

impl Allowance {
    /// Splits `limit` for so many workers.
    ///
    /// # Errors
    /// When too little would be left: says what is needed.
    pub fn split(limit: ByteSize, workers: usize) -> Result<Self, String> {
        let fixed = fixed(workers);
        let needed = fixed.0.saturating_add(LEAST_BUDGET.0);
        if limit.0 < needed {
            return Err(format!(
                "{} of memory is too little for {}: they need {}",
                units::bytes(limit.0),
                units::counted(workers as u64, "worker"),
                units::bytes(needed)
            ));
        }
        Ok(Self {
            limit,
            fixed,
            budget: ByteSize(limit.0 - fixed.0),
        })
    }
}

fn fixed(workers: usize) -> ByteSize {
    ByteSize(
        FIXED
            .0
            .saturating_add(FIXED_PER_WORKER.0.saturating_mul(workers as u64)),
    )
}

/// As many workers as there are cores, fewer where memory is short: what they
/// need just to exist is kept to half of the limit.
#[must_use]
pub fn default_workers(limit: ByteSize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    workers_within(limit, cores)
}

fn workers_within(limit: ByteSize, cores: usize) -> usize {
    let room = (limit.0 / 2).saturating_sub(FIXED.0) / FIXED_PER_WORKER.0;
    usize::try_from(room)
        .unwrap_or(usize::MAX)
        .clamp(1, cores.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A folder with the given files in it.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MACHINE: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       8388608 kB\nMemFree: 1 kB\n",
    );

    fn found(files: &[(&str, &str)], told: Option<u64>) -> (u64, String, Option<String>) {
        let told = told.map(|mebibytes| (ByteSize::mib(mebibytes), LimitOrigin::Flag));
        let limit = MemoryLimit::find_below(system(files).path(), told);
        (limit.bytes.0 >> 20, limit.origin.to_string(), limit.warning)
    }

    #[test]
    fn a_group_above_limits_those_below() {
        let files = [
            MACHINE,
            ("proc/self/cgroup", "0::/user.slice/run.scope\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/user.slice/run.scope/memory.max", "max\n"),
        ];
        let (mebibytes, origin, _) = found(&files, None);
        assert_eq!(mebibytes, 921);
        assert_eq!(
            origin,
            "90% of the cgroup's limit, /sys/fs/cgroup/user.slice/memory.max"
        );
    }

    #[test]
    fn inside_a_container_the_mount_is_the_group() {
        let files = [
            MACHINE,
            ("proc/self/cgroup", "0::/../../docker/abc\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(found(&files, None).0, 230);
    }

    #[test]
    fn version_one_is_understood() {
        let files = [
            MACHINE,
            ("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/job\n0::/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                "536870912\n",
            ),
        ];
        assert_eq!(found(&files, None).0, 460);
    }

    #[test]
    fn without_a_group_half_of_the_machine() {
        assert_eq!(found(&[MACHINE], None).0, 4096);
        let unlimited = [
            MACHINE,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "99999999999\n"),
        ];
        let (mebibytes, origin, _) = found(&unlimited, None);
        assert_eq!(
            (mebibytes, origin.as_str()),
            (4096, "half of this machine's memory")
        );
        assert_eq!(found(&[], None).0, 1024);
    }

    #[test]
    fn what_was_told_counts_unless_it_cannot_be_kept() {
        assert_eq!(
            found(&[MACHINE], Some(256)),
            (256, "from --memory".to_owned(), None)
        );
        let files = [
            MACHINE,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(found(&files, Some(200)).0, 200);
        let (mebibytes, _, warning) = found(&files, Some(1024));
        assert_eq!(mebibytes, 230);
        assert_eq!(
            warning.unwrap(),
            "1 GiB of memory from --memory is more than the cgroup grants (256 MiB), and the system \
             would kill the run: using 230.4 MiB"
        );
    }

    #[test]
    fn workers_leave_room_for_work() {
        assert_eq!(
            Allowance::split(ByteSize::mib(256), 2).unwrap().budget,
            ByteSize::mib(140)
        );
        assert_eq!(
            Allowance::split(ByteSize::mib(64), 16).unwrap_err(),
            "64 MiB of memory is too little for 16 workers: they need 184 MiB"
        );
        assert_eq!(workers_within(ByteSize::mib(128), 16), 1);
        assert_eq!(workers_within(ByteSize::mib(256), 16), 5);
        assert_eq!(workers_within(ByteSize::gib(8), 16), 16);
        assert!(Allowance::split(ByteSize::mib(128), 1).is_ok());
    }
}
