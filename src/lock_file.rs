//! Files that say by their lock who may write what is beside them.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Write},
    path::Path,
};

use crate::private_files;

/// More than a holder writes of itself.
const MAX_HOLDER_BYTES: u64 = 1024;

/// The lock, or who has it. The system gives it back when the process ends, however it ends.
///
/// # Errors
/// When the file can't be made, read or locked.
pub fn try_lock(path: &Path) -> io::Result<Result<File, String>> {
    let file = private_files::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Ok(file)),
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
pub fn sign(file: &mut File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(holder.as_bytes())?;
    file.flush()
}
