//! Replaces a client's file so that a crash, a full disk or the client itself can't leave half of it behind.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::private_files;

/// A file as it was read, to be replaced as a whole.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// Where the content really is, behind any symbolic links.
    path: PathBuf,
    /// None where there is no file yet.
    text: Option<String>,
}

/// Why a file could not be read or replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path} can't be {done}: {source}")]
    Io { path: PathBuf, done: &'static str, source: io::Error },
    #[error("{0} is a link to a file that is not there; make that file or name another with --path")]
    Dangling(PathBuf),
    #[error("{0} belongs to another user; run this as that user, or name another file with --path")]
    Foreign(PathBuf),
    #[error("{0} is no regular file and would be replaced by one; name another with --path")]
    NoFile(PathBuf),
    #[error("{0} was changed by another program meanwhile and was left alone; try again")]
    Raced(PathBuf),
}

impl ConfigFile {
    /// Reads a file; one that is not there is empty. A link is followed where this user laid it, as those do who
    /// keep such files elsewhere.
    ///
    /// # Errors
    /// When it can't be read, is not UTF-8, is no regular file, a link to nothing or somebody else's.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let foreign =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !private_files::is_trusted(&found));
        match fs::canonicalize(path) {
            Ok(real) => {
                if let Some(foreign) = [path, &real].into_iter().find(|path| foreign(path)) {
                    return Err(FileError::Foreign(foreign.to_owned()));
                }
                // A device or a pipe must not even be opened: that alone may do something, or wait for ever.
                if !fs::metadata(&real).map_err(failed(&real, "read"))?.is_file() {
                    return Err(FileError::NoFile(real));
                }
                let text = fs::read_to_string(&real).map_err(failed(&real, "read"))?;
                Ok(Self { path: real, text: Some(text) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(FileError::Dangling(path.to_owned()));
                }
                Ok(Self { path: path.to_owned(), text: None })
            }
            Err(error) => Err(failed(path, "read")(error)),
        }
    }

    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the permissions of all but the owner.
    ///
    /// # Errors
    /// When they can't be changed.
    pub(super) fn close_to_others(&self) -> Result<(), FileError> {
        let found = fs::metadata(&self.path).map_err(failed(&self.path, "read"))?;
        private_files::close_to_others(&self.path, &found)
            .map_err(failed(&self.path, "closed to other users"))
    }

    /// Replaces the content in one step and returns where the old one is kept, if there was one. Where the new one
    /// `has_secrets` it is its owner's alone, whoever could read the old one; the old one is so in any case.
    ///
    /// # Errors
    /// When something can't be written, or another program wrote first; the file is then as it was.
    pub(super) fn replace(
        &self,
        text: &str,
        now: DateTime<Utc>,
        has_secrets: bool,
    ) -> Result<Option<PathBuf>, FileError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(failed(folder, "created"))?;
        // Readable by its owner only, as it may hold secrets; an old file's own permissions come first.
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed(folder, "written to"))?;
        let written = new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all());
        written.map_err(failed(new.path(), "written"))?;

        let Some(old) = &self.text else {
            return match new.persist_noclobber(&self.path) {
                Ok(_) => Ok(None),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    Err(FileError::Raced(self.path.clone()))
                }
                Err(error) => Err(failed(&self.path, "written")(error.error)),
            };
        };
        if !has_secrets {
            let permissions = fs::metadata(&self.path).map_err(failed(&self.path, "read"))?.permissions();
            fs::set_permissions(new.path(), permissions).map_err(failed(new.path(), "written"))?;
        }
        let backup = self.back_up(now)?;
        let current = fs::read_to_string(&self.path).map_err(failed(&self.path, "read"))?;
        if current != *old {
            // The backup is of what is there now, too: it is of no use.
            fs::remove_file(&backup).map_err(failed(&backup, "removed"))?;
            return Err(FileError::Raced(self.path.clone()));
        }
        new.persist(&self.path).map_err(|error| failed(&self.path, "replaced")(error.error))?;
        Ok(Some(backup))
    }

    fn back_up(&self, now: DateTime<Utc>) -> Result<PathBuf, FileError> {
        let mut name: OsString = self.path.clone().into_os_string();
        name.push(now.format(".%Y%m%dT%H%M%S%.6fZ.bak").to_string());
        let backup = PathBuf::from(name);
        let content = fs::read(&self.path).map_err(failed(&self.path, "read"))?;
        let written = private_files::create(&backup).and_then(|mut file| {
            file.write_all(&content)?;
            file.sync_all()
        });
        written.map_err(failed(&backup, "written"))?;
        Ok(backup)
    }
}

fn failed(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, done, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_not_there_is_made_with_its_folders_and_without_a_backup() {
        let folder = folder();
        let path = folder.path().join("a/b/mcp.json");
        let file = ConfigFile::read(&path).expect("an empty file");
        assert_eq!(file.text(), "");
        assert_eq!(file.replace("{}", Utc::now(), false).expect("a file"), None);
        assert_eq!(fs::read_to_string(&path).expect("the file"), "{}");
        assert_eq!(names(&folder.path().join("a/b")), ["mcp.json"]);
    }

    #[test]
    fn the_old_content_is_kept_beside_the_new() {
        let folder = folder();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "old").expect("a file");
        let backup =
            ConfigFile::read(&path).expect("the file").replace("new", Utc::now(), false).expect("replaced");
        assert_eq!(fs::read_to_string(backup.expect("a backup")).expect("the backup"), "old");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "new");
        assert_eq!(names(folder.path()).len(), 2, "no temporary file stays");
    }

    #[test]
    fn what_another_program_wrote_meanwhile_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("mcp.json");
        let absent = ConfigFile::read(&path).expect("an empty file");
        fs::write(&path, "theirs").expect("a file");
        assert!(matches!(absent.replace("ours", Utc::now(), false), Err(FileError::Raced(_))));
        let file = ConfigFile::read(&path).expect("the file");
        fs::write(&path, "theirs again").expect("a file");
        assert!(matches!(file.replace("ours", Utc::now(), false), Err(FileError::Raced(_))));
        assert_eq!(fs::read_to_string(&path).expect("the file"), "theirs again");
        assert_eq!(names(folder.path()), ["mcp.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_replaced() {
        let folder = folder();
        let link = folder.path().join("mcp.json");
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
        for path in [link.as_path(), folder.path()] {
            let refusal = ConfigFile::read(path).expect_err("no file");
            assert!(matches!(refusal, FileError::NoFile(_)), "{refusal}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_permissions_stay_as_they_were() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder();
        let (real, link) = (folder.path().join("dotfiles.json"), folder.path().join("mcp.json"));
        fs::write(&real, "old").expect("a file");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("permissions");
        symlink(&real, &link).expect("a link");
        ConfigFile::read(&link).expect("the file").replace("new", Utc::now(), false).expect("replaced");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read_to_string(&real).expect("the file"), "new");
        assert_eq!(fs::metadata(&real).expect("the file").permissions().mode() & 0o777, 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_gets_secrets_is_closed_to_others_and_its_backup_always_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let path = folder.path().join("mcp.json");
        let mode = |path: &Path| fs::metadata(path).expect("the file").permissions().mode() & 0o777;
        fs::write(&path, "old").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
        let file = ConfigFile::read(&path).expect("the file");
        let backup = file.replace("new", Utc::now(), false).expect("replaced").expect("a backup");
        assert_eq!((mode(&path), mode(&backup)), (0o644, 0o600));
        let file = ConfigFile::read(&path).expect("the file");
        let backup = file.replace("secret", Utc::now(), true).expect("replaced").expect("a backup");
        assert_eq!((mode(&path), mode(&backup)), (0o600, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).expect("permissions");
        ConfigFile::read(&path).expect("the file").close_to_others().expect("closed");
        assert_eq!(mode(&path), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_is_refused_and_a_new_file_is_its_owners_alone() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder();
        let link = folder.path().join("mcp.json");
        symlink(folder.path().join("gone.json"), &link).expect("a link");
        assert!(matches!(ConfigFile::read(&link), Err(FileError::Dangling(_))));
        let path = folder.path().join("new.json");
        ConfigFile::read(&path).expect("an empty file").replace("{}", Utc::now(), false).expect("made");
        assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    }
}
