//! The file of known hosts, in the format of OpenSSH (see `sshd(8)`, "SSH_KNOWN_HOSTS FILE FORMAT").

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

/// The host keys to trust.
pub(crate) struct KnownHosts {
    lines: Vec<Line>,
}

struct Line {
    revoked: bool,
    hosts: Vec<Host>,
    key: Vec<u8>,
}

enum Host {
    /// May hold `*` and `?`.
    Pattern { text: String, negated: bool },
    /// HMAC-SHA-1 of the name under the salt.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// What the file says of a key that a host showed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostKey {
    Known,
    /// The host is there, with other keys only.
    Changed,
    Revoked,
    Unknown,
}

impl KnownHosts {
    /// Lines that cannot be read, and certificate authorities, trust nothing.
    pub(crate) fn read(text: &str) -> Self {
        Self {
            lines: text.lines().filter_map(Line::read).collect(),
        }
    }

    pub(crate) fn check(&self, host: &str, port: u16, key: &[u8]) -> HostKey {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.names(&name)).collect();
        let shown = |revoked: bool| lines.iter().any(|line| line.revoked == revoked && line.key == key);
        if shown(true) {
            HostKey::Revoked
        } else if shown(false) {
            HostKey::Known
        } else if lines.iter().any(|line| !line.revoked) {
            HostKey::Changed
        } else {
            HostKey::Unknown
        }
    }
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut first = words.next().filter(|word| !word.starts_with('#'))?;
        let mut revoked = false;
        if let Some(marker) = first.strip_prefix('@') {
            if marker != "revoked" {
                return None;
            }
            revoked = true;
            first = words.next()?;
        }
        let _algorithm = words.next()?;
        let key = STANDARD.decode(words.next()?).ok()?;
        let hosts = first.split(',').filter_map(Host::read).collect();
        Some(Self { revoked, hosts, key })
    }

    fn names(&self, name: &str) -> bool {
        let mut found = false;
        for host in &self.hosts {
            match host {
                Host::Hashed { salt, hash } => found |= hmac_sha1(salt, name.as_bytes())[..] == hash[..],
                Host::Pattern { text, negated } if matches(text.as_bytes(), name.as_bytes()) => {
                    if *negated {
                        return false;
                    }
                    found = true;
                }
                Host::Pattern { .. } => {}
            }
        }
        found
    }
}

impl Host {
    fn read(word: &str) -> Option<Self> {
        if let Some(hashed) = word.strip_prefix("|1|") {
            let (salt, hash) = hashed.split_once('|')?;
            return Some(Self::Hashed {
                salt: STANDARD.decode(salt).ok()?,
                hash: STANDARD.decode(hash).ok()?,
            });
        }
        let (negated, text) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        Some(Self::Pattern {
            text: text.to_ascii_lowercase(),
            negated,
        })
    }
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for byte in pattern {
        let mut next = vec![false; text.len() + 1];
        if *byte == b'*' {
            let mut open = false;
            for place in 0..=text.len() {
                open |= reach[place];
                next[place] = open;
            }
        } else {
            for place in 0..text.len() {
                next[place + 1] = reach[place] && (*byte == b'?' || *byte == text[place]);
            }
        }
        reach = next;
    }
    reach[text.len()]
}

/// As RFC 2104 has it; SHA-1 is what the file format prescribes for hiding names.
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    match key.len() > BLOCK {
        true => block[..20].copy_from_slice(&Sha1::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let inner = Sha1::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha1::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_rfc_2202() {
        assert_eq!(
            hex::encode(hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }

    #[test]
    fn hosts_are_found_by_name_port_pattern_and_hash() {
        let (a, b) = (STANDARD.encode("key-a"), STANDARD.encode("key-b"));
        let salt = STANDARD.encode("salt");
        let hash = STANDARD.encode(hmac_sha1(b"salt", b"hidden.example"));
        let known = KnownHosts::read(&format!(
            "# mine\ngit.example,10.0.0.1 ssh-ed25519 {a}\n[git.example]:2222 ssh-ed25519 {b} comment\n\
             *.lab.example,!bad.lab.example ssh-rsa {a}\n|1|{salt}|{hash} ssh-rsa {b}\n@revoked * ssh-rsa {}\n\
             @cert-authority ca.example ssh-rsa {a}\nbroken\n",
            STANDARD.encode("stolen")
        ));
        for (host, port, key, expected) in [
            ("git.example", 22, "key-a", HostKey::Known),
            ("GIT.example", 22, "key-a", HostKey::Known),
            ("git.example", 22, "key-b", HostKey::Changed),
            ("git.example", 2222, "key-b", HostKey::Known),
            ("x.lab.example", 22, "key-a", HostKey::Known),
            ("bad.lab.example", 22, "key-a", HostKey::Unknown),
            ("hidden.example", 22, "key-b", HostKey::Known),
            ("git.example", 22, "stolen", HostKey::Revoked),
            ("ca.example", 22, "key-a", HostKey::Unknown),
            ("other.example", 22, "key-a", HostKey::Unknown),
        ] {
            assert_eq!(known.check(host, port, key.as_bytes()), expected, "{host}:{port} {key}");
        }
    }
}
