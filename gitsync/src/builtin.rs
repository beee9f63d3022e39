//! The built-in repository: made at the first start, with hooks that ask the server.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use git2::{Repository, RepositoryInitOptions};
use jiff::Timestamp;

use crate::{
    import::{self, ImportError, Take},
    status::signature,
};

/// How the hooks reach the server.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The program to run, by its absolute path.
    pub binary: PathBuf,
    /// `https://HOST:PORT`.
    pub server: String,
    pub token_file: PathBuf,
    pub ca_file: PathBuf,
}

/// Why there is no built-in repository.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    #[error("the built-in repository {}: {reason}", dir.display())]
    Git { dir: PathBuf, reason: String },
    #[error("the folder {} of the built-in repository cannot be made", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("the built-in repository's hook {}: {error}", path.display())]
    Hook { path: PathBuf, error: io::Error },
    #[error("the built-in repository cannot be seeded")]
    Seed(#[from] ImportError),
}

/// Opens the built-in repository, or makes it; `seed` is a folder whose files become the first commit
/// of a branch that has none. The hooks are written anew at each call. Blocks.
///
/// # Errors
/// When the folder cannot be made or holds something else, and when the seed cannot be read.
pub fn ensure_builtin(
    dir: &Path,
    branch: &str,
    seed: Option<&Path>,
    hook: &Hook,
    at: Timestamp,
) -> Result<(), BuiltinError> {
    let git = |error: git2::Error| BuiltinError::Git {
        dir: dir.to_path_buf(),
        reason: error.message().to_owned(),
    };
    make_private(dir).map_err(|source| BuiltinError::Folder {
        dir: dir.to_path_buf(),
        source,
    })?;
    let reference = format!("refs/heads/{branch}");
    let repo = match Repository::open_bare(dir) {
        Ok(repo) => repo,
        Err(_) => {
            let mut options = RepositoryInitOptions::new();
            options
                .bare(true)
                .mkpath(true)
                .external_template(false)
                .initial_head(branch);
            Repository::init_opts(dir, &options).map_err(git)?
        }
    };
    configure(&repo).map_err(git)?;
    repo.set_head(&reference).map_err(git)?;
    for stage in ["pre-receive", "post-receive"] {
        write_hook(&dir.join("hooks"), stage, hook)?;
    }
    if let Some(seed) = seed
        && repo.find_reference(&reference).is_err()
    {
        let (tree, _) = import::folder(&repo, seed, Take::Everything)?;
        let commit = || {
            let who = signature(at)?;
            let tree = repo.find_tree(tree)?;
            repo.commit(Some(&reference), &who, &who, "Start from the examples\n", &tree, &[])
        };
        commit().map_err(git)?;
    }
    Ok(())
}

/// Makes a folder that its owner alone can enter, or makes it so: manifests hold Secrets.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

fn configure(repo: &Repository) -> Result<(), git2::Error> {
    let mut config = repo.config()?;
    config.set_bool("http.receivepack", true)?;
    config.set_bool("receive.advertisePushOptions", true)?;
    // The history of a branch is kept where people look for what a force-push lost.
    config.set_bool("core.logAllRefUpdates", true)?;
    Ok(())
}

fn write_hook(folder: &Path, stage: &str, hook: &Hook) -> Result<(), BuiltinError> {
    let path = folder.join(stage);
    // A push may run the hook at this moment: it finds the old one or the new one, whole.
    let fresh = folder.join(format!(".{stage}.new"));
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(&fresh, script(stage, hook))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|error| BuiltinError::Hook {
        path: path.clone(),
        error,
    })
}

fn script(stage: &str, hook: &Hook) -> String {
    let binary = quote(&hook.binary.to_string_lossy());
    let call = format!(
        "{binary} hook {stage} --server {} --token-file {} --ca-file {}",
        quote(&hook.server),
        quote(&hook.token_file.to_string_lossy()),
        quote(&hook.ca_file.to_string_lossy()),
    );
    let head = "#!/bin/sh\n# Written by Towline at each start; changes are lost.\n";
    if stage == "post-receive" {
        return format!("{head}[ -x {binary} ] || exit 0\nexec {call}\n");
    }
    // The program itself gives up after 10 s; `timeout` is for one that cannot.
    format!(
        "{head}if [ ! -x {binary} ]; then\n  \
           echo \"refused: the program that checks pushes is not there:\" {binary} >&2\n  exit 1\n\
         fi\n\
         if command -v timeout >/dev/null 2>&1; then limit='timeout -k 1 13'; else limit=; fi\n\
         $limit {call}\n\
         code=$?\n\
         case $code in\n  \
           0) exit 0 ;;\n  \
           124|137) echo \"refused: no answer from the server in 10 s; is it running?\" >&2 ;;\n\
         esac\n\
         exit 1\n"
    )
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Repacks the built-in repository if git finds it worth while. Blocks; costs nearly nothing when
/// there is nothing to do.
///
/// # Errors
/// When git cannot be run.
pub fn tidy(dir: &Path) -> io::Result<()> {
    let status = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["gc", "--auto", "--quiet"])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("git gc ended with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(binary: &Path) -> Hook {
        Hook {
            binary: binary.to_path_buf(),
            server: "https://127.0.0.1:6443".into(),
            token_file: "/it's/token".into(),
            ca_file: "/ca.crt".into(),
        }
    }

    fn run(script: &str) -> (Option<i32>, String) {
        let done = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        (
            done.status.code(),
            String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned(),
        )
    }

    #[test]
    fn a_hook_passes_its_answer_on_and_refuses_without_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let binary = dir.path().join("tow line");
        let (code, text) = run(&script("pre-receive", &hook(&binary)));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("is not there"), "{text}");
        assert_eq!(run(&script("post-receive", &hook(&binary))).0, Some(0));
        for (body, code) in [("echo \"$@\"", 0), ("exit 1", 1), ("exit 124", 1)] {
            fs::write(&binary, format!("#!/bin/sh\n{body}\n")).expect("written");
            fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("executable");
            let (found, text) = run(&script("pre-receive", &hook(&binary)));
            assert_eq!(found, Some(code), "{body}: {text}");
            if code == 0 {
                assert_eq!(
                    text.trim(),
                    "hook pre-receive --server https://127.0.0.1:6443 --token-file /it's/token --ca-file /ca.crt"
                );
            }
        }
    }

    #[test]
    fn the_repository_is_made_once_and_seeded_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (repo_dir, seed) = (dir.path().join("repo.git"), dir.path().join("seed"));
        fs::create_dir_all(seed.join("namespaces/shop")).expect("made");
        fs::write(seed.join("namespaces/shop/a.yaml"), "a: 1\n").expect("written");
        fs::write(seed.join("README.md"), "hello\n").expect("written");
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let ensure =
            || ensure_builtin(&repo_dir, "main", Some(&seed), &hook(Path::new("/bin/true")), at).expect("made");
        fs::create_dir(&repo_dir).expect("made");
        fs::set_permissions(&repo_dir, fs::Permissions::from_mode(0o755)).expect("set");
        ensure();
        let mode = fs::metadata(&repo_dir).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "manifests hold Secrets");
        let repo = Repository::open_bare(&repo_dir).expect("it is there");
        let first = repo.refname_to_id("refs/heads/main").expect("seeded");
        let tree = repo.find_commit(first).expect("a commit").tree().expect("a tree");
        assert!(tree.get_path(Path::new("namespaces/shop/a.yaml")).is_ok());
        assert!(tree.get_path(Path::new("README.md")).is_ok());
        fs::write(seed.join("README.md"), "changed\n").expect("written");
        ensure();
        assert_eq!(
            repo.refname_to_id("refs/heads/main").expect("there"),
            first,
            "a branch with commits is left alone"
        );
    }
}
