//! The folder the embedded parts keep their files in. Any process may read it; one at a time may write.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::Utc;
use tempfile::TempDir;

use crate::{
    fault::Fault,
    lock_file::{self, Held},
    private_files::{self, FileId, OpenFolder},
};

/// What faults call this part.
const PART: &str = "embedded";

/// What a full disk needs.
pub(crate) const FULL: &str = "free some room on the data folder's disk; nothing is lost: a server goes on by itself, and a command or \
                               call that failed is to be made again";

/// The folder, and the lock on it once this process has it.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    owner: String,
    lock: Mutex<Option<Lock>>,
    /// Which folder was opened.
    opened: OpenFolder,
    /// Another is in its place, or none.
    replaced: AtomicBool,
}

#[derive(Debug)]
struct Lock {
    /// Unlocked by the system when the process ends, however it ends.
    _held: Held,
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
        let opened = OpenFolder::open(&path).map_err(|error| unusable(&path, "opening", &error))?;
        let (lock, replaced) = (Mutex::new(None), AtomicBool::new(false));
        Ok(Arc::new(Self { path, owner: owner.to_owned(), lock, opened, replaced }))
    }

    /// A folder that is empty, in the place of one that is not there yet, or has nothing in it: made where that would be, so
    /// that what keeps one from being made there is told. Removed when dropped.
    ///
    /// # Errors
    /// When none can be made there.
    pub fn stand_in(path: &Path) -> Result<TempDir, Fault> {
        let path = std::path::absolute(path).map_err(|error| unusable(path, "looking for", &error))?;
        let there = path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(&path);
        tempfile::Builder::new()
            .prefix(".sluice-")
            .tempdir_in(there)
            .map_err(|error| unusable(&path, "making", &error))
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
            Ok(held) => {
                let id = self
                    .sign(&held)
                    .and_then(|()| Ok(FileId::of(&held.metadata()?)))
                    .map_err(|error| unusable(&self.path, "signing the lock of", &error))?;
                *lock = Some(Lock { _held: held, id });
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

    /// Refuses once the folder was deleted or replaced under this process.
    ///
    /// # Errors
    /// That it was; or that it can't be told.
    pub fn check_place(&self) -> Result<(), Fault> {
        if self.is_replaced() || !self.is_in_place().map_err(|error| self.unseen(&error))? {
            return Err(self.give_up());
        }
        Ok(())
    }

    /// Whether this process was seen to have lost the folder. Once replaced, it stays so: what this process remembers is of
    /// the files that it opened.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Has no part use the folder any more, since files that this process has open are not those that are there; that is told.
    pub fn give_up(&self) -> Fault {
        let folder = self.path.display();
        if !self.replaced.swap(true, Ordering::Relaxed) {
            tracing::error!(%folder, "the data folder was deleted or replaced under this process");
            self.release();
        }
        Fault::misconfigured(
            PART,
            format!("the data folder {folder} was deleted or replaced under this process"),
            "restart this process, which writes nothing until then: it goes on with what is there now, and the next syncs read what \
             that lacks; or end it, put the folder back that was there, and start it again",
        )
    }

    /// That it can't be told whether files of the folder are in place.
    pub fn unseen(&self, error: &io::Error) -> Fault {
        Fault::transient(
            PART,
            format!("looking at the data folder {} failed: {error}", self.path.display()),
            "check the disk and the folder's permissions; it is tried again",
        )
    }

    /// Whether the folder, and the lock of this process, if it has one, are still those that others find. Where the file was
    /// deleted, or the folder replaced, the lock keeps nobody from writing any more.
    fn is_in_place(&self) -> io::Result<bool> {
        if !self.opened.is_at(&self.path)? {
            return Ok(false);
        }
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

    fn sign(&self, held: &Held) -> io::Result<()> {
        lock_file::sign(held, &format!("{}, since {}", self.owner, Utc::now().format("%Y-%m-%dT%H:%M:%SZ")))
    }

    fn try_lock(&self) -> io::Result<Result<Held, String>> {
        lock_file::try_lock(&self.path.join(Self::LOCK))
    }

    fn held_by(&self, holder: &str, what: &str) -> Fault {
        Fault::misconfigured(
            PART,
            format!("{what} failed: {} is held by {holder}", self.path.display()),
            "use that process's tools if it has any (its `--tools` offers more than the usual ones: `default,alerts`, or `all`), wait for its end, or stop it: this one only reads until then, and then takes over; or set SLUICE_DATA_DIR to another folder",
        )
    }
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Fault {
    Fault::misconfigured(
        PART,
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

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_replaced_stays_given_up_also_where_it_is_put_back() {
        let place = tempfile::tempdir().expect("a folder");
        let (path, moved) = (place.path().join("data"), place.path().join("moved"));
        let folder = DataFolder::open(&path, "host, process 1").expect("a folder");
        folder.check_place().expect("in place");
        std::fs::rename(&path, &moved).expect("moved away");
        let told = folder.check_place().expect_err("it is gone").to_string();
        assert!(told.contains("was deleted or replaced under this process"), "{told}");
        std::fs::rename(&moved, &path).expect("put back");
        folder.check_place().expect_err("given up");
        DataFolder::open(&path, "host, process 2").expect("a folder").check_place().expect("in place");
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_folder_is_made_where_the_one_that_it_stands_for_would_be() {
        let place = tempfile::tempdir().expect("a folder");
        let missing = place.path().join("a/b");
        let empty = DataFolder::stand_in(&missing).expect("a folder");
        assert_eq!(empty.path().parent(), Some(place.path()));
        drop(empty);
        assert!(std::fs::read_dir(place.path()).expect("a folder").next().is_none());
        std::fs::write(place.path().join("a"), "").expect("a file");
        let told = DataFolder::stand_in(&missing).expect_err("a file is there").to_string();
        assert!(told.contains("making the data folder") && told.contains("a/b"), "{told}");
    }
}
