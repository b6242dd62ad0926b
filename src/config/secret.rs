//! Secrets that are kept elsewhere: in a file, or with a program that prints them. `NAME_FILE` and `NAME_COMMAND` stand for
//! `NAME`, so that none has to be in the environment or in a client's configuration.
//!
//! A command is taken from the environment alone: whoever may write a file of settings in some folder is not to run programs.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

use crate::private_files;

/// The settings whose values may be had from elsewhere.
pub(super) const SECRETS: [&str; 9] = [
    "SUPABASE_KEY",
    "KAFKA_SASL_PASSWORD",
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "ELASTICSEARCH_URL",
    "ELASTICSEARCH_PASSWORD",
    "ELASTICSEARCH_API_KEY",
    "SLUICE_HTTP_TOKENS",
    "SLUICE_ALERT_TARGETS",
];

/// The one whose file holds a list, and may be there besides: it is read where the list is.
const LISTED: &str = "SLUICE_HTTP_TOKENS";

const FILE: &str = "_FILE";
pub(super) const COMMAND: &str = "_COMMAND";

/// How long a command may take: a person may have to agree.
const PATIENCE: Duration = Duration::from_mins(1);

/// No secret is longer.
const MOST_BYTES: u64 = 64 * 1024;

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
        let secret = text.trim();
        if secret.is_empty() {
            return Err("there is nothing in it".to_owned());
        }
        if secret.contains(char::is_control) {
            return Err("holds more than one line".to_owned());
        }
        Ok(SecretString::from(secret))
    }
}

/// What a command prints. What it says of errors is its own, and may hold what nobody is to read: it is not shown.
fn printed(command: &str) -> Result<String, String> {
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.args([if cfg!(windows) { "/C" } else { "-c" }, command]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = shell.spawn().map_err(|error| format!("can't be run: {error}"))?;
    let until = Instant::now() + PATIENCE;
    let late =
        format!("did not end within {} s; run it by hand to see what it waits for", PATIENCE.as_secs());
    let (sender, printed) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = String::new();
            let read = output.take(MOST_BYTES).read_to_string(&mut text).map(|_| text);
            sender.send(read).ok();
        });
    }
    let text = printed.recv_timeout(PATIENCE);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until && text.is_ok() => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                child.kill().ok();
                child.wait().ok();
                return Err(late);
            }
            Err(error) => return Err(format!("can't be waited for: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("failed ({status}); run it by hand to see why"));
    }
    match text {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err("prints what is no text".to_owned()),
        Err(_) => Err(late),
    }
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
        let Some(place) = self.place.clone() else { return Ok(None) };
        let read =
            tokio::task::spawn_blocking(move || place.read()).await.map_err(|error| error.to_string())??;
        let is_same = read.expose_secret() == self.value.expose_secret();
        Ok((!is_same).then(|| Self { value: read, place: self.place.clone() }))
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
        assert!(read("printf '\\377'").expect_err("no text").contains("no text"));
        assert!(read("head -c 200000 /dev/zero").is_err(), "what is too long is cut and is no secret");
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
