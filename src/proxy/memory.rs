//! Limits of the process, as Linux tells them: memory and file descriptors.
//!
//! Memory is limited by the control group, by the address space (`ulimit -v`), and by the machine; the smallest counts. Of
//! the address space a process has reserved most before its first request, without using it, so only the part that was free
//! at the start counts. Anything that cannot be read is no limit.

use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// A memory limit, and the way in which use counts toward it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Resident memory.
    Resident,
    /// Address space.
    Virtual,
}

/// Memory limits of this process, in bytes, and its size when they were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLimits {
    limits: Vec<(Kind, u64)>,
    reserved: u64,
}

impl MemoryLimits {
    /// Reads the limits in force.
    pub(crate) fn read() -> Self {
        let group = cgroup_limits().into_iter().map(|limit| (Kind::Resident, limit));
        let machine = machine_memory().map(|limit| (Kind::Resident, limit));
        let space = address_space().map(|limit| (Kind::Virtual, limit));
        let limits = group.chain(machine).chain(space).collect();
        Self { limits, reserved: memory_in_use().map_or(0, |(size, _)| size) }
    }

    /// The smallest limit, in bytes.
    pub(crate) fn smallest(&self) -> Option<u64> {
        let usable = |(kind, limit): &(Kind, u64)| match kind {
            Kind::Resident => *limit,
            Kind::Virtual => limit.saturating_sub(self.reserved),
        };
        self.limits.iter().map(usable).min()
    }

    /// Memory in use, in percent of the limit that is nearest; 0 where nothing is known.
    pub(crate) fn used_percent(&self) -> u8 {
        let Some((size, resident)) = memory_in_use() else { return 0 };
        let share = |(kind, limit): &(Kind, u64)| match kind {
            Kind::Resident => percent(resident, *limit),
            Kind::Virtual => percent(size.saturating_sub(self.reserved), limit.saturating_sub(self.reserved)),
        };
        self.limits.iter().map(share).max().unwrap_or(0)
    }
}

/// File descriptors in use, in percent of the limit; 0 where nothing is known.
pub(crate) fn descriptors_percent() -> u8 {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    descriptors_in_use().map_or(0, |open| percent(open, limit))
}

fn percent(used: u64, limit: u64) -> u8 {
    let percent = u128::from(used) * 100 / u128::from(limit.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// Total and resident size of this process, in bytes.
fn memory_in_use() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
    let page = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let size = pages.next()?;
    let resident = pages.next()?;
    Some((size.saturating_mul(page), resident.saturating_mul(page)))
}

/// Open descriptors: since Linux 6.2 the size of the folder, before that its entries.
fn descriptors_in_use() -> Option<u64> {
    let folder = Path::new("/proc/self/fd");
    match fs::metadata(folder).ok()?.len() {
        0 => u64::try_from(fs::read_dir(folder).ok()?.count()).ok(),
        count => Some(count),
    }
}

fn address_space() -> Option<u64> {
    let (limit, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (limit != nix::sys::resource::RLIM_INFINITY).then_some(limit)
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Limits of the control group of this process and of those above it, version 2 and 1.
fn cgroup_limits() -> Vec<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let is_v1 = controllers.split(',').any(|controller| controller == "memory");
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if is_v1 => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let file = Path::new(root).join(folder).join(file);
            let limit = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
            // Version 1 says "none" as a number near the largest.
            limits.extend(limit.filter(|limit| *limit < 1 << 60));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: this process has memory and descriptors in use, and both are shares of a limit.
    #[test]
    fn the_process_sees_its_own_limits() {
        let limits = MemoryLimits::read();
        assert!(limits.smallest().is_some_and(|limit| limit > 1 << 20));
        assert!(limits.used_percent() <= 100 && descriptors_percent() <= 100);
        assert!(memory_in_use().is_some_and(|(size, resident)| size >= resident && resident > 1 << 20));
        assert!(descriptors_in_use().is_some_and(|open| open >= 3));
        assert_eq!((percent(1, 0), percent(50, 200), percent(9, 3)), (100, 25, 100));
    }
}
