//! The machine's own PostgreSQL programs: finding them and making a cluster with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{PrivateError, USER, failed, place::Place};

/// Programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    /// As PG_VERSION has it: `15`.
    pub(super) version: String,
}

impl Binaries {
    /// Finds programs that fit an existing cluster, or the newest.
    pub(super) fn find(configured: Option<&Path>, place: &Place) -> Result<Self, PrivateError> {
        let needed = match fs::read_to_string(place.cluster.join("PG_VERSION")) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read the version of", &place.cluster)(error)),
        };
        let folders = match configured {
            Some(folder) => vec![folder.to_owned()],
            None => candidates(),
        };
        let found: Vec<Self> = folders.iter().filter_map(|folder| Self::in_folder(folder)).collect();
        let fits = |binaries: &&Self| needed.as_ref().is_none_or(|needed| *needed == binaries.version);
        if let Some(fitting) = found.iter().find(fits) {
            return Ok(fitting.clone());
        }
        match needed {
            Some(needed) if !found.is_empty() => Err(PrivateError::ForeignVersion {
                folder: place.cluster.clone(),
                found: needed,
                have: found
                    .iter()
                    .map(|one| one.version.clone())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            _ => Err(PrivateError::NoBinaries {
                looked: match configured {
                    Some(folder) => folder.display().to_string(),
                    None => "/usr/lib/postgresql/*/bin and on PATH".to_owned(),
                },
            }),
        }
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = std::process::Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        // `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().nth(2)?;
        let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        Some(Self {
            folder: folder.to_owned(),
            version: version[..end].to_owned(),
        })
    }

    /// A program, to run as the cluster's user with nothing of our environment that would bend it.
    pub(super) fn command(&self, program: &str, place: &Place) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        if place.switch {
            command.uid(place.uid.as_raw()).gid(place.gid.as_raw());
        }
        command
    }

    /// Makes a cluster where there is none. It is made aside and moved into place when it is whole, so
    /// that a kill in the middle leaves nothing that looks like a cluster.
    pub(super) async fn make_cluster(&self, place: &Place, durable: bool) -> Result<(), PrivateError> {
        if place.cluster.join("PG_VERSION").exists() {
            return Ok(());
        }
        let draft = place.data_dir.join("postgres.new");
        match fs::remove_dir_all(&draft) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &draft)(error)),
        }
        place.make_private(&draft)?;
        let output = self
            .command("initdb", place)
            .arg("-D")
            .arg(&draft)
            .args(["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--data-checksums", "--no-instructions"])
            .args((!durable).then_some("--no-sync"))
            .output()
            .await
            .map_err(failed("run initdb in", &self.folder))?;
        if !output.status.success() {
            return Err(PrivateError::InitDb {
                folder: draft,
                output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        // The folder of the socket keeps everyone else out, and there is no other way in.
        let hba = draft.join("pg_hba.conf");
        fs::write(&hba, "local all all trust\nlocal replication all trust\n").map_err(failed("write", &hba))?;
        fs::File::open(&hba)
            .and_then(|file| file.sync_all())
            .map_err(failed("write", &hba))?;
        // An empty folder may stand there already; anything else does not give way.
        fs::rename(&draft, &place.cluster).map_err(failed("move the new cluster to", &place.cluster))?;
        fs::File::open(&place.data_dir)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("write", &place.data_dir))
    }
}

/// Debian's folders, the newest first, then those on PATH.
fn candidates() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    versions.into_iter().map(|(_, folder)| folder).chain(on_path).collect()
}
