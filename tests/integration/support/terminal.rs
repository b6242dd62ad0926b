//! A terminal that a person sits at: a program's stdin and stderr are one, as when its output is piped on.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Read as _,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    process::Stdio,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::process::Command;

use super::cli::Outcome;

/// Runs a program as if a person had typed it; what it wrote to the terminal is in `stderr`.
pub async fn typed(mut command: Command) -> Outcome {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&person).expect("granted");
    unlockpt(&person).expect("unlocked");
    let name = ptsname(&person, Vec::new()).expect("a name");
    let open = || {
        let path = OsStr::from_bytes(name.as_bytes());
        OpenOptions::new().read(true).write(true).open(path).expect("the terminal's other end")
    };
    let process =
        command.stdin(Stdio::from(open())).stderr(Stdio::from(open())).stdout(Stdio::piped()).spawn();
    let process = process.expect("the program starts");
    // With it the last of this process's own ends closes: then the program's end is the end of what it writes.
    drop(command);
    let seen = tokio::task::spawn_blocking(move || read_all(person));
    let output = process.wait_with_output().await.expect("the program ends");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: seen.await.expect("no panic"),
    }
}

fn read_all(person: OwnedFd) -> String {
    let (mut terminal, mut seen, mut buffer) = (File::from(person), Vec::new(), [0; 4096]);
    // A terminal that nobody holds any more answers with an error, not with an end.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}
