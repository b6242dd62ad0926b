//! Files that hold rows, keys or who holds what: for their owner alone, and never reached through a link that
//! somebody else may have laid.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Has every file and folder that this process makes be its owner's alone, whichever library makes it.
pub(crate) fn for_owner_only() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Makes a folder where it is missing, has it be its owner's alone, and tells where it really is.
///
/// # Errors
/// When it can't be made, or others decide what is in it.
pub(crate) fn folder(path: &Path) -> io::Result<PathBuf> {
    if let Ok(found) = fs::symlink_metadata(path)
        && found.is_symlink()
        && !is_trusted(&found)
    {
        return Err(refused("is a link that another user made"));
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => refused("is a link that leads to no folder"),
        Ok(found) if !found.is_dir() => refused("is no folder"),
        _ => error,
    })?;
    let path = path.canonicalize()?;
    secure_folder(&path, &fs::metadata(&path)?)?;
    Ok(path)
}

#[cfg(unix)]
fn secure_folder(path: &Path, found: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const SHARED: u32 = 0o1000;
    if !is_trusted(found) {
        return Err(refused(&format!("belongs to the user {}", found.uid())));
    }
    if found.mode() & SHARED != 0 {
        return Err(refused("is shared by all users; name a folder inside it"));
    }
    if !is_open_to_others(found.mode()) {
        return Ok(());
    }
    if is_own(found) {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
    // A volume that the system mounted; the files in it are still their owner's alone.
    if found.mode() & 0o022 != 0 {
        tracing::warn!(folder = %path.display(), "the folder belongs to root and others can write to it, too");
    }
    Ok(())
}

#[cfg(not(unix))]
fn secure_folder(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Has what is there already be its owner's alone, with all that is in it. What is not there needs nothing.
///
/// # Errors
/// When it is a link, which whoever opens it would follow, or can't be changed.
pub(crate) fn tighten(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        return Err(refused(&format!(
            "holds a link, {}, and none is followed there; remove it",
            path.display()
        )));
    }
    has_one_name(path, &found)?;
    close_to_others(path, &found)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            tighten(&entry?.path())?;
        }
    }
    Ok(())
}

/// Takes the permissions of all but the owner.
#[cfg(unix)]
pub(crate) fn close_to_others(path: &Path, found: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = found.permissions().mode() & 0o7777;
    if !is_open_to_others(mode) || !is_own(found) {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700)) {
        // A writer's draft, gone by now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
pub(crate) fn close_to_others(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Whether others may read or change a file: anybody, or its group where it is this user's own. What another user gives
/// this one to read goes by a group.
#[cfg(unix)]
pub(crate) fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path)
        .is_ok_and(|found| found.is_file() && gives_others(path, found.permissions().mode(), is_own(&found)))
}

#[cfg(unix)]
fn gives_others(path: &Path, mode: u32, is_own: bool) -> bool {
    // Where containers have their secrets only their own users are. Who reads a file outside is decided by the folder that
    // it has there.
    if path.starts_with("/run/secrets") {
        return mode & 0o022 != 0;
    }
    mode & 0o007 != 0 || is_own && is_open_to_others(mode)
}

#[cfg(not(unix))]
pub(crate) fn is_open(_: &Path) -> bool {
    false
}

#[cfg(unix)]
const fn is_open_to_others(mode: u32) -> bool {
    const OTHERS: u32 = 0o077;
    mode & OTHERS != 0
}

/// A hard link is a link that nobody sees: what is written to a file is written under its other names, too.
#[cfg(unix)]
fn has_one_name(path: &Path, found: &Metadata) -> io::Result<()> {
    if found.is_file() && std::os::unix::fs::MetadataExt::nlink(found) > 1 {
        return Err(refused(&format!(
            "has a second name, {} being a hard link; remove the other, or put a copy in its place",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
fn has_one_name(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Opens a file for reading and writing and makes it where it is missing; a link is refused, wherever it leads and
/// whatever kind it is.
///
/// # Errors
/// When it is a link, has other names or is no file, or can't be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    with_restrictions(&mut options);
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("is no file"));
    }
    has_one_name(path, &found)?;
    close_to_others(path, &found)?;
    Ok(file)
}

/// Reads a file that holds a secret.
///
/// # Errors
/// When it is a link or no file, or others could read it, too; else as reading does.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options.read(true);
    with_restrictions(&mut options);
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("is no file"));
    }
    #[cfg(unix)]
    if is_open_to_others(std::os::unix::fs::MetadataExt::mode(&found)) {
        return Err(refused("can be read by others; run `chmod 600` on it"));
    }
    io::read_to_string(file)
}

/// Reads a file that holds a secret and that this program never writes: it may be a link, as what a cluster mounts is.
///
/// # Errors
/// When it is no file, or others could read it, or, through a link, write it or lay the link; else as reading does.
pub(crate) fn read_given(path: &Path) -> io::Result<String> {
    let named = fs::symlink_metadata(path)?;
    if !named.is_symlink() {
        return read(path);
    }
    if !is_trusted(&named) {
        return Err(refused("is a link that another user made"));
    }
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags(rustix::fs::OFlags::empty()));
    let file = options.read(true).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("is a link to what is no file"));
    }
    #[cfg(unix)]
    if !is_trusted(&found) || std::os::unix::fs::MetadataExt::mode(&found) & 0o022 != 0 {
        return Err(refused("is a link to a file that others can write; run `chmod go-w` on that"));
    }
    io::read_to_string(file)
}

/// Makes a file that is not there yet.
///
/// # Errors
/// When something of that name is there, or it can't be made.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    with_restrictions(&mut options);
    options.open(path)
}

/// Makes a file where it is missing, and has one that is there be its owner's alone. That one is not opened: closing any
/// descriptor of a file ends all locks that the process has on it by way of others (POSIX), SQLite's among them.
///
/// # Errors
/// When it is a link, has other names or is no file, or can't be made.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    match create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() && !found.is_symlink() {
        return Err(refused("is no file"));
    }
    tighten(path)
}

#[cfg(unix)]
fn with_restrictions(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600).custom_flags(flags(rustix::fs::OFlags::NOFOLLOW));
}

/// These, and not to wait for whoever would write into a pipe.
#[cfg(unix)]
fn flags(others: rustix::fs::OFlags) -> i32 {
    i32::try_from((others | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or_default()
}

#[cfg(not(unix))]
fn with_restrictions(_: &mut OpenOptions) {}

/// Which file it is, whatever its name: another where one was deleted and made anew, or moved away and replaced.
/// Where the system does not number files (Windows), one can't be told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self { device: found.dev(), inode: found.ino() }
    }

    #[cfg(not(unix))]
    pub(crate) const fn of(_: &Metadata) -> Self {
        Self {}
    }

    /// Which file a name leads to now; `None` where there is none. It opens nothing.
    ///
    /// # Errors
    /// When the folder can't be asked.
    #[cfg(unix)]
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(Self::of(&found))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn at(_: &Path) -> io::Result<Option<Self>> {
        Ok(Some(Self {}))
    }
}

/// A folder that is held open: as long as it is, its number is no other folder's, also where it was deleted.
#[derive(Debug)]
pub(crate) struct OpenFolder {
    #[cfg(unix)]
    _folder: File,
    id: FileId,
}

impl OpenFolder {
    /// # Errors
    /// When there is none, or it can't be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            let folder = File::open(path)?;
            Ok(Self { id: FileId::of(&folder.metadata()?), _folder: folder })
        }
        #[cfg(not(unix))]
        Ok(Self { id: FileId::of(&fs::metadata(path)?) })
    }

    /// Whether this is the folder that a name leads to now.
    ///
    /// # Errors
    /// When that can't be asked.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        // Where folders have no number, only that there is none can be told.
        Ok((cfg!(unix) || path.is_dir()) && FileId::at(path)? == Some(self.id))
    }
}

/// Replaces a file as a whole; on disk when it returns. No reader sees half of it.
///
/// # Errors
/// When its folder can't be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(content)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// A renaming is only on disk with its folder.
///
/// # Errors
/// When the folder can't be opened or synced.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether nobody but this user, and the system's, can have made it.
#[cfg(unix)]
pub(crate) fn is_trusted(found: &Metadata) -> bool {
    is_own(found) || std::os::unix::fs::MetadataExt::uid(found) == 0
}

#[cfg(not(unix))]
pub(crate) fn is_trusted(_: &Metadata) -> bool {
    true
}

#[cfg(unix)]
fn is_own(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(found) == rustix::process::geteuid().as_raw()
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("it {why}"))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("something there").permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }

    #[test]
    fn a_folder_is_made_for_its_owner_alone_and_an_open_one_is_closed() {
        let place = tempfile::tempdir().expect("a folder");
        let made = folder(&place.path().join("a/b")).expect("made");
        assert_eq!((mode(&made), mode(&place.path().join("a"))), (0o700, 0o700));
        set_mode(&made, 0o2775);
        folder(&made).expect("closed");
        assert_eq!(mode(&made), 0o700);
        let link = place.path().join("link");
        symlink(&made, &link).expect("a link");
        assert_eq!(folder(&link).expect("the user's own link"), made.canonicalize().expect("a path"));
    }

    #[test]
    fn what_stands_in_the_place_of_a_folder_is_named() {
        let place = tempfile::tempdir().expect("a folder");
        let (file, link) = (place.path().join("file"), place.path().join("link"));
        fs::write(&file, "").expect("a file");
        symlink(place.path().join("nothing"), &link).expect("a link");
        for (path, named) in [(&file, "it is no folder"), (&link, "it is a link that leads to no folder")] {
            assert_eq!(folder(path).expect_err("refused").to_string(), named);
        }
        fs::remove_file(&link).expect("removed");
        symlink(&file, &link).expect("a link");
        assert!(folder(&link).expect_err("refused").to_string().contains("leads to no folder"));
    }

    #[test]
    fn a_secret_of_a_container_is_open_only_where_others_may_change_it() {
        let (secret, file) = (Path::new("/run/secrets/sluice.env"), Path::new("/etc/sluice.env"));
        for (path, mode, is_own, is_open) in [
            (secret, 0o100_444, false, false),
            (secret, 0o100_444, true, false),
            (secret, 0o100_446, false, true),
            (file, 0o100_444, false, true),
            (file, 0o100_640, true, true),
            (file, 0o100_640, false, false),
            (file, 0o100_600, true, false),
        ] {
            assert_eq!(gives_others(path, mode, is_own), is_open, "{} {mode:o} {is_own}", path.display());
        }
    }

    #[test]
    fn a_folder_that_all_users_share_is_refused_and_left_as_it_is() {
        let place = tempfile::tempdir().expect("a folder");
        set_mode(place.path(), 0o1777);
        let refusal = folder(place.path()).expect_err("shared").to_string();
        assert!(refusal.contains("name a folder inside it"), "{refusal}");
        assert_eq!(mode(place.path()), 0o1777);
    }

    #[test]
    fn what_is_there_is_closed_to_others_all_the_way_down_and_a_link_is_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let (inner, file) = (place.path().join("index/leads"), place.path().join("index/leads/a.store"));
        fs::create_dir_all(&inner).expect("folders");
        fs::write(&file, "x").expect("a file");
        set_mode(&file, 0o644);
        set_mode(&inner, 0o755);
        tighten(&place.path().join("index")).expect("closed");
        assert_eq!((mode(&file), mode(&inner)), (0o600, 0o700));
        tighten(&place.path().join("nothing")).expect("nothing to do");
        symlink("/etc/passwd", inner.join("b.store")).expect("a link");
        let refusal = tighten(&place.path().join("index")).expect_err("a link").to_string();
        assert!(refusal.contains("b.store"), "{refusal}");
    }

    #[test]
    fn a_file_is_opened_for_its_owner_alone_and_not_through_a_link() {
        let place = tempfile::tempdir().expect("a folder");
        let (path, link) = (place.path().join("a"), place.path().join("link"));
        open(&path).expect("made");
        assert_eq!(mode(&path), 0o600);
        set_mode(&path, 0o666);
        open(&path).expect("opened");
        assert_eq!(mode(&path), 0o600);
        let target = place.path().join("target");
        for target in [&path, &target] {
            symlink(target, &link).expect("a link");
            assert!(open(&link).is_err() && create(&link).is_err());
            fs::remove_file(&link).expect("removed");
        }
        assert!(!target.exists(), "nothing was made behind the link");
        assert!(open(place.path()).is_err() && create(&path).is_err());
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_one_that_is_there_is_closed_to_others() {
        let place = tempfile::tempdir().expect("a folder");
        let (path, link) = (place.path().join("a"), place.path().join("link"));
        make(&path).expect("made");
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "content").expect("written");
        set_mode(&path, 0o666);
        make(&path).expect("closed");
        assert_eq!((mode(&path), fs::read_to_string(&path).expect("the file").as_str()), (0o600, "content"));
        for target in [&path, &place.path().join("target")] {
            symlink(target, &link).expect("a link");
            assert!(make(&link).is_err());
            fs::remove_file(&link).expect("removed");
        }
        assert!(make(place.path()).is_err(), "a folder");
    }

    #[test]
    fn a_file_with_a_second_name_is_left_as_it_is() {
        let place = tempfile::tempdir().expect("a folder");
        let (victim, link) = (place.path().join("victim"), place.path().join("sluice.lock"));
        fs::write(&victim, "theirs").expect("a file");
        set_mode(&victim, 0o644);
        fs::hard_link(&victim, &link).expect("a link");
        for refused in [open(&link).map(drop), tighten(&link), make(&link)] {
            let refusal = refused.expect_err("a link");
            assert!(refusal.to_string().contains("hard link"), "{refusal}");
        }
        assert_eq!(
            (fs::read_to_string(&victim).expect("the file").as_str(), mode(&victim)),
            ("theirs", 0o644)
        );
        fs::remove_file(&victim).expect("removed");
        assert!(open(&link).is_ok() && tighten(&link).is_ok());
    }

    #[test]
    fn a_secret_is_read_through_the_links_of_a_mount_and_not_where_others_could_put_another() {
        // As a cluster mounts it: tokens -> ..data/tokens, ..data -> ..2026_11_26
        let place = tempfile::tempdir().expect("a folder");
        let mounted = place.path().join("..2026_11_26");
        fs::create_dir(&mounted).expect("a folder");
        let (file, link) = (mounted.join("tokens"), place.path().join("tokens"));
        fs::write(&file, "segredo").expect("a file");
        symlink("..2026_11_26", place.path().join("..data")).expect("a link");
        symlink("..data/tokens", &link).expect("a link");
        for mode in [0o644, 0o440, 0o400] {
            set_mode(&file, mode);
            assert_eq!(read_given(&link).expect("the secret"), "segredo");
        }
        assert!(read(&link).is_err(), "what is written is never reached through a link");
        for mode in [0o666, 0o620] {
            set_mode(&file, mode);
            let refusal = read_given(&link).expect_err("others can write").to_string();
            assert!(refusal.contains("chmod go-w"), "{refusal}");
        }
        set_mode(&file, 0o640);
        assert!(read_given(&file).is_err(), "a file of one's own is for its owner alone");
        set_mode(&file, 0o600);
        assert!(read_given(&file).is_ok());
        fs::remove_file(&link).expect("removed");
        symlink("..data", &link).expect("a link");
        assert!(read_given(&link).is_err(), "a folder");
    }

    #[test]
    fn replacing_a_link_leaves_its_target_alone() {
        let place = tempfile::tempdir().expect("a folder");
        let (target, link) = (place.path().join("target"), place.path().join("link"));
        fs::write(&target, "theirs").expect("a file");
        symlink(&target, &link).expect("a link");
        replace(&link, b"ours").expect("replaced");
        assert_eq!(fs::read_to_string(&target).expect("the target"), "theirs");
        assert_eq!(fs::read_to_string(&link).expect("the file"), "ours");
        assert_eq!(mode(&link), 0o600);
    }
}
