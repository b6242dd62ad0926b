//! The folder the embedded parts keep their files in. Any process may read it; one at a time may write.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::Utc;

use crate::{
    fault::Fault,
    lock_file,
    private_files::{self, FileId},
};

/// The folder, and the lock on it once this process has it.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    owner: String,
    lock: Mutex<Option<Lock>>,
}

#[derive(Debug)]
struct Lock {
    /// Unlocked by the system when the process ends, however it ends.
    _file: File,
    id: FileId,
}

impl DataFolder {
    /// The name of the file that is locked.
    pub const LOCK: &'static str = "sluice.lock";

    /// All that the embedded parts keep in it.
    pub const FILES: [&'static str; 6] =
        ["sluice.db", "sluice.db-wal", "sluice.db-shm", Self::LOCK, "sample.json", "index"];

    /// The name of a file that stands where a demonstration made the others, and nothing but its rows came since.
    pub const DEMONSTRATION: &'static str = "demonstration";

    /// Makes the folder where it is missing, and has it and the parts' files in it be their owner's alone. `owner`
    /// names this process to others.
    ///
    /// # Errors
    /// When the folder can't be made, or somebody else decides what is in it.
    pub fn open(path: &Path, owner: &str) -> Result<Arc<Self>, Fault> {
        let path = private_files::folder(path).map_err(|error| unusable(path, "opening", &error))?;
        for name in Self::FILES {
            private_files::tighten(&path.join(name)).map_err(|error| unusable(&path, "securing", &error))?;
        }
        Ok(Arc::new(Self { path, owner: owner.to_owned(), lock: Mutex::new(None) }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the disk of a folder has left, where the system tells.
    pub fn room(path: &Path) -> Option<u64> {
        #[cfg(unix)]
        {
            let disk = rustix::fs::statvfs(path).ok()?;
            Some(disk.f_bavail.saturating_mul(disk.f_frsize))
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            None
        }
    }

    /// Takes the right to write, or keeps it. Asked before every change, so that whoever was second takes over when
    /// the first has ended.
    ///
    /// # Errors
    /// Who holds the folder; or the folder's own fault.
    pub fn hold(&self, what: &str) -> Result<(), Fault> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(());
        }
        match self.try_lock().map_err(|error| unusable(&self.path, "locking", &error))? {
            Ok(mut file) => {
                let id = self
                    .sign(&mut file)
                    .and_then(|()| Ok(FileId::of(&file.metadata()?)))
                    .map_err(|error| unusable(&self.path, "signing the lock of", &error))?;
                *lock = Some(Lock { _file: file, id });
                Ok(())
            }
            Err(holder) => Err(self.held_by(&holder, what)),
        }
    }

    /// Whoever holds the folder, if it is not this process.
    ///
    /// # Errors
    /// When the folder can't be asked.
    pub fn holder(&self) -> io::Result<Option<String>> {
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(None);
        }
        Ok(self.try_lock()?.err())
    }

    /// Whether the lock of this process, if it has one, is still the one that others find. Where the file was deleted, or
    /// the folder replaced, it keeps nobody from writing any more.
    ///
    /// # Errors
    /// When the folder can't be asked.
    pub fn is_in_place(&self) -> io::Result<bool> {
        match &*self.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lock) => Ok(FileId::at(&self.path.join(Self::LOCK))? == Some(lock.id)),
            None => Ok(true),
        }
    }

    /// Has no demonstration take the folder for one of its own any more.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn keep_from_demonstrations(&self) -> Result<(), Fault> {
        let mark = self.path.join(Self::DEMONSTRATION);
        // Looked at first: whoever only reads may be in a folder that can't be written.
        if !mark.exists() {
            return Ok(());
        }
        match std::fs::remove_file(mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unusable(&self.path, "removing the mark of the demonstration in", &error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the right to write back.
    pub fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn sign(&self, file: &mut File) -> io::Result<()> {
        lock_file::sign(file, &format!("{}, since {}", self.owner, Utc::now().format("%Y-%m-%dT%H:%M:%SZ")))
    }

    fn try_lock(&self) -> io::Result<Result<File, String>> {
        lock_file::try_lock(&self.path.join(Self::LOCK))
    }

    fn held_by(&self, holder: &str, what: &str) -> Fault {
        Fault::misconfigured(
            "embedded",
            format!("{what} failed: {} is held by {holder}", self.path.display()),
            "use that process's tools if it has any (its `--tools` offers more than the usual ones: `default,alerts`, or `all`), wait for its end, or stop it: this one only reads until then, and then takes over; or set SLUICE_DATA_DIR to another folder",
        )
    }
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Fault {
    Fault::misconfigured(
        "embedded",
        format!("{what} the data folder {} failed: {error}", path.display()),
        "check that the folder is this user's and can be written, or set SLUICE_DATA_DIR to another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_the_folder_and_takes_over_when_it_is_free() {
        let place = tempfile::tempdir().expect("a folder");
        let first = DataFolder::open(place.path(), "host, process 1").expect("a folder");
        let second = DataFolder::open(place.path(), "host, process 2").expect("the folder");
        first.hold("writing").expect("free");
        first.hold("writing again").expect("still ours");
        let refusal = second.hold("writing").expect_err("held").to_string();
        assert!(refusal.contains("host, process 1, since"), "{refusal}");
        assert!(second.holder().expect("an answer").is_some());
        drop(first);
        second.hold("writing").expect("free again");
        assert_eq!(second.holder().expect("an answer"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_was_deleted_or_made_anew_is_not_in_place() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = DataFolder::open(place.path(), "host, process 1").expect("a folder");
        assert!(folder.is_in_place().expect("an answer"), "it holds nothing");
        folder.hold("writing").expect("free");
        assert!(folder.is_in_place().expect("an answer"));
        std::fs::remove_file(place.path().join(DataFolder::LOCK)).expect("deleted");
        assert!(!folder.is_in_place().expect("an answer"));
        let other = DataFolder::open(place.path(), "host, process 2").expect("the folder");
        other.hold("writing").expect("nobody holds the new file");
        assert!(other.is_in_place().expect("an answer") && !folder.is_in_place().expect("an answer"));
    }
}
