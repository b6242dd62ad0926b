//! The outlet into rotated files.
//!
//! Guarantee: no two processes write one file, for each has a lock on the name it writes under; a file that is full, or of
//! yesterday, is followed by a new one; what is older or more than was asked for is deleted, and nothing that is not named as
//! these files are. A line is written whole or not at all: what a full disk took of it is cut off again, and what a process
//! that was killed had begun stays a line of its own. A file that somebody deletes is begun anew, and under a name of its own
//! where the lock was deleted, too.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};

use super::{
    folder::{LogFile, files, writer_of},
    outlet::{Outlet, Problem, Written},
};
use crate::{
    lock_file,
    private_files::{self, FileId},
};

/// Processes of one role that write in one folder at most.
const MAX_WRITERS: u32 = 100;

/// How large, how many and how old files may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    /// Of one writer.
    pub(super) files: usize,
    pub(super) age: Duration,
}

/// The files that this process writes.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    role: String,
    writer: String,
    /// Unlocked by the system when the process ends, however it ends.
    lock: lock_file::Held,
    limits: Limits,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    named: LogFile,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Files {
    /// Makes the folder where it is missing, and takes a name to write under.
    ///
    /// # Errors
    /// When the folder can't be made or written, or is somebody else's.
    pub(super) fn open(folder: &Path, role: &str, limits: Limits) -> io::Result<Self> {
        leave_others_alone(folder)?;
        let folder = private_files::folder(folder)?;
        let role = writer_of(role).to_owned();
        let (writer, lock) = free_name(&folder, &role)?;
        // An empty file tells nothing; that it can be made tells that lines can be kept.
        tempfile::Builder::new().prefix(".probe").tempfile_in(&folder)?;
        Ok(Self { folder, role, writer, lock, limits, current: None })
    }

    /// Takes a name again where the lock's file was deleted: whoever makes another has the name, and the files.
    fn keep_name(&mut self) -> io::Result<()> {
        let at_path = FileId::at(&lock_path(&self.folder, &self.writer))?;
        if at_path != Some(FileId::of(&self.lock.metadata()?)) {
            (self.writer, self.lock) = free_name(&self.folder, &self.role)?;
            self.current = None;
        }
        Ok(())
    }

    /// The file to write so many bytes to.
    fn current(&mut self, bytes: u64, now: DateTime<Utc>) -> io::Result<&mut Current> {
        self.keep_name()?;
        let limit = self.limits.bytes;
        let goes_on = |current: &Current| {
            let has_room = current.size == 0 || current.size + bytes <= limit;
            // A clock that was ahead and was put right begins no file for each line until its time has come.
            let is_of_today = current.named.begins.date_naive() >= now.date_naive();
            has_room && is_of_today && current.path.exists()
        };
        if !self.current.as_ref().is_some_and(goes_on) {
            let last = match &self.current {
                Some(current) => Some(current.named.clone()),
                None => files(&self.folder)?.remove(&self.writer).and_then(|mut files| Some(files.pop()?.0)),
            };
            let earlier =
                last.clone().filter(|_| self.current.is_none()).and_then(|last| self.reopened(last));
            self.current = None;
            let current = match earlier.filter(goes_on) {
                Some(earlier) => earlier,
                None => self.begun(LogFile::after(&self.writer, last.map(|last| last.begins), now))?,
            };
            self.current = Some(current);
            self.sweep(now);
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no file is open"))
    }

    fn begun(&self, named: LogFile) -> io::Result<Current> {
        let path = self.folder.join(named.name());
        let file = private_files::create(&path)?;
        Ok(Current { named, path, file, size: 0 })
    }

    /// The file that an earlier process wrote last. One that can't be gone on with is left as it is.
    fn reopened(&self, named: LogFile) -> Option<Current> {
        let path = self.folder.join(named.name());
        let mut file = private_files::open(&path).ok()?;
        let mut size = file.seek(SeekFrom::End(0)).ok()?;
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).ok()?;
            file.read_exact(&mut last).ok()?;
            if last != *b"\n" {
                file.write_all(b"\n").ok()?;
                size += 1;
            }
        }
        Some(Current { named, path, file, size })
    }

    /// Deletes what is too old, and of this writer what is too much. What can't be deleted is tried again with the next file.
    fn sweep(&self, now: DateTime<Utc>) {
        let Ok(all) = files(&self.folder) else { return };
        let oldest = SystemTime::from(now).checked_sub(self.limits.age);
        for (writer, files) in all {
            let is_own = writer == self.writer;
            let (spare, newest) = files.split_at(files.len().saturating_sub(1));
            let too_many = if is_own { files.len().saturating_sub(self.limits.files) } else { 0 };
            for (at, (_, path)) in spare.iter().enumerate() {
                if at < too_many || is_older(path, oldest) {
                    let _ = fs::remove_file(path);
                }
            }
            // The last file of a writer is somebody's who still writes, unless its name is free.
            for (_, path) in newest.iter().filter(|(_, path)| !is_own && is_older(path, oldest)) {
                if let Ok(Ok(_free)) = lock_file::try_lock(&lock_path(&self.folder, &writer)) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    fn write_at(&mut self, lines: &[Arc<str>], now: DateTime<Utc>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        let current = self.current(bytes.len() as u64, now)?;
        match current.file.write_all(&bytes) {
            Ok(()) => current.size += bytes.len() as u64,
            Err(error) => {
                let size = current.size;
                let is_cut =
                    current.file.set_len(size).and_then(|()| current.file.seek(SeekFrom::Start(size)));
                if is_cut.is_err() {
                    self.current = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Outlet for Files {
    fn write(&mut self, lines: &[Arc<str>]) -> Result<Written, Problem> {
        self.write_at(lines, Utc::now()).map(|()| Written::default()).map_err(|error| Problem {
            text: format!("{} can't be written: {error}; {ADVICE}", self.folder.display()),
            written: 0,
            pause: None,
        })
    }
}

/// What to do about a folder that can't be written.
pub(super) const ADVICE: &str =
    "make room on its disk, have the folder be this user's, or set SLUICE_LOG_DIR to another";

/// A name that no other process writes under.
fn free_name(folder: &Path, role: &str) -> io::Result<(String, lock_file::Held)> {
    for number in 1..=MAX_WRITERS {
        let writer = if number == 1 { role.to_owned() } else { format!("{role}-{number}") };
        if let Ok(lock) = lock_file::try_lock(&lock_path(folder, &writer))? {
            return Ok((writer, lock));
        }
    }
    Err(io::Error::other(format!("{MAX_WRITERS} processes write there already")))
}

fn lock_path(folder: &Path, writer: &str) -> PathBuf {
    folder.join(format!(".{writer}.lock"))
}

fn is_older(path: &Path, oldest: Option<SystemTime>) -> bool {
    let written = fs::metadata(path).and_then(|found| found.modified()).ok();
    written.zip(oldest).is_some_and(|(written, oldest)| written < oldest)
}

/// A folder of others' files is not closed to them, as one of this program's own is.
fn leave_others_alone(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let is_ours =
            name.to_str().is_some_and(|name| name.starts_with('.') || LogFile::parse(name).is_some());
        if !is_ours {
            let told = format!("it holds other files, such as {}; name a folder of its own", name.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 100, files: 3, age: Duration::from_hours(48) };

    fn lines(texts: &[&str]) -> Vec<Arc<str>> {
        texts.iter().map(|text| (*text).into()).collect()
    }

    fn now() -> DateTime<Utc> {
        Utc::now().date_naive().and_hms_opt(12, 0, 0).expect("noon").and_utc()
    }

    fn contents(folder: &Path, writer: &str) -> Vec<String> {
        let mut files = files(folder).expect("readable");
        let files = files.remove(writer).unwrap_or_default();
        files.iter().map(|(_, path)| fs::read_to_string(path).expect("text")).collect()
    }

    #[test]
    fn a_file_that_is_full_or_of_yesterday_is_followed_by_another_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        let (now, full) = (now(), "x".repeat(99));
        files.write_at(&lines(&["a"]), now).expect("written");
        files.write_at(&lines(&["b"]), now).expect("written");
        assert_eq!(contents(folder.path(), "worker"), ["a\nb\n"]);
        files.write_at(&lines(&[&full]), now).expect("written");
        files.write_at(&lines(&["c"]), now).expect("written");
        files.write_at(&lines(&["d"]), now + TimeDelta::days(1)).expect("written");
        assert_eq!(
            contents(folder.path(), "worker"),
            [format!("{full}\n"), "c\n".to_owned(), "d\n".to_owned()]
        );
    }

    #[test]
    fn what_is_too_old_is_deleted_whoever_wrote_it_unless_somebody_still_writes_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (now, limits) = (now(), Limits { files: 100, ..LIMITS });
        let old = |name: &str| {
            let path = folder.path().join(LogFile::after(name, None, now - TimeDelta::days(9)).name());
            let file = File::create(&path).expect("a file");
            file.set_modified(SystemTime::from(now - TimeDelta::days(3))).expect("a time");
            path
        };
        let (gone, own, quiet) = (old("serve-2"), old("worker"), old("serve"));
        let foreign = folder.path().join(".other.txt");
        fs::write(&foreign, "theirs").expect("written");
        let _writes = lock_file::try_lock(&lock_path(folder.path(), "serve")).expect("a lock").expect("free");
        let mut files = Files::open(folder.path(), "worker", limits).expect("opened");
        files.write_at(&lines(&["a"]), now).expect("written");
        assert!(!gone.exists() && !own.exists() && quiet.exists() && foreign.exists());
    }

    #[test]
    fn two_processes_write_files_of_their_own_and_a_later_one_goes_on_where_a_killed_one_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        let mut second = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        first.write_at(&lines(&["one"]), now()).expect("written");
        second.write_at(&lines(&["two"]), now()).expect("written");
        let half = first.current.take().expect("a file");
        fs::OpenOptions::new()
            .append(true)
            .open(&half.path)
            .expect("opened")
            .write_all(b"{half")
            .expect("written");
        drop(first);
        let mut third = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        third.write_at(&lines(&["three"]), now()).expect("written");
        assert_eq!(contents(folder.path(), "worker"), ["one\n{half\nthree\n"]);
        assert_eq!(contents(folder.path(), "worker-2"), ["two\n"]);
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_put_right_costs_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        files.write_at(&lines(&["ahead"]), now() + TimeDelta::days(1)).expect("written");
        for _ in 0..30 {
            files.write_at(&lines(&["right"]), now()).expect("written");
        }
        let contents = contents(folder.path(), "worker");
        assert_eq!(contents.len(), 2, "{contents:?}");
        assert_eq!(contents.concat().lines().count(), 31);
    }

    #[cfg(unix)]
    #[test]
    fn a_process_whose_lock_was_deleted_leaves_its_files_to_whoever_has_the_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = lock_path(folder.path(), "worker");
        let mut first = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        first.write_at(&lines(&["one"]), now()).expect("written");
        fs::remove_file(&lock).expect("deleted");
        first.write_at(&lines(&["still one"]), now()).expect("written");
        assert_eq!(contents(folder.path(), "worker"), ["one\nstill one\n"]);
        fs::remove_file(&lock).expect("deleted");
        let mut second = Files::open(folder.path(), "worker", LIMITS).expect("opened");
        second.write_at(&lines(&["two"]), now()).expect("written");
        first.write_at(&lines(&["one again"]), now()).expect("written");
        second.write_at(&lines(&["two again"]), now()).expect("written");
        assert_eq!(contents(folder.path(), "worker"), ["one\nstill one\ntwo\ntwo again\n"]);
        assert_eq!(contents(folder.path(), "worker-2"), ["one again\n"]);
    }

    #[test]
    fn a_file_or_folder_that_is_deleted_is_made_anew_and_what_fails_meanwhile_is_told_with_advice() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("logs");
        let mut files = Files::open(&folder, "worker", LIMITS).expect("opened");
        files.write_at(&lines(&["a"]), now()).expect("written");
        let path = files.current.as_ref().expect("a file").path.clone();
        fs::remove_file(path).expect("deleted");
        files.write_at(&lines(&["b"]), now()).expect("written");
        assert_eq!(contents(&folder, "worker"), ["b\n"]);
        fs::remove_dir_all(&folder).expect("deleted");
        let problem = files.write(&lines(&["c"])).expect_err("no folder").text;
        assert!(problem.contains("logs can't be written") && problem.contains("SLUICE_LOG_DIR"), "{problem}");
        fs::create_dir(&folder).expect("a folder");
        files.write(&lines(&["c"])).expect("written");
        assert_eq!(contents(&folder, "worker"), ["c\n"]);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_their_owners_alone_and_a_folder_of_other_files_is_left_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).expect("found").permissions().mode() & 0o777;
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("var/log");
        let mut files = Files::open(&folder, "serve", LIMITS).expect("opened");
        files.write_at(&lines(&["a"]), now()).expect("written");
        assert_eq!((mode(&folder), mode(&files.current.as_ref().expect("a file").path)), (0o700, 0o600));
        let shared = place.path().join("shared");
        fs::create_dir(&shared).expect("a folder");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::write(shared.join("syslog"), "theirs").expect("written");
        let refusal = Files::open(&shared, "serve", LIMITS).expect_err("theirs").to_string();
        assert!(refusal.contains("syslog; name a folder of its own"), "{refusal}");
        assert_eq!(mode(&shared), 0o755);
    }
}
