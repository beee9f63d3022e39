use super::*;

fn files(text: &str) -> Files {
    BTreeMap::from([("key".to_owned(), (text.as_bytes().to_vec(), 0o644))])
}

#[test]
fn a_link_that_somebody_else_made_removes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().join("volume");
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).expect("made");
    fs::write(precious.join("file"), "x").expect("written");
    publish(&at, &files("1"), None).expect("published");
    for hostile in [precious.as_path(), Path::new("../precious"), Path::new("..")] {
        fs::remove_file(at.join(LINK)).expect("removed");
        symlink(hostile, at.join(LINK)).expect("linked");
        publish(&at, &files(&hostile.to_string_lossy()), None).expect("published");
        assert!(precious.join("file").exists(), "{}", hostile.display());
        let shown = fs::read_to_string(at.join("key")).expect("read");
        assert_eq!(shown, hostile.to_string_lossy());
    }
    // Nor does a name of ours that leads elsewhere.
    fs::remove_file(at.join(LINK)).expect("removed");
    symlink(&precious, at.join("..mine")).expect("linked");
    symlink("..mine", at.join(LINK)).expect("linked");
    publish(&at, &files("2"), None).expect("published");
    assert!(precious.join("file").exists());
}

#[test]
fn what_is_replaced_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().join("volume");
    for text in ["1", "2", "3"] {
        publish(&at, &files(text), None).expect("published");
    }
    let kept = fs::read_dir(&at).expect("read").count();
    assert_eq!(kept, 3, "the key, the link and one version");
}

#[test]
fn mount_points_are_read_as_they_are() {
    let table = "proc /proc proc rw 0 0\n\
        tmpfs /pods/a/volumes/m tmpfs rw 0 0\n\
        /dev/sda1 /pods/a/volumes/m/with\\040blank\\134 ext4 rw 0 0\n\
        tmpfs /pods/ab tmpfs rw 0 0\n";
    assert_eq!(
        mounted_below(table, Path::new("/pods/a")),
        [
            PathBuf::from("/pods/a/volumes/m"),
            PathBuf::from("/pods/a/volumes/m/with blank\\")
        ]
    );
}

#[test]
#[allow(clippy::print_stderr, reason = "a skip is told")]
fn a_mount_that_is_in_use_keeps_everything() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let pod = dir.path().join("pod");
    let (outer, inner) = (pod.join("outer"), pod.join("outer/in ner"));
    let mount = |at: &Path| {
        fs::create_dir_all(at).expect("made");
        let none = None::<&str>;
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("mounted");
    };
    mount(&outer);
    mount(&inner);
    let file = inner.join("file");
    fs::write(&file, "x").expect("written");
    let open = fs::File::open(&file).expect("open");
    remove(&pod).expect_err("it is in use");
    assert!(file.exists());
    drop(open);
    remove(&pod).expect("nothing uses it now");
    assert!(!pod.exists());
}
