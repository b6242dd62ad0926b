//! A folder of a test's own.

use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Deleted, with all that is in it, when the test ends, passed or failed.
pub struct TestFolder(PathBuf);

impl TestFolder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}
