//! Files that flags name: looked at before anything is made or started.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, ensure};

use crate::cli::ServerArgs;

/// What others may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing; its group may read it.
    Secret,
    /// Read it.
    Public,
}

impl Guard {
    /// The bits of a mode that are too many.
    fn excess(self) -> u32 {
        match self {
            Self::Secret => 0o026,
            Self::Public => 0o002,
        }
    }

    fn cure(self) -> &'static str {
        match self {
            Self::Secret => "chmod 600",
            Self::Public => "chmod o-w",
        }
    }
}

/// What the file of a flag holds.
///
/// # Errors
/// The file is not there, is not readable, is no file, is empty, or is open to too many.
pub(crate) fn read(flag: &str, path: &Path, guard: Guard) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let about = || format!("{flag} {shown} cannot be read");
    let metadata = fs::metadata(path).with_context(about)?;
    ensure!(metadata.is_file(), "{flag} {shown} is not a file");
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(
        mode & guard.excess() == 0,
        "{flag} {shown} is open to others (mode {mode:o}): {} {shown}",
        guard.cure()
    );
    let content = fs::read(path).with_context(about)?;
    ensure!(!content.trim_ascii().is_empty(), "{flag} {shown} is empty");
    Ok(content)
}

/// Checks the files that git is to use; they are read anew for every connection later.
///
/// # Errors
/// As [`read`], and a key that is none.
pub(crate) fn check_git(args: &ServerArgs) -> anyhow::Result<()> {
    let git = &args.git;
    for (flag, path, guard) in [
        ("--git-password-file", &git.git_password_file, Guard::Secret),
        ("--git-ssh-key", &git.git_ssh_key, Guard::Secret),
        ("--git-known-hosts", &git.git_known_hosts, Guard::Public),
        ("--git-ca-file", &git.git_ca_file, Guard::Public),
    ] {
        let Some(path) = path else { continue };
        let content = read(flag, path, guard)?;
        if flag == "--git-ssh-key" {
            let private = content.windows(b"PRIVATE KEY".len()).any(|part| part == b"PRIVATE KEY");
            ensure!(
                private,
                "{flag} {} holds no private key in the format PEM or OpenSSH",
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_serve_is_named_with_its_flag() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        for (content, mode, guard, wrong) in [
            (None, 0, Guard::Secret, Some("No such file")),
            (Some(""), 0o600, Guard::Secret, Some("is empty")),
            (Some(" \n"), 0o600, Guard::Public, Some("is empty")),
            (Some("x"), 0o644, Guard::Secret, Some("mode 644")),
            (Some("x"), 0o660, Guard::Secret, Some("chmod 600")),
            (Some("x"), 0o640, Guard::Secret, None),
            (Some("x"), 0o600, Guard::Secret, None),
            (Some("x"), 0o666, Guard::Public, Some("chmod o-w")),
            (Some("x"), 0o644, Guard::Public, None),
        ] {
            if let Some(content) = content {
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            let found = read("--flag", &path, guard).map_err(|error| format!("{error:#}"));
            match (&found, wrong) {
                (Ok(_), None) => {}
                (Err(error), Some(wrong)) => {
                    assert!(error.starts_with("--flag ") && error.contains(wrong), "{error}");
                }
                _ => panic!("{content:?} {mode:o} {guard:?}: {found:?}"),
            }
        }
        let error = read("--flag", folder.path(), Guard::Public).expect_err("it is a folder");
        assert!(error.to_string().ends_with("is not a file"), "{error}");
        Ok(())
    }
}
