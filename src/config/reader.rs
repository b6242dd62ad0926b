//! Reads settings one by one and keeps every problem, so that a user sees all of them at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    known,
    secret::{Place, SECRETS, Secret},
    variables::Variables,
};

/// Everything wrong with the settings, one line a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub problems: Vec<String>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the settings have {} problem(s):", self.problems.len())?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        write!(
            f,
            "set them in the environment, or in a file that --env-file names; .env.example explains each"
        )
    }
}

impl std::error::Error for SettingsError {}

/// The variables, and what was found wrong with them so far.
pub(super) struct Reader {
    variables: BTreeMap<String, String>,
    /// Where the values of settings come from that stand elsewhere.
    places: BTreeMap<&'static str, Place>,
    /// Variables that are no settings.
    others: BTreeSet<String>,
    problems: Vec<String>,
}

impl Reader {
    pub(super) fn new(variables: Variables) -> Self {
        let others = variables.others().map(str::to_owned).collect();
        let (places, problems) = (BTreeMap::new(), Vec::new());
        let mut reader = Self { variables: BTreeMap::new(), places, others, problems };
        for (name, problem) in variables.problems() {
            reader.problem(&name, problem);
        }
        reader.variables = variables.into_settings();
        for setting in SECRETS {
            reader.fetch(setting);
        }
        reader
    }

    /// Has the value of a setting that stands elsewhere.
    fn fetch(&mut self, setting: &'static str) {
        let place = match Place::of(setting, &self.variables) {
            Ok(None) => return,
            Ok(Some((name, place))) => {
                place.read().map(|value| (place, value)).map_err(|problem| (name, problem))
            }
            Err(problem) => Err((setting.to_owned(), problem)),
        };
        match place {
            Ok((place, value)) => {
                self.variables.insert(setting.to_owned(), value.expose_secret().to_owned());
                self.places.insert(setting, place);
            }
            Err((name, problem)) => {
                self.problem(&name, &problem);
                if name != setting {
                    self.problem(setting, format_args!("can't be had from {name}"));
                }
            }
        }
    }

    pub(super) fn finish(self) -> Result<(), SettingsError> {
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError { problems: self.problems }) }
    }

    /// Adds a problem; the value of a variable never belongs in it.
    pub(super) fn problem(&mut self, name: &str, what: impl fmt::Display) {
        self.problems.push(format!("{name}: {what}"));
    }

    /// Whether a setting is the subject of a problem.
    pub(super) fn has_problem(&self, name: &str) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
    }

    /// Whether a variable is set that is no setting.
    pub(super) fn other_is_set(&self, name: &str) -> bool {
        self.others.contains(name)
    }

    /// Whether a part is named by its address. Any of its other settings without the address is a problem: whoever
    /// set it meant the real part.
    pub(super) fn part(&mut self, address: &str, prefix: &str) -> bool {
        if self.variables.contains_key(address) {
            return true;
        }
        // It was set, and to what has been told.
        if self.has_problem(address) {
            return false;
        }
        if let Some(other) = self.variables.keys().find(|name| name.starts_with(prefix)).cloned() {
            self.problem(
                address,
                format_args!(
                    "is not set although {other} is; set it, or remove {other} for the embedded part"
                ),
            );
        }
        false
    }

    /// The settings that are set and whose names begin so, in their order.
    pub(super) fn beginning_with(&self, prefix: &str) -> Vec<String> {
        self.variables.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    pub(super) fn optional(&self, name: &str) -> Option<String> {
        debug_assert!(known::is_known(name), "{name} is read and .env.example does not explain it");
        self.variables.get(name).cloned()
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn required(&mut self, name: &str, example: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            if !self.has_problem(name) {
                self.problem(name, format_args!("is not set; give it a value such as {example}"));
            }
            String::new()
        })
    }

    pub(super) fn secret(&self, name: &str) -> Option<SecretString> {
        self.optional(name).map(SecretString::from)
    }

    /// A secret that can be had anew where it stands elsewhere.
    pub(super) fn renewable(&self, name: &str) -> Option<Secret> {
        Some(Secret::new(self.secret(name)?, self.places.get(name).cloned()))
    }

    pub(super) fn url(&mut self, name: &str, schemes: &[&str], example: &str) -> Url {
        let text = self.required(name, example);
        if !text.is_empty() {
            match Url::parse(&text) {
                Ok(url) if schemes.contains(&url.scheme()) && !url.cannot_be_a_base() => return url,
                _ => self.problem(
                    name,
                    format_args!(
                        "is not a URL starting with {}://; for example {example}",
                        schemes.join(":// or ")
                    ),
                ),
            }
        }
        placeholder()
    }

    pub(super) fn number<T>(&mut self, name: &str, default: T, range: std::ops::RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + fmt::Display + Copy,
    {
        let Some(text) = self.optional(name) else { return default };
        match text.parse::<T>() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (low, high) = (range.start(), range.end());
                self.problem(name, format_args!("must be a whole number from {low} to {high}"));
                default
            }
        }
    }

    pub(super) fn seconds(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.number(name, default, 1..=3600))
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.choice(name).unwrap_or(default)
    }

    /// A flag that makes a difference by being set at all.
    pub(super) fn choice(&mut self, name: &str) -> Option<bool> {
        match self.optional(name)?.to_lowercase().as_str() {
            "true" | "1" | "yes" => Some(true),
            "false" | "0" | "no" => Some(false),
            _ => {
                self.problem(name, "must be true or false");
                None
            }
        }
    }

    pub(super) fn one_of(&mut self, name: &str, default: &str, choices: &[&str]) -> String {
        let text = self.text(name, default).to_lowercase();
        if choices.contains(&text.as_str()) {
            return text;
        }
        self.problem(name, format_args!("must be one of {}", choices.join(", ")));
        default.to_owned()
    }
}

/// Stands where a URL was wrong; the settings are refused, so nobody ever sees it.
#[allow(clippy::expect_used)]
fn placeholder() -> Url {
    Url::parse("http://invalid.invalid").expect("a constant URL parses")
}
