//! The volumes of a pod on its node: directories that are bound into its containers.
//!
//! Files from ConfigMaps, Secrets and the pod itself are written into a new directory each time their
//! content changes, and one symbolic link is moved to it, so that a reader sees all of the old or all of the
//! new.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Volume, VolumeProjection};
use schemas::{ContentHash, Kind};

use crate::{
    environment::{ConfigError, Objects, Place, data, field, resource_field},
    pod::Pod,
    state::private_dir,
};

/// Why a volume is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {volume:?}: {error}")]
    Config { volume: String, error: ConfigError },
    #[error("volume {volume:?}: cannot prepare {}: {error}", .path.display())]
    Io {
        volume: String,
        path: PathBuf,
        error: io::Error,
    },
    #[error("volume {volume:?}: hostPath {path:?} is not a {wanted}")]
    HostPath {
        volume: String,
        path: String,
        wanted: String,
    },
    #[error("volume {volume:?}: this kind of volume is not supported")]
    Unsupported { volume: String },
}

/// Where a volume of a pod is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Location {
    /// A path on the host.
    Path(String),
    /// A named volume of Docker, and its path.
    Docker { name: String, path: String },
}

impl Location {
    /// What a container mounts: the volume, or something in it.
    pub(crate) fn at(&self, sub: &str) -> String {
        match (self, sub) {
            (Self::Path(path), "") => path.clone(),
            // By its name, so that Docker knows that it is used.
            (Self::Docker { name, .. }, "") => name.clone(),
            (Self::Path(path) | Self::Docker { path, .. }, sub) => format!("{path}/{sub}"),
        }
    }
}

/// The files of a projected volume, by path, with their mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

const LINK: &str = "..data";

/// Makes or refreshes every volume of a pod below `dir` and returns where each is on the host, with
/// those of claims, which are made already.
///
/// # Errors
/// At the first volume that cannot be made.
pub(crate) fn prepare(
    pod: &Pod,
    objects: &Objects,
    place: &Place,
    dir: Option<&Path>,
    claimed: BTreeMap<String, Location>,
) -> Result<BTreeMap<String, Location>, VolumeError> {
    let mut paths = claimed;
    for volume in pod.spec.volumes.iter().flatten() {
        let name = &volume.name;
        if let Some(host) = &volume.host_path {
            paths.insert(name.clone(), Location::Path(host_path(name, host)?));
            continue;
        }
        if paths.contains_key(name) {
            continue;
        }
        let at = dir.map(|dir| dir.join("volumes").join(name)).unwrap_or_default();
        let io = |error| VolumeError::Io {
            volume: name.clone(),
            path: at.clone(),
            error,
        };
        if let Some(empty) = &volume.empty_dir {
            if dir.is_some() {
                empty_dir(
                    pod,
                    &at,
                    empty.medium.as_deref() == Some("Memory"),
                    empty.size_limit.as_ref().map(|q| q.0.as_str()),
                )
                .map_err(io)?;
            }
        } else {
            let files = render(pod, objects, place, volume).map_err(|error| VolumeError::Config {
                volume: name.clone(),
                error,
            })?;
            let Some(files) = files else {
                return Err(VolumeError::Unsupported { volume: name.clone() });
            };
            if dir.is_some() {
                publish(
                    &at,
                    &files,
                    pod.spec.security_context.as_ref().and_then(|context| context.fs_group),
                )
                .map_err(io)?;
            }
        }
        paths.insert(name.clone(), Location::Path(at.to_string_lossy().into_owned()));
    }
    Ok(paths)
}

/// Writes changed ConfigMaps, Secrets and labels through into the volumes of a running pod.
pub(crate) fn refresh(pod: &Pod, objects: &Objects, place: &Place, dir: &Path) {
    for volume in pod.spec.volumes.iter().flatten() {
        let at = dir.join("volumes").join(&volume.name);
        if !at.join(LINK).exists() {
            continue;
        }
        let fs_group = pod.spec.security_context.as_ref().and_then(|context| context.fs_group);
        let refreshed = match render(pod, objects, place, volume) {
            Ok(Some(files)) => publish(&at, &files, fs_group).map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            // What was removed stays as it was until the pod starts anew.
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = refreshed {
            tracing::warn!(namespace = pod.key.ns(), name = &*pod.key.name, volume = volume.name, %error, "a volume was not refreshed");
        }
    }
}

/// Removes a pod's directory; what is mounted in it is unmounted first.
///
/// # Errors
/// When something in it cannot be removed.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    if let Ok(mounts) = fs::read_to_string("/proc/self/mounts") {
        for line in mounts.lines() {
            let Some(at) = line.split(' ').nth(1) else { continue };
            if Path::new(at).starts_with(dir) {
                let _ = std::process::Command::new("umount").arg(at).status();
            }
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn empty_dir(pod: &Pod, at: &Path, memory: bool, size: Option<&str>) -> io::Result<()> {
    if at.exists() {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        private_dir(parent)?;
    }
    fs::create_dir(at)?;
    if memory {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs"]);
        if let Some(bytes) = size.and_then(|size| size.parse::<schemas::quantity::Quantity>().ok()) {
            mount.args(["-o", &format!("size={}", bytes.value())]);
        }
        let done = mount.arg("tmpfs").arg(at).status()?;
        if !done.success() {
            let _ = fs::remove_dir(at);
            return Err(io::Error::other(
                "mounting a tmpfs failed; an agent needs to be root for it",
            ));
        }
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o777))?;
    give_to_group(
        at,
        pod.spec.security_context.as_ref().and_then(|context| context.fs_group),
    )
}

pub(crate) fn give_to_group(at: &Path, group: Option<i64>) -> io::Result<()> {
    match group.and_then(|group| u32::try_from(group).ok()) {
        Some(group) => {
            chown(at, None, Some(group))?;
            let mode = fs::metadata(at)?.permissions().mode();
            fs::set_permissions(at, fs::Permissions::from_mode(mode | 0o2070))
        }
        None => Ok(()),
    }
}

fn host_path(volume: &str, source: &HostPathVolumeSource) -> Result<String, VolumeError> {
    let path = Path::new(&source.path);
    let io = |error| VolumeError::Io {
        volume: volume.to_owned(),
        path: path.to_owned(),
        error,
    };
    let wanted = source.type_.as_deref().unwrap_or("");
    match wanted {
        "DirectoryOrCreate" => fs::create_dir_all(path).map_err(io)?,
        "FileOrCreate" if !path.exists() => fs::write(path, "").map_err(io)?,
        _ => {}
    }
    let fits = match (wanted, fs::metadata(path)) {
        ("", Ok(_)) => true,
        // Like upstream, a path without a type may not be there yet.
        ("", Err(_)) => {
            fs::create_dir_all(path).map_err(io)?;
            true
        }
        (_, Err(_)) => false,
        ("Directory" | "DirectoryOrCreate", Ok(meta)) => meta.is_dir(),
        ("File" | "FileOrCreate", Ok(meta)) => meta.is_file(),
        ("Socket", Ok(meta)) => meta.file_type().is_socket(),
        ("CharDevice", Ok(meta)) => meta.file_type().is_char_device(),
        ("BlockDevice", Ok(meta)) => meta.file_type().is_block_device(),
        _ => false,
    };
    if fits {
        Ok(source.path.clone())
    } else {
        Err(VolumeError::HostPath {
            volume: volume.to_owned(),
            path: source.path.clone(),
            wanted: wanted.to_owned(),
        })
    }
}

/// What a volume, or one part of a projected one, takes its files from.
enum Source<'a> {
    Object {
        kind: Kind,
        name: &'a str,
        items: &'a Option<Vec<KeyToPath>>,
        optional: Option<bool>,
    },
    Downward(&'a Option<Vec<DownwardAPIVolumeFile>>),
}

fn config_map<'a>(name: &'a str, items: &'a Option<Vec<KeyToPath>>, optional: Option<bool>) -> Source<'a> {
    Source::Object {
        kind: Kind::ConfigMap,
        name,
        items,
        optional,
    }
}

fn secret<'a>(name: &'a str, items: &'a Option<Vec<KeyToPath>>, optional: Option<bool>) -> Source<'a> {
    Source::Object {
        kind: Kind::Secret,
        name,
        items,
        optional,
    }
}

fn part(part: &VolumeProjection) -> Result<Source<'_>, ConfigError> {
    if let Some(source) = &part.config_map {
        Ok(config_map(&source.name, &source.items, source.optional))
    } else if let Some(source) = &part.secret {
        Ok(secret(&source.name, &source.items, source.optional))
    } else if let Some(source) = &part.downward_api {
        Ok(Source::Downward(&source.items))
    } else {
        Err(ConfigError::Invalid(
            "service account tokens are not issued yet".to_owned(),
        ))
    }
}

/// The files of a volume whose content comes from objects; `None` for another kind of volume.
fn render(pod: &Pod, objects: &Objects, place: &Place, volume: &Volume) -> Result<Option<Files>, ConfigError> {
    let (sources, mode) = if let Some(source) = &volume.config_map {
        let only = config_map(&source.name, &source.items, source.optional);
        (vec![only], source.default_mode)
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or("");
        (vec![secret(name, &source.items, source.optional)], source.default_mode)
    } else if let Some(source) = &volume.downward_api {
        (vec![Source::Downward(&source.items)], source.default_mode)
    } else if let Some(source) = &volume.projected {
        let parts = source.sources.iter().flatten().map(part);
        (parts.collect::<Result<_, _>>()?, source.default_mode)
    } else {
        return Ok(None);
    };
    let mode = u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
    let mut files = Files::new();
    for source in sources {
        match source {
            Source::Object {
                kind,
                name,
                items,
                optional,
            } => {
                let found = data(objects, kind, pod.key.ns(), name);
                pick(&mut files, found, items.as_deref(), optional, mode, name)?;
            }
            Source::Downward(items) => downward(&mut files, pod, place, items.as_deref(), mode)?,
        }
    }
    Ok(Some(files))
}

fn pick(
    files: &mut Files,
    found: Result<BTreeMap<String, Vec<u8>>, ConfigError>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
    name: &str,
) -> Result<(), ConfigError> {
    let optional = optional == Some(true);
    let mut data = match found {
        Ok(data) => data,
        Err(_) if optional => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(data.into_iter().map(|(key, bytes)| (key, (bytes, mode))));
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
                files.insert(inside(&item.path)?, (bytes, mode));
            }
            None if optional => {}
            None => {
                return Err(ConfigError::Invalid(format!(
                    "references non-existent key {:?} of {name:?}",
                    item.key
                )));
            }
        }
    }
    Ok(())
}

fn downward(
    files: &mut Files,
    pod: &Pod,
    place: &Place,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
) -> Result<(), ConfigError> {
    for item in items.unwrap_or(&[]) {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field(pod, place, &reference.field_path)?,
            (_, Some(reference)) => resource_field(pod, "", place, reference)?,
            _ => String::new(),
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        files.insert(inside(&item.path)?, (text.into_bytes(), mode));
    }
    Ok(())
}

/// A path that stays inside its volume.
fn inside(path: &str) -> Result<String, ConfigError> {
    let outside = path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..");
    if outside || path.starts_with("..") {
        return Err(ConfigError::Invalid(format!(
            "path {path:?} must be relative and stay inside the volume"
        )));
    }
    Ok(path.to_owned())
}

/// Puts `files` in the place of what the volume shows now, in one step.
fn publish(at: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    if let Some(parent) = at.parent() {
        private_dir(parent)?;
    }
    if !at.exists() {
        fs::create_dir(at)?;
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
    }
    let mut named = Vec::new();
    for (path, (bytes, mode)) in files {
        named.extend_from_slice(path.as_bytes());
        named.extend_from_slice(&mode.to_le_bytes());
        named.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        named.extend_from_slice(bytes);
    }
    let version = format!("..{}", &ContentHash::of_bytes(&named).to_string()[..24]);
    let before = fs::read_link(at.join(LINK)).ok();
    if before.as_deref() == Some(Path::new(&version)) {
        return Ok(());
    }
    let new = at.join(&version);
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, (bytes, mode)) in files {
        let file = new.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
        if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
            chown(&file, None, Some(group))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode | 0o040))?;
        }
    }
    let link = at.join("..data_new");
    let _ = fs::remove_file(&link);
    symlink(&version, &link)?;
    fs::rename(&link, at.join(LINK))?;
    // The names that the reader sees: links through the one that moves.
    let mut tops: Vec<&str> = files
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path))
        .collect();
    tops.dedup();
    for top in &tops {
        let shown = at.join(top);
        if fs::symlink_metadata(&shown).is_err() {
            symlink(Path::new(LINK).join(top), &shown)?;
        }
    }
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.iter().any(|top| *top == name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(before) = before {
        let _ = fs::remove_dir_all(at.join(before));
    }
    Ok(())
}
