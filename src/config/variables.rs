//! Where settings come from: the environment, and at most one file. What the environment sets the file does not
//! change, and only sluice's own names are taken from a file: what else stands there (a proxy, a certificate store, a
//! database client's own variables) could lead connections elsewhere.
//!
//! Guarantee: an address and the credentials sent to it come from the same place. Otherwise whoever may write a file
//! in some folder could have a key of the environment sent to a server of theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    env_file::{self, SyntaxError},
    known,
    reader::{Reader, SettingsError},
    secret,
};
use crate::private_files;

/// Names the file; it can't name another.
pub const ENV_FILE: &str = "SLUICE_ENV_FILE";

/// An address, and what else decides who is sent a secret and how well it is protected.
const TOGETHER: [(&str, &[&str]); 5] = [
    ("SUPABASE_URL", &["SUPABASE_KEY", "SUPABASE_SSL_CA_LOCATION"]),
    (
        "KAFKA_BOOTSTRAP_SERVERS",
        &[
            "KAFKA_SASL_USERNAME",
            "KAFKA_SASL_PASSWORD",
            "KAFKA_SASL_MECHANISM",
            "KAFKA_SECURITY_PROTOCOL",
            "KAFKA_SSL_CA_LOCATION",
        ],
    ),
    (
        "ELASTICSEARCH_URL",
        &[
            "ELASTICSEARCH_USERNAME",
            "ELASTICSEARCH_PASSWORD",
            "ELASTICSEARCH_API_KEY",
            "ELASTICSEARCH_SSL_CA_LOCATION",
        ],
    ),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", &["OTEL_EXPORTER_OTLP_HEADERS"]),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &["OTEL_EXPORTER_OTLP_HEADERS"]),
];

/// What the client of PostgreSQL takes from the environment where the URL has no password.
const POSTGRES_PASSWORDS: [&str; 2] = ["PGPASSWORD", "PGPASSFILE"];

/// Where a variable was set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Environment,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Clone)]
struct Variable {
    value: String,
    origin: Origin,
}

/// Every variable that is set, and where. Values are never shown.
#[derive(Clone, Default)]
pub struct Variables {
    settings: BTreeMap<String, Variable>,
    /// No settings; some of them are typing mistakes.
    others: BTreeMap<String, Variable>,
    /// Set to nothing in the environment, which says that they are meant for other programs.
    emptied: BTreeSet<String>,
    /// What is wrong with variables that have no value for it.
    problems: Vec<(String, String)>,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.settings.keys()).finish()
    }
}

/// What became of a file's variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Settings that come from the file.
    pub settings: Vec<String>,
    /// Settings that the environment has, too.
    pub overridden: Vec<String>,
    /// What is no setting of sluice's.
    pub ignored: Vec<String>,
}

impl Variables {
    /// The environment's. A variable set to nothing counts as not set: that is what `KEY=` means to people.
    pub fn new(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            let Some(name) = name.to_str() else { continue };
            // There a name is the same in any case.
            let name = if cfg!(windows) { name.to_ascii_uppercase() } else { name.to_owned() };
            match value.into_string() {
                Ok(value) if value.trim().is_empty() => {
                    variables.emptied.insert(name);
                }
                Ok(value) => variables.set(name, &value, Origin::Environment),
                Err(_) if known::is_known(&name) => variables.problem(&name, "is not UTF-8"),
                Err(_) => {}
            }
        }
        variables
    }

    /// Adds a file's settings where the environment has none.
    ///
    /// # Errors
    /// When the text is no file of settings.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<Taken, SyntaxError> {
        let origin = Origin::File(path.to_owned());
        let mut taken = Taken::default();
        let mut lines: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for entry in env_file::parse(text)? {
            let place = format!("{} line {}", path.display(), entry.line);
            let is_known = known::is_known(&entry.name);
            let value = match entry.value {
                Ok(value) if value.trim().is_empty() => continue,
                Ok(value) => value,
                Err(problem) if is_known => {
                    self.problem(&entry.name, format_args!("{problem} ({place})"));
                    continue;
                }
                Err(_) => String::from("?"),
            };
            if secret::stands_for(&entry.name).is_some() && entry.name.ends_with(secret::COMMAND) {
                let problem =
                    "is taken from the environment alone, so that no file runs programs; set it there";
                self.problem(&entry.name, format_args!("{problem} ({place})"));
                continue;
            }
            if entry.name == ENV_FILE {
                self.problem(ENV_FILE, format_args!("has no effect in a file; remove it ({place})"));
                continue;
            }
            let list = if !is_known {
                &mut taken.ignored
            } else if self.settings.get(&entry.name).is_some_and(|known| known.origin == Origin::Environment)
            {
                &mut taken.overridden
            } else {
                &mut taken.settings
            };
            if !list.contains(&entry.name) {
                list.push(entry.name.clone());
            }
            if let Some((line, earlier)) = lines.insert(entry.name.clone(), (entry.line, value.clone()))
                && is_known
                && earlier != value
            {
                self.problem(
                    &entry.name,
                    format_args!("is set twice, the first time in line {line} ({place})"),
                );
            }
            self.set(entry.name, &value, origin.clone());
        }
        Ok(taken)
    }

    /// Says that a file was named, for programs that are started with the same settings.
    pub fn name_file(&mut self, path: &Path) {
        self.settings.remove(ENV_FILE);
        self.set(ENV_FILE.to_owned(), &path.to_string_lossy(), Origin::Environment);
    }

    /// The settings without the parts they name.
    #[must_use]
    pub fn without_parts(&self) -> Self {
        let mut left = self.clone();
        let is_of_a_part = |name: &str| matches!(name, "SLUICE_SAMPLE" | "SLUICE_LOG_ELASTICSEARCH");
        left.settings.retain(|name, _| name.starts_with("SLUICE_") && !is_of_a_part(name));
        left
    }

    /// The settings that the environment sets itself, without those of a file.
    #[must_use]
    pub fn without_file(&self) -> Self {
        let mut left = self.clone();
        left.settings.retain(|_, variable| variable.origin == Origin::Environment);
        left
    }

    /// The value of any variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.settings.get(name).or_else(|| self.others.get(name))?;
        Some(&found.value)
    }

    /// The names of the settings that are set, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Checks names and places, for those who need no settings.
    ///
    /// # Errors
    /// As of [`Settings::load`](super::Settings::load), for names and places alone.
    pub fn check(&self) -> Result<(), SettingsError> {
        Reader::new(self.clone()).finish()
    }

    /// Everything wrong with names and places: a variable, and what is wrong with it.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.problems.clone();
        let is_set = |name: &str| self.settings.contains_key(name);
        for (name, variable) in self.others.iter().filter(|(name, _)| !self.emptied.contains(*name)) {
            if let Some(mistake) = known::mistake(name, &variable.value, is_set) {
                let place = match &variable.origin {
                    Origin::Environment => String::new(),
                    origin @ Origin::File(_) => format!(" ({origin})"),
                };
                problems.push((name.clone(), mistake + &place));
            }
        }
        for (address, others) in TOGETHER {
            problems.extend(others.iter().find_map(|other| self.apart(address, other)));
        }
        problems.extend(self.password_for_a_file());
        problems
    }

    /// Whether what belongs together was set in two places.
    fn apart(&self, address: &str, other: &str) -> Option<(String, String)> {
        let (at, other_at) = (self.origin(address)?, self.origin(other)?);
        (at != other_at).then(|| {
            let problem = format!(
                "comes from {other_at} and {address} from {at}; set both in one place, so that no file leads a secret \
                 of the environment elsewhere"
            );
            (other.to_owned(), problem)
        })
    }

    /// The file that a secret was taken from, where others than its owner may read or change it.
    pub(super) fn open_file(&self) -> Option<PathBuf> {
        let (_, holds_secret) = self.settings.iter().find(|(name, variable)| {
            variable.origin != Origin::Environment && known::is_secret(name, &variable.value)
        })?;
        match &holds_secret.origin {
            Origin::File(path) if private_files::is_open(path) => Some(path.clone()),
            Origin::File(_) | Origin::Environment => None,
        }
    }

    /// Where a setting was set, or what stands for it.
    fn origin(&self, name: &str) -> Option<&Origin> {
        let stand_ins = secret::stand_ins(name);
        let found = [name].into_iter().chain(stand_ins.iter().map(String::as_str));
        found.into_iter().find_map(|name| self.settings.get(name)).map(|variable| &variable.origin)
    }

    /// The client of PostgreSQL would send the environment's password to a file's server.
    fn password_for_a_file(&self) -> Option<(String, String)> {
        let is_set =
            |name: &str| self.others.get(name).is_some_and(|other| other.origin == Origin::Environment);
        let password = POSTGRES_PASSWORDS.into_iter().find(|name| is_set(name))?;
        let lacks_one = |name: &str, variable: &Variable| {
            // What an address elsewhere holds is not known here.
            name.starts_with("DATABASE_") && secret::stands_for(name).is_some()
                || Url::parse(&variable.value).is_ok_and(|url| {
                    matches!(url.scheme(), "postgres" | "postgresql")
                        && url.password().is_none()
                        && !url.query_pairs().any(|(key, _)| key == "password")
                })
        };
        let (name, url) = self
            .settings
            .iter()
            .find(|(name, variable)| variable.origin != Origin::Environment && lacks_one(name, variable))?;
        let problem = format!(
            "comes from the environment and {name} from {} without a password; put the password into the URL, or set \
             {password} to nothing for sluice",
            url.origin
        );
        Some((password.to_owned(), problem))
    }

    /// The names of what is set and no setting.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str).filter(|name| !self.emptied.contains(*name))
    }

    pub(super) fn into_settings(self) -> BTreeMap<String, String> {
        self.settings.into_iter().map(|(name, variable)| (name, variable.value)).collect()
    }

    fn set(&mut self, name: String, value: &str, origin: Origin) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        let is_known = known::is_known(&name);
        if is_known && value.contains(char::is_control) {
            self.problem(&name, "has a line break or another control character in its value");
            return;
        }
        let list = if is_known { &mut self.settings } else { &mut self.others };
        list.entry(name).or_insert(Variable { value: value.to_owned(), origin });
    }

    fn problem(&mut self, name: &str, problem: impl fmt::Display) {
        self.problems.push((name.to_owned(), problem.to_string()));
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self::new(pairs.into_iter().map(|(name, value)| (name.into(), value.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/pasta/.env";

    fn variables(environment: &[(&str, &str)]) -> Variables {
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn with_file(environment: &[(&str, &str)], text: &str) -> (Variables, Taken) {
        let mut variables = variables(environment);
        let taken = variables.add_file(Path::new(FILE), text).expect("a file of settings");
        (variables, taken)
    }

    fn problems(variables: &Variables) -> String {
        let problems = variables.problems();
        let lines: Vec<String> =
            problems.iter().map(|(name, problem)| format!("{name}: {problem}\n")).collect();
        lines.concat()
    }

    #[test]
    fn a_file_sets_only_names_of_sluices_own_that_the_environment_leaves_open() {
        let (variables, taken) = with_file(
            &[("KAFKA_TOPIC", "of-environment")],
            "KAFKA_TOPIC=of-file\nSUPABASE_SCHEMA=of-file\nHTTPS_PROXY=http://evil\nSSL_CERT_FILE=/evil\n\
             PGHOST=evil\nPGPASSFILE=/evil\nRUST_LOG=trace\nKAFKA_TIMEOUT_SECONDS=\n",
        );
        assert_eq!(taken.settings, ["SUPABASE_SCHEMA"]);
        assert_eq!(taken.overridden, ["KAFKA_TOPIC"]);
        assert_eq!(taken.ignored, ["HTTPS_PROXY", "SSL_CERT_FILE", "PGHOST", "PGPASSFILE", "RUST_LOG"]);
        assert_eq!(problems(&variables), "");
        let settings = variables.into_settings();
        assert_eq!(settings.get("KAFKA_TOPIC").map(String::as_str), Some("of-environment"));
        assert_eq!(settings.keys().collect::<Vec<_>>(), ["KAFKA_TOPIC", "SUPABASE_SCHEMA"]);
    }

    #[test]
    fn an_address_and_what_is_sent_to_it_must_come_from_one_place() {
        for (address, other) in
            TOGETHER.iter().flat_map(|(address, others)| others.iter().map(move |other| (*address, *other)))
        {
            for (name, in_file) in [(other, address), (address, other)] {
                let (mixed, _) = with_file(&[(name, "segredo")], &format!("{in_file}=segredo"));
                let told = problems(&mixed);
                assert!(told.starts_with(&format!("{other}: comes from ")), "{told}");
                assert!(
                    told.contains("the environment") && told.contains(FILE) && told.contains(address),
                    "{told}"
                );
                assert!(!told.contains("segredo"), "{told}");
            }
            let both = format!("{address}=x\n{other}=y");
            assert_eq!(problems(&with_file(&[], &both).0), "");
            assert_eq!(problems(&variables(&[(address, "x"), (other, "y")])), "");
            // What the environment has whole, a file can't change.
            assert_eq!(problems(&with_file(&[(address, "x"), (other, "y")], &both).0), "");
        }
    }

    #[test]
    fn a_password_of_the_environment_goes_to_no_server_of_a_file() {
        for name in POSTGRES_PASSWORDS {
            let (mixed, _) = with_file(&[(name, "segredo")], "DATABASE_URL=postgres://sluice@evil/d");
            let told = problems(&mixed);
            assert!(told.contains(name) && told.contains(FILE) && !told.contains("segredo"), "{told}");
            let (whole, _) = with_file(&[(name, "x")], "DATABASE_URL='postgres://sluice:senha@db/d'");
            assert_eq!(problems(&whole), "");
            let (whole, _) =
                with_file(&[(name, "x")], "DATABASE_URL='postgres://sluice@db/d?password=senha'");
            assert_eq!(problems(&whole), "");
            assert_eq!(problems(&variables(&[(name, "x"), ("DATABASE_URL", "postgres://sluice@db/d")])), "");
            let (ignored, _) = with_file(&[], &format!("{name}=x\nDATABASE_URL='postgres://sluice@db/d'"));
            assert_eq!(problems(&ignored), "", "nothing takes it from the file");
        }
    }

    #[test]
    fn what_a_file_says_in_two_ways_or_can_not_say_is_refused_by_name_and_line() {
        for (text, expected) in [
            (
                "KAFKA_TOPIC=a\nKAFKA_TOPIC=b",
                "KAFKA_TOPIC: is set twice, the first time in line 1 (/pasta/.env line 2)",
            ),
            ("SUPABASE_KEY=a$b", "SUPABASE_KEY: has one of $"),
            ("SUPABASE_KEY='a\nb'", "SUPABASE_KEY: has a line break"),
            ("SLUICE_ENV_FILE=/x", "SLUICE_ENV_FILE: has no effect in a file"),
            ("SUPABSE_URL=x", "SUPABSE_URL: is no setting; did you mean SUPABASE_URL?"),
        ] {
            let told = problems(&with_file(&[], text).0);
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        let (same, _) =
            with_file(&[], "KAFKA_TOPIC=a\nKAFKA_TOPIC=a\nKAFKA_TOPIC=\nSOME_THING=$x\nSOME_THING=y");
        assert_eq!(problems(&same), "");
    }

    #[test]
    fn a_variable_of_another_program_is_set_to_nothing_where_it_looks_like_a_mistake() {
        assert!(problems(&with_file(&[], "DATABASE_URI=x").0).contains("DATABASE_URL"));
        assert_eq!(problems(&with_file(&[("DATABASE_URI", "")], "DATABASE_URI=x").0), "");
        assert_eq!(problems(&variables(&[("DATABASE_URI", ""), ("SLUICE_NOTHING", " ")])), "");
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_problem_only_where_it_is_a_setting() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![0xff]);
        let variables = Variables::new([
            ("KAFKA_TOPIC".into(), broken()),
            ("SOME_PATH".into(), broken()),
            (broken(), broken()),
        ]);
        assert_eq!(problems(&variables), "KAFKA_TOPIC: is not UTF-8\n");
    }

    #[test]
    fn no_value_is_shown() {
        assert!(!format!("{:?}", variables(&[("SUPABASE_KEY", "segredo")])).contains("segredo"));
    }
}
