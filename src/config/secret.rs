//! Secrets that are kept elsewhere: in a file, or with a program that prints them. `NAME_FILE` and `NAME_COMMAND` stand for
//! `NAME`, so that none has to be in the environment or in a client's configuration.
//!
//! A command is taken from the environment alone: whoever may write a file of settings in some folder is not to run programs.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

use super::known;
use crate::private_files;

/// The settings whose values may be had from elsewhere.
pub(super) const SECRETS: [&str; 10] = [
    "SUPABASE_KEY",
    "KAFKA_SASL_PASSWORD",
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "ELASTICSEARCH_URL",
    "ELASTICSEARCH_PASSWORD",
    "ELASTICSEARCH_API_KEY",
    "SLUICE_HTTP_TOKENS",
    "SLUICE_ALERT_TARGETS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];

/// The one whose file holds a list, and may be there besides: it is read where the list is.
const LISTED: &str = "SLUICE_HTTP_TOKENS";

const FILE: &str = "_FILE";
pub(super) const COMMAND: &str = "_COMMAND";

/// How long a command may take: a person may have to agree.
const PATIENCE: Duration = Duration::from_mins(1);

/// No secret is longer.
const MOST_BYTES: usize = 64 * 1024;

/// The setting that a name such as `SUPABASE_KEY_FILE` stands for.
pub(super) fn stands_for(name: &str) -> Option<&'static str> {
    let setting = name.strip_suffix(FILE).or_else(|| name.strip_suffix(COMMAND))?;
    SECRETS.into_iter().find(|secret| *secret == setting)
}

/// The names that stand for a setting.
pub(super) fn stand_ins(setting: &str) -> [String; 2] {
    [format!("{setting}{FILE}"), format!("{setting}{COMMAND}")]
}

/// Where a secret can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Command(String),
}

impl Place {
    /// Where a setting's value is to be had, by whichever of its stand-ins is set.
    ///
    /// # Errors
    /// When it is set more than once.
    pub(super) fn of(
        setting: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<(String, Self)>, String> {
        let [file, command] = stand_ins(setting);
        let path =
            variables.get(&file).filter(|_| setting != LISTED).map(|path| Self::File(PathBuf::from(path)));
        let run = variables.get(&command).map(|text| Self::Command(text.clone()));
        match (variables.contains_key(setting), path, run) {
            (_, None, None) => Ok(None),
            (false, Some(place), None) => Ok(Some((file, place))),
            (false, None, Some(place)) => Ok(Some((command, place))),
            _ => Err(format!("is set in more than one way; set one of {setting}, {file} and {command}")),
        }
    }

    /// The secret as it is now.
    pub(super) fn read(&self) -> Result<SecretString, String> {
        let text = match self {
            Self::File(path) => private_files::read_given(path).map_err(|error| error.to_string())?,
            Self::Command(command) => printed(command)?,
        };
        if text.len() > MOST_BYTES {
            return Err("is longer than any secret".to_owned());
        }
        // Some editors leave a mark at the beginning.
        let secret = text.trim_start_matches('\u{feff}').trim();
        if secret.is_empty() {
            return Err("there is nothing in it".to_owned());
        }
        if secret.split_once('=').is_some_and(|(name, _)| known::is_known(name.trim())) {
            return Err("holds a setting, NAME=value; write the value alone".to_owned());
        }
        if secret.starts_with(['"', '\'']) {
            return Err("begins with a quote; write the value without".to_owned());
        }
        if secret.contains(char::is_control) {
            return Err("holds more than one line".to_owned());
        }
        Ok(SecretString::from(secret))
    }
}

/// What a command prints. What it says of errors is its own, and may hold what nobody is to read: it is not shown.
fn printed(command: &str) -> Result<String, String> {
    const TICK: Duration = Duration::from_millis(5);
    const LAST_WORDS: Duration = Duration::from_millis(200);
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.args([if cfg!(windows) { "/C" } else { "-c" }, command]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Whatever it starts ends with it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    let mut child = shell.spawn().map_err(|error| format!("can't be run: {error}"))?;
    let until = Instant::now() + PATIENCE;
    let parts = child.stdout.take().map(parts_of);
    let mut text = Vec::new();
    let mut take_part = |patience| {
        let part = parts.as_ref().and_then(|parts| parts.recv_timeout(patience).ok());
        let came = part.is_some();
        text.extend(part.unwrap_or_default());
        came
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => {
                if !take_part(TICK) {
                    thread::sleep(TICK);
                }
            }
            Ok(None) => {
                kill(&mut child);
                let seconds = PATIENCE.as_secs();
                return Err(format!(
                    "did not end within {seconds} s; run it by hand to see what it waits for"
                ));
            }
            Err(error) => return Err(format!("can't be waited for: {error}")),
        }
    };
    // A process that it left behind may hold its output open for ever.
    while take_part(LAST_WORDS) {}
    if !status.success() {
        return Err(format!("failed ({status}); run it by hand to see why"));
    }
    String::from_utf8(text).map_err(|_| "prints what is no text".to_owned())
}

/// What is printed, as it comes; no more of it than shows that it is too long.
fn parts_of(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, parts) = mpsc::channel();
    thread::spawn(move || {
        let mut sent = 0;
        while sent <= MOST_BYTES {
            let mut part = vec![0; 4096];
            match output.read(&mut part) {
                Ok(0) => break,
                Ok(length) => part.truncate(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            sent += part.len();
            if sender.send(part).is_err() {
                break;
            }
        }
    });
    parts
}

/// Ends a command and whatever it started.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Err(error) = rustix::process::kill_process_group(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::KILL,
    ) {
        tracing::warn!(%error, "a command that prints a secret hangs, and what it started may live on");
    }
    child.kill().ok();
    child.wait().ok();
}

/// A secret, and where it can be had anew.
#[derive(Clone)]
pub struct Secret {
    value: SecretString,
    place: Option<Place>,
}

impl Secret {
    pub(super) fn new(value: SecretString, place: Option<Place>) -> Self {
        Self { value, place }
    }

    /// The secret, where it was changed since; nothing where it is the same, or can be had nowhere else.
    ///
    /// # Errors
    /// When it can't be read any more.
    pub(crate) async fn changed(&self) -> Result<Option<Self>, String> {
        if self.place.is_none() {
            return Ok(None);
        }
        let secret = self.clone();
        tokio::task::spawn_blocking(move || secret.reread()).await.map_err(|error| error.to_string())?
    }

    /// The same for threads that may wait.
    ///
    /// # Errors
    /// As [`Self::changed`].
    pub(crate) fn reread(&self) -> Result<Option<Self>, String> {
        let Some(place) = &self.place else { return Ok(None) };
        let value = place.read()?;
        let is_same = value.expose_secret() == self.value.expose_secret();
        Ok((!is_same).then(|| Self { value, place: self.place.clone() }))
    }

    #[cfg(test)]
    pub(crate) fn in_file(value: &str, path: &std::path::Path) -> Self {
        Self { value: value.into(), place: Some(Place::File(path.to_owned())) }
    }

    pub(crate) fn value(&self) -> &SecretString {
        &self.value
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self { value: value.into(), place: None }
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self { value: value.into(), place: None }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn read(command: &str) -> Result<String, String> {
        Place::Command(command.to_owned()).read().map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_command_prints_the_secret_and_what_goes_wrong_is_told_without_its_words() {
        assert_eq!(read("printf ' segredo\\n'"), Ok("segredo".to_owned()));
        let failed = read("echo segredo >&2; echo segredo; exit 3").expect_err("it failed");
        assert!(failed.contains("exit status: 3") && !failed.contains("segredo"), "{failed}");
        assert!(read("true").expect_err("nothing").contains("nothing in it"));
        assert!(read("printf 'a\\nb'").expect_err("two lines").contains("one line"));
        let daemon = "sleep 30 & printf segredo";
        assert_eq!(read(daemon), Ok("segredo".to_owned()), "what it leaves behind is not waited for");
        for (text, told) in [("SUPABASE_KEY=x", "the value alone"), ("\"x\"", "a quote")] {
            assert!(read(&format!("printf '{text}'")).expect_err("no secret").contains(told), "{text}");
        }
        assert_eq!(read("printf '\\357\\273\\277segredo'"), Ok("segredo".to_owned()));
        assert!(read("printf '\\377'").expect_err("no text").contains("no text"));
        assert!(read("head -c 200000 /dev/zero").is_err(), "what is too long is cut and is no secret");
    }

    #[test]
    fn a_pipe_is_no_file_and_nobody_waits_for_its_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::os::unix::fs::symlink(&pipe, &link).expect("a link");
        for path in [pipe, link] {
            let told = Place::File(path).read().expect_err("no file");
            assert!(told.contains("no file"), "{told}");
        }
    }

    #[test]
    fn a_list_of_tokens_has_a_file_of_its_own_besides() {
        let set = |names: &[&str]| {
            let variables = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            Place::of(LISTED, &variables).map(|place| place.map(|(name, _)| name))
        };
        assert_eq!(set(&["SLUICE_HTTP_TOKENS", "SLUICE_HTTP_TOKENS_FILE"]), Ok(None));
        let command = "SLUICE_HTTP_TOKENS_COMMAND";
        assert_eq!(set(&[command, "SLUICE_HTTP_TOKENS_FILE"]), Ok(Some(command.to_owned())));
        assert!(set(&[command, "SLUICE_HTTP_TOKENS"]).is_err());
    }

    #[tokio::test]
    async fn a_secret_that_was_changed_is_had_anew_and_is_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        private_files::replace(&path, b"velho\n").expect("written");
        let place = Place::File(path.clone());
        let secret = Secret::new(place.read().expect("a secret"), Some(place));
        assert!(secret.changed().await.expect("readable").is_none());
        private_files::replace(&path, b"novo\n").expect("written");
        let changed = secret.changed().await.expect("readable").expect("changed");
        assert_eq!(changed.value().expose_secret(), "novo");
        assert!(!format!("{changed:?} {secret:?}").contains("vo\""));
        std::fs::remove_file(&path).expect("removed");
        assert!(changed.changed().await.is_err());
    }
}
