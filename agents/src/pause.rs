//! The image of the container that holds the network of a pod of several containers.
//!
//! It is a program of a few instructions that waits for ever, written here byte by byte: so it needs
//! no registry, no compiler and nothing of the host, and uses a page of memory.

use bytes::Bytes;

/// The image's name. Its tag rises when the bytes change.
pub(crate) const IMAGE: &str = "towline/pause:1";
/// Configuration of the image.
pub(crate) const CHANGES: &[&str] = &["ENTRYPOINT [\"/pause\"]"];

/// Where the program is loaded; the usual place.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// A tar archive with the program for an architecture, named as Go does; `None` for another one.
#[must_use]
pub(crate) fn tar(architecture: &str) -> Option<Bytes> {
    let (machine, code): (u16, &[u8]) = match architecture {
        // again: mov eax, 34 (pause); syscall; jmp again
        "amd64" | "x86_64" => (62, &[0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
        // again: mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b again
        "arm64" | "aarch64" => (
            183,
            &[
                0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x04,
                0x00, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xf9, 0xff, 0xff, 0x17,
            ],
        ),
        _ => return None,
    };
    Some(archive("pause", &program(machine, code)).into())
}

/// A 64-bit ELF file of one segment.
fn program(machine: u16, code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut file = Vec::with_capacity(size as usize);
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend((BASE + HEADERS).to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// A tar archive of one executable file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_waits() {
        let tar = tar(std::env::consts::ARCH).expect("this machine is of a known architecture");
        let dir = std::env::temp_dir().join(format!("towline-pause-{}", std::process::id()));
        let size =
            u64::from_str_radix(std::str::from_utf8(&tar[124..135]).expect("digits"), 8).expect("octal") as usize;
        crate::state::replace_file(&dir, &tar[512..512 + size], 0o755).expect("a file can be written");
        let mut child = std::process::Command::new(&dir)
            .spawn()
            .expect("the program can be run");
        let state = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut last = String::new();
        for _ in 0..1000 {
            last = state(child.id());
            if last.contains(") S ") {
                break;
            }
            std::thread::yield_now();
        }
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended: {last}");
        assert!(last.contains(") S "), "it does not sleep: {last}");
        child.kill().expect("it can be killed");
        let _ = child.wait();
        let _ = std::fs::remove_file(dir);
    }
}
