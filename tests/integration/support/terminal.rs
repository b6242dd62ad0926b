//! A terminal that a person sits at.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    process::Stdio,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::process::Command;

use super::cli::Outcome;

/// Runs a program as if a person had typed it and piped its output on; what it wrote to the terminal is in `stderr`.
pub async fn typed(command: Command) -> Outcome {
    run(command, false).await
}

/// Runs a program as if a person had typed it, then Ctrl-D, at a terminal of 80 columns; all it wrote is in `stderr`.
pub async fn watched(command: Command) -> Outcome {
    let outcome = run(command, true).await;
    Outcome { stderr: outcome.stderr.replace("\r\n", "\n"), ..outcome }
}

async fn run(mut command: Command, shows_output: bool) -> Outcome {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&person).expect("granted");
    unlockpt(&person).expect("unlocked");
    let name = ptsname(&person, Vec::new()).expect("a name");
    let open = || {
        let path = OsStr::from_bytes(name.as_bytes());
        OpenOptions::new().read(true).write(true).open(path).expect("the terminal's other end")
    };
    if shows_output {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person, size).expect("a size");
    }
    let output = if shows_output { Stdio::from(open()) } else { Stdio::piped() };
    let process = command.stdin(Stdio::from(open())).stderr(Stdio::from(open())).stdout(output).spawn();
    let process = process.expect("the program starts");
    if shows_output {
        File::from(person.try_clone().expect("the terminal")).write_all(b"\x04").expect("typed");
    }
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
