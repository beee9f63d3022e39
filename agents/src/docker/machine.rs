//! What the machine has and uses, read from the kernel.

use std::{fs, path::Path};

use nix::sys::statvfs::statvfs;

use crate::runtime::{Machine, Pids, Space, Usage};

/// Ticks in a second, as `/proc/stat` counts: the kernel's promise to programs.
const TICKS: u64 = 100;

/// Reads what can be read; what cannot is none. `data` is where the agent keeps the pods' volumes, `images`
/// where the engine keeps images.
pub(super) fn read(data: Option<&Path>, images: &Path) -> Machine {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = memory(&text("/proc/meminfo"));
    Machine {
        usage: cpu(&text("/proc/stat"))
            .zip(memory)
            .map(|(cpu, (total, available))| Usage {
                cpu,
                memory: total - available,
            }),
        memory_available: memory.map(|(_, available)| available),
        node_space: data.and_then(space),
        image_space: space(images),
        pids: pids(
            &text("/proc/loadavg"),
            &text("/proc/sys/kernel/pid_max"),
            &text("/proc/sys/kernel/threads-max"),
        ),
    }
}

/// Nanoseconds of CPU since the boot: all but idling and waiting for a disk. Guests are in `user` already.
fn cpu(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, soft, steal, ..] = ticks[..] else {
        return None;
    };
    Some((user + nice + system + irq + soft + steal) * (1_000_000_000 / TICKS))
}

/// All memory, and what is left: as the eviction of Kubernetes counts, page cache that was not used for a
/// while is left, and all other is not.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    let total = field("MemTotal")?;
    let available = field("MemFree")? + field("Inactive(file)").unwrap_or(0);
    Some((total, available.min(total)))
}

fn space(path: &Path) -> Option<Space> {
    // A folder that is not there yet will be in the file system of the one above it.
    let path = path.ancestors().find(|path| path.exists())?;
    let found = statvfs(path).ok()?;
    let block = found.fragment_size();
    Some(Space {
        bytes: found.blocks() * block,
        bytes_free: found.blocks_available() * block,
        inodes: found.files(),
        inodes_free: found.files_available(),
    })
}

/// `loadavg` has the number of all threads behind its fourth word's slash.
fn pids(loadavg: &str, pid_max: &str, threads_max: &str) -> Option<Pids> {
    let used = loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = |text: &str| text.trim().parse::<u64>().ok();
    let most = [most(pid_max), most(threads_max)].into_iter().flatten().min()?;
    Some(Pids { used, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(
            cpu("cpu  100 10 50 900 40 1 2 3 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"),
            Some(166 * 10_000_000)
        );
        assert_eq!(cpu("intr 5\n"), None);
        let info =
            "MemTotal:       1000 kB\nMemFree:         200 kB\nMemAvailable:    900 kB\nInactive(file):  300 kB\n";
        assert_eq!(memory(info), Some((1000 << 10, 500 << 10)));
        assert_eq!(memory("MemTotal: 5 kB\n"), None);
        let found = pids("0.10 0.20 0.30 2/454 31875\n", "32768\n", "192730\n").expect("it is there");
        assert_eq!((found.used, found.most), (454, 32768));
        assert_eq!(pids("", "1", "1"), None);
        let here = space(Path::new("/nowhere/at/all")).expect("the root is there");
        assert!(here.bytes > here.bytes_free);
    }
}
