//! Where a command's settings come from. The rule is that nothing is read from a folder that somebody else may have
//! filled, unless a person who sits in it typed the command: a program that an editor starts in some project's folder
//! reads no file of that folder.

use std::{
    fs, io,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use super::{Failure, logging::SETTINGS_TARGET};
use crate::{
    config::{ENV_FILE, Taken, Variables},
    private_files,
};

/// The file of the current folder.
const FOLDERS_FILE: &str = ".env";

/// More than any file of settings has.
const MAX_BYTES: u64 = 1024 * 1024;

/// The variables of a command, and what there is to tell of them once there is a log.
pub(super) struct Environment {
    pub(super) variables: Variables,
    /// The file that was named, if one was.
    pub(super) named: Option<PathBuf>,
    taken: Option<(PathBuf, Taken)>,
    /// A file in the current folder that is not read, what it would set, and why it is not.
    unread: Option<(PathBuf, Vec<String>, &'static str)>,
}

/// Whether a person sits before this process: they type, and they see what is said.
pub(super) fn is_typed() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Reads the environment, and the file that was named; or the current folder's, where it may be read.
///
/// # Errors
/// When a file can't be read.
pub(super) fn gather(named: Option<&Path>, folders_file: bool) -> Result<Environment, Failure> {
    let mut variables = Variables::new(std::env::vars_os());
    let named = named.map(Path::to_owned).or_else(|| variables.get(ENV_FILE).map(PathBuf::from));
    let mut environment =
        Environment { variables: Variables::default(), named: None, taken: None, unread: None };
    if let Some(path) = named {
        let text =
            read(&path).map_err(|error| format!("the file of settings {}: {error}", path.display()))?;
        // Absolute, as another program may be told to read it.
        let path = std::path::absolute(&path)?;
        let taken = add(&mut variables, &path, &text)?;
        variables.name_file(&path);
        environment.taken = Some((path.clone(), taken));
        environment.named = Some(path);
    } else if let Some((path, text)) = in_folder() {
        let trusted = fs::metadata(&path).is_ok_and(|found| private_files::is_trusted(&found));
        if folders_file && trusted {
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            let taken = add(&mut variables, &path, &text)?;
            environment.taken = Some((path, taken));
        } else if let Ok(text) = text
            // Only to tell what is missing; nothing of it is used.
            && let Ok(Taken { settings, .. }) = variables.clone().add_file(&path, &text)
            && !settings.is_empty()
        {
            let why = if folders_file {
                "it belongs to another user"
            } else {
                "only commands typed in a terminal read the current folder's file"
            };
            environment.unread = Some((path, settings, why));
        }
    }
    environment.variables = variables;
    Ok(environment)
}

impl Environment {
    /// Tells which file gave what, and what was left alone.
    pub(super) fn log(&self) {
        if let Some((path, taken)) = &self.taken {
            info!(
                target: SETTINGS_TARGET,
                file = %path.display(),
                settings = taken.settings.join(", "),
                overridden_by_the_environment = taken.overridden.join(", "),
                not_taken = taken.ignored.join(", "),
                "settings come from a file"
            );
        }
        if let Some((path, settings, why)) = &self.unread {
            warn!(
                target: SETTINGS_TARGET,
                file = %path.display(),
                settings = settings.join(", "),
                "a file of settings is not read because {why}; name it with --env-file or {ENV_FILE} to have it read"
            );
        }
    }
}

fn add(variables: &mut Variables, path: &Path, text: &str) -> Result<Taken, Failure> {
    variables.add_file(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The current folder's file, if there is one.
fn in_folder() -> Option<(PathBuf, io::Result<String>)> {
    let path = std::path::absolute(FOLDERS_FILE).ok()?;
    // A pipe of that name would never end.
    let is_file = fs::metadata(&path).is_ok_and(|found| found.is_file());
    is_file.then(|| (path.clone(), read(&path)))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "is too large for a file of settings"));
    }
    Ok(text)
}
