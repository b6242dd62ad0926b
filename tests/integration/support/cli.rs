//! The real program as a command line, on the embedded parts unless a test says otherwise.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// All that it said, to look for what should not be there.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The program, with a data folder inside `folder`, which is its current folder, too, and no other setting.
pub fn sluice(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env_clear().env("SLUICE_DATA_DIR", folder.join("data"));
    command.current_dir(folder).kill_on_drop(true);
    command
}

/// Runs a program that no terminal belongs to.
pub async fn run(mut command: Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().await.expect("the program runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}
