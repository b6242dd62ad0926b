//! The files that clients asked for: in a folder of their own, their owners' alone, for a day.
//!
//! Guarantee: a file is there once its description is, which is written last, and only whole files have one. Nobody but
//! whoever had it made is given it, and nobody who may not see the contacts in it any more.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Format;
use crate::private_files;

/// What owners begin with who have no other name than the process that they speak to.
pub const PROCESS: &str = "process:";

/// Files that one owner keeps; an older one makes way.
const MAX_KEPT: usize = 5;

/// What nobody describes and has not been written for so long was left behind by a process that ended.
const LEFT_BEHIND: Duration = Duration::from_mins(15);

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptExport {
    pub id: Uuid,
    pub owner: String,
    /// Contacts stand in it as they are.
    pub shows_contacts: bool,
    /// What was exported, for the file's name.
    pub name: String,
    pub format: Format,
    pub rows: u64,
    pub bytes: u64,
    /// The version of the ledger of erasures that it was made under.
    pub erasures: Uuid,
    pub made_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Who wants to read a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub owner: String,
    pub sees_contacts: bool,
}

/// What the file of an export is called, where people see it.
pub fn file_name(kept: &KeptExport) -> String {
    format!("{}-{}.{}", kept.name, kept.made_at.format("%Y%m%d-%H%M%S"), kept.format.extension())
}

/// The folder of these files.
pub(crate) struct KeptExports {
    folder: PathBuf,
    pub(crate) lifetime: TimeDelta,
    pub(crate) max_bytes: u64,
}

impl KeptExports {
    pub(crate) fn new(folder: PathBuf, lifetime: TimeDelta, max_bytes: u64) -> Self {
        Self { folder, lifetime, max_bytes }
    }

    /// An empty file that is nobody's yet.
    pub(crate) fn draft(&self, id: Uuid) -> io::Result<File> {
        private_files::folder(&self.folder)?;
        private_files::open(&self.draft_path(id))
    }

    fn draft_path(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    /// Where a file lies.
    pub(crate) fn path(&self, kept: &KeptExport) -> PathBuf {
        self.folder.join(format!("{}.{}", kept.id, kept.format.extension()))
    }

    fn description(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Makes a draft that is whole the owner's file. Of one that was removed meanwhile nothing comes to be.
    pub(crate) fn keep(&self, kept: &KeptExport) -> io::Result<()> {
        fs::rename(self.draft_path(kept.id), self.path(kept))?;
        private_files::replace(&self.description(kept.id), &serde_json::to_vec(kept)?)?;
        let mut own: Vec<KeptExport> =
            self.all()?.into_iter().filter(|other| other.owner == kept.owner).collect();
        own.sort_by_key(|other| std::cmp::Reverse(other.id));
        for older in own.iter().skip(MAX_KEPT) {
            self.remove(older)?;
        }
        Ok(())
    }

    pub(crate) fn discard(&self, id: Uuid) {
        if let Err(error) = absent(fs::remove_file(self.draft_path(id))) {
            tracing::warn!(%error, "what was written of an export that failed can't be removed");
        }
    }

    /// The file, if there is one that this reader may have.
    pub(crate) fn find(&self, id: Uuid, reader: &Reader) -> io::Result<Option<(KeptExport, File)>> {
        let Some(kept) = described(&self.description(id))? else { return Ok(None) };
        let is_process = |owner: &str| owner.starts_with(PROCESS);
        let is_own = kept.owner == reader.owner || (is_process(&kept.owner) && is_process(&reader.owner));
        let may = is_own && (reader.sees_contacts || !kept.shows_contacts);
        if !may || kept.expires_at <= Utc::now() {
            return Ok(None);
        }
        match File::open(self.path(&kept)) {
            Ok(file) if file.metadata()?.len() == kept.bytes => Ok(Some((kept, file))),
            Ok(_) => Err(io::Error::other("the file is not as it was written")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove(&self, kept: &KeptExport) -> io::Result<()> {
        absent(fs::remove_file(self.description(kept.id)))?;
        absent(fs::remove_file(self.path(kept)))
    }

    /// Removes what expired, what was made under another ledger, and what a process left behind that ended.
    pub(crate) fn sweep(&self, erasures: Option<Uuid>) -> io::Result<()> {
        let now = Utc::now();
        let mut described = Vec::new();
        for kept in self.all()? {
            if kept.expires_at <= now || erasures.is_some_and(|version| version != kept.erasures) {
                self.remove(&kept)?;
            } else {
                described.extend([self.description(kept.id), self.path(&kept)]);
            }
        }
        for path in self.files()? {
            let written = fs::metadata(&path).and_then(|found| found.modified());
            let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if !described.contains(&path) && age.is_some_and(|age| age > LEFT_BEHIND) {
                absent(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }

    /// Removes every file, those being written too. Returns how many there were.
    pub(crate) fn remove_all(&self) -> io::Result<u64> {
        let mut removed = 0;
        for path in self.files()? {
            absent(fs::remove_file(&path))?;
            removed += u64::from(path.extension().is_none_or(|end| end != "json"));
        }
        Ok(removed)
    }

    fn all(&self) -> io::Result<Vec<KeptExport>> {
        let files = self.files()?;
        let descriptions = files.iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
        Ok(descriptions.filter_map(|path| described(path).ok().flatten()).collect())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What a description says; `None` where there is none.
fn described(path: &Path) -> io::Result<Option<KeptExport>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is gone already need not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn reader(owner: &str, sees_contacts: bool) -> Reader {
        Reader { owner: owner.to_owned(), sees_contacts }
    }

    fn kept(exports: &KeptExports, owner: &str, shows_contacts: bool, hours: i64) -> KeptExport {
        let kept = KeptExport {
            id: Uuid::now_v7(),
            owner: owner.to_owned(),
            shows_contacts,
            name: "leads".to_owned(),
            format: Format::Csv,
            rows: 1,
            bytes: 4,
            erasures: Uuid::nil(),
            made_at: Utc::now(),
            expires_at: Utc::now() + TimeDelta::hours(hours),
        };
        exports.draft(kept.id).expect("a draft").write_all(b"a\r\n1").expect("written");
        exports.keep(&kept).expect("kept");
        kept
    }

    fn found(exports: &KeptExports, kept: &KeptExport, reader: &Reader) -> bool {
        exports.find(kept.id, reader).expect("an answer").is_some()
    }

    #[test]
    fn a_file_is_its_owner_s_alone_and_only_while_it_lasts() {
        let place = tempfile::tempdir().expect("a folder");
        let exports = KeptExports::new(place.path().join("exports"), TimeDelta::hours(1), 100);
        exports.sweep(None).expect("there is nothing");
        let masked = kept(&exports, "token:a", false, 1);
        let revealed = kept(&exports, "token:a", true, 1);
        let expired = kept(&exports, "token:a", false, 0);
        assert!(found(&exports, &masked, &reader("token:a", false)));
        assert!(!found(&exports, &masked, &reader("token:b", true)), "another's");
        assert!(found(&exports, &revealed, &reader("token:a", true)));
        assert!(!found(&exports, &revealed, &reader("token:a", false)), "it may not see contacts any more");
        assert!(!found(&exports, &expired, &reader("token:a", true)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!((mode(&exports.folder), mode(&exports.path(&masked))), (0o700, 0o600));
            assert_eq!(mode(&exports.description(masked.id)), 0o600);
        }
        exports.sweep(None).expect("swept");
        assert!(!exports.path(&expired).exists() && exports.path(&masked).exists());
        fs::write(exports.path(&masked), "a").expect("written");
        assert!(exports.find(masked.id, &reader("token:a", false)).is_err(), "somebody cut it");
        exports.sweep(Some(Uuid::max())).expect("swept");
        assert_eq!(exports.files().expect("files"), Vec::<PathBuf>::new(), "somebody was erased");
    }

    #[test]
    fn what_was_left_half_written_is_nobody_s_and_goes_when_it_is_old() {
        let place = tempfile::tempdir().expect("a folder");
        let exports = KeptExports::new(place.path().join("exports"), TimeDelta::hours(1), 100);
        let (young, old) = (Uuid::now_v7(), Uuid::now_v7());
        drop(exports.draft(young).expect("a draft"));
        let draft = exports.draft(old).expect("a draft");
        draft.set_modified(SystemTime::now() - 2 * LEFT_BEHIND).expect("a time");
        exports.sweep(None).expect("swept");
        assert_eq!(exports.files().expect("files"), [exports.draft_path(young)]);
        assert_eq!(exports.remove_all().expect("removed"), 1);
    }

    #[test]
    fn an_owner_s_oldest_file_makes_way_and_another_s_stays() {
        let place = tempfile::tempdir().expect("a folder");
        let exports = KeptExports::new(place.path().join("exports"), TimeDelta::hours(1), 100);
        let other = kept(&exports, "token:b", false, 1);
        let mut own = Vec::new();
        for _ in 0..=MAX_KEPT {
            own.push(kept(&exports, "token:a", false, 1));
        }
        assert!(!exports.path(&own[0]).exists());
        let [one, another] = [1, 2].map(|n| format!("{PROCESS}{n}"));
        let first = kept(&exports, &one, false, 1);
        let others: Vec<KeptExport> = (0..=MAX_KEPT).map(|_| kept(&exports, &another, false, 1)).collect();
        assert!(exports.path(&first).exists() && !exports.path(&others[0]).exists());
        assert!(found(&exports, &first, &reader(&another, false)), "whoever starts a program has both");
        assert!(!found(&exports, &first, &reader("token:process:1", false)));
        assert!(own[1..].iter().chain([&other]).all(|kept| exports.path(kept).exists()));
    }
}
