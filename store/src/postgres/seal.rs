//! Sealing: what may hold a secret is encrypted before it reaches the database.

use std::{fmt, fs, io, io::Write as _, os::unix::fs::OpenOptionsExt, path::Path};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead, Payload},
};
use hmac::{Hmac, KeyInit as _, Mac};
use rand::RngCore;
use schemas::ContentHash;
use sha2::Sha256;

use crate::log::LogError;

/// The key that everything sealed hangs on. Without it the database cannot be read.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Reads the key from a file of 64 hexadecimal digits; makes file and key where there is none.
    /// Keep a copy of the file with each backup of the database.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let mut key = [0; 32];
                hex::decode_to_slice(text.trim(), &mut key).map_err(|error| {
                    let what = format!("{} must hold 64 hexadecimal digits: {error}", path.display());
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })?;
                Ok(Self(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                rand::rng().fill_bytes(&mut key);
                let draft = path.with_extension("new");
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut file = options.open(&draft)?;
                writeln!(file, "{}", hex::encode(key))?;
                file.sync_all()?;
                // Another process may have made one meanwhile: then that one counts.
                match fs::hard_link(&draft, path) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
                fs::remove_file(&draft)?;
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    fs::File::open(folder)?.sync_all()?;
                }
                Self::load_or_create(path)
            }
            Err(error) => Err(error),
        }
    }
}

/// A name for content in the database that only the key's holder can compute.
pub(crate) type ContentId = [u8; 32];

/// Seals and opens.
#[derive(Clone)]
pub(crate) struct Sealer {
    seal: Hmac<Sha256>,
    name: Hmac<Sha256>,
}

const FORMAT: u8 = 1;
const SALT: usize = 16;

impl Sealer {
    pub(crate) fn new(master: &MasterKey) -> Self {
        let derive = |purpose: &[u8]| keyed(&digest(&keyed(&master.0), &[purpose]));
        Self {
            seal: derive(b"towline seal 1"),
            name: derive(b"towline content id 1"),
        }
    }

    pub(crate) fn content_id(&self, hash: ContentHash) -> ContentId {
        digest(&self.name, &[&hash.0])
    }

    /// Seals a text for one place: it opens only with the same `place` and `id`.
    ///
    /// Each text has a key of its own, made from a random salt: random nonces alone would not do for
    /// as many texts as a busy cluster seals.
    pub(crate) fn seal(&self, place: &str, id: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut salt = [0; SALT];
        rand::rng().fill_bytes(&mut salt);
        let aad = [place.as_bytes(), b"\0", id].concat();
        let sealed = self
            .cipher(&salt)
            .encrypt(&[0; 12].into(), Payload { msg: plain, aad: &aad })
            // It fails for texts of over 64 GiB alone, which memory does not hold.
            .unwrap_or_default();
        let mut out = Vec::with_capacity(1 + SALT + sealed.len());
        out.push(FORMAT);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&sealed);
        out
    }

    pub(crate) fn open(&self, place: &str, id: &[u8], sealed: &[u8]) -> Result<Vec<u8>, LogError> {
        let broken = || LogError::Foreign(format!("a sealed text in {place} does not open with this master key"));
        let (head, sealed) = sealed.split_at_checked(1 + SALT).ok_or_else(broken)?;
        let (format, salt) = head.split_at(1);
        if format != [FORMAT] {
            return Err(LogError::Foreign(format!(
                "a sealed text in {place} has format {format:?}; a newer version of Towline wrote it"
            )));
        }
        let aad = [place.as_bytes(), b"\0", id].concat();
        self.cipher(salt)
            .decrypt(&[0; 12].into(), Payload { msg: sealed, aad: &aad })
            .map_err(|_| broken())
    }

    fn cipher(&self, salt: &[u8]) -> Aes256Gcm {
        Aes256Gcm::new(&digest(&self.seal, &[salt]).into())
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a key to its block with zeros; doing so here leaves nothing that can fail.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

fn digest(mac: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let sealer = Sealer::new(&MasterKey::new([7; 32]));
        let sealed = sealer.seal("meta", b"1", b"text");
        assert_eq!(sealer.open("meta", b"1", &sealed).expect("it opens"), b"text");
        assert_ne!(sealed, sealer.seal("meta", b"1", b"text"));
        assert!(sealer.open("meta", b"2", &sealed).is_err());
        assert!(sealer.open("body", b"1", &sealed).is_err());
        let other = Sealer::new(&MasterKey::new([8; 32]));
        assert!(other.open("meta", b"1", &sealed).is_err());
        let hash = ContentHash::of_bytes(b"x");
        assert_ne!(sealer.content_id(hash), other.content_id(hash));
        for end in 0..sealed.len() {
            assert!(sealer.open("meta", b"1", &sealed[..end]).is_err());
        }
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        let made = MasterKey::load_or_create(&path).expect("made");
        assert_eq!(MasterKey::load_or_create(&path).expect("read").0, made.0);
        fs::write(&path, "short").expect("written");
        assert!(MasterKey::load_or_create(&path).is_err());
    }
}
