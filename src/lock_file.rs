//! Files that say by their lock who may write what is beside them.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Write},
    ops::Deref,
    path::Path,
};

use crate::private_files;

/// More than a holder writes of itself.
const MAX_HOLDER_BYTES: u64 = 1024;

/// A lock that is given back when it is dropped. To close the file would not do: a process that is being started from this one
/// has it open, too, until it is another program.
#[derive(Debug)]
pub struct Held(File);

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It is closed all the same.
        let _ = self.0.unlock();
    }
}

/// The lock, or who has it. The system gives it back when the process ends, however it ends.
///
/// # Errors
/// When the file can't be made, read or locked.
pub fn try_lock(path: &Path) -> io::Result<Result<Held, String>> {
    let file = private_files::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Ok(Held(file))),
        Err(TryLockError::WouldBlock) => {
            let mut holder = Vec::new();
            file.take(MAX_HOLDER_BYTES).read_to_end(&mut holder)?;
            let holder = String::from_utf8_lossy(&holder).into_owned();
            Ok(Err(if holder.is_empty() { "another process".to_owned() } else { holder }))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Tells others who has the lock.
///
/// # Errors
/// When the file can't be written.
pub fn sign(held: &Held, holder: &str) -> io::Result<()> {
    let mut file = &held.0;
    file.set_len(0)?;
    file.write_all(holder.as_bytes())?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_its_file_is_open_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = try_lock(&path).expect("a lock").expect("free");
        sign(&held, "us").expect("signed");
        // As a process has it that was just forked from this one.
        let elsewhere = held.try_clone().expect("another");
        assert_eq!(try_lock(&path).expect("a lock").expect_err("held"), "us");
        drop(held);
        try_lock(&path).expect("a lock").expect("free again");
        drop(elsewhere);
    }
}
