//! The login that questions run under: the one `DATABASE_READ_URL` names, else one that `sluice migrate
//! --create-reader` made and whose password the data folder keeps, else sluice's own.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use super::{
    address::{Address, Known},
    connection::Connector,
    faults::{self, PART},
};
use crate::{config::PostgresSettings, fault::Fault, private_files};

/// Where a login came from, and so what mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `DATABASE_READ_URL`.
    Named,
    /// The data folder.
    Kept,
    /// There is none for questions.
    Own,
}

/// How connections for questions are made.
#[derive(Clone)]
pub(super) struct Login {
    pub origin: Origin,
    pub options: PgConnectOptions,
    /// What the server's address, and but for a kept login the password, was read from.
    known: Arc<Known>,
    /// Tells one password of the data folder from a later one.
    password: Option<SecretString>,
}

impl Login {
    /// Whether connections made for the other serve this one.
    pub(super) fn is(&self, other: &Self) -> bool {
        let key = |login: &Self| {
            let password = login.password.as_ref().map(|password| password.expose_secret().to_owned());
            (login.origin, login.options.get_username().to_owned(), password)
        };
        key(self) == key(other) && (self.origin == Origin::Kept || Arc::ptr_eq(&self.known, &other.known))
    }
}

/// Finds the login for questions, anew each time: one made meanwhile, by whatever process, counts at once.
#[derive(Clone)]
pub(super) struct Logins {
    own: Connector,
    named: Option<Arc<Address>>,
    kept: KeptLogins,
}

impl Logins {
    pub(super) fn new(settings: &PostgresSettings, own: Connector) -> Result<Self, Fault> {
        let named =
            settings.read_url.as_ref().map(|url| Address::new("DATABASE_READ_URL", url)).transpose()?;
        Ok(Self { own, named: named.map(Arc::new), kept: KeptLogins::new(&settings.data_dir) })
    }

    /// The login to use now.
    ///
    /// # Errors
    /// When the data folder's file can't be read or is open to others.
    pub(super) fn current(&self) -> Result<Login, Fault> {
        let own = self.own.address();
        if let Some(named) = &self.named {
            let named = named.current();
            let same = named.options.get_username() == own.options.get_username();
            let origin = if same { Origin::Own } else { Origin::Named };
            return Ok(Login { origin, options: named.options.clone(), known: named, password: None });
        }
        let kept = self.kept.find(&database_key(&own.options))?;
        Ok(match kept {
            Some(KeptLogin { login, password }) => Login {
                origin: Origin::Kept,
                options: own.options.clone().username(&login).password(&password),
                known: own,
                password: Some(password.into()),
            },
            None => Login { origin: Origin::Own, options: own.options.clone(), known: own, password: None },
        })
    }

    /// After an error: whether another login, or another password of it, stands in the place of one that was refused.
    pub(super) async fn renew(&self, used: &Login, error: &sqlx::Error) -> bool {
        match &self.named {
            Some(named) => named.renew(&used.known, error, |_| ()).await,
            None if used.origin == Origin::Own => self.own.renew(&used.known, error).await,
            // The file is read each time.
            None => faults::is_refused_login(error) && self.current().is_ok_and(|now| !now.is(used)),
        }
    }

    /// The user that `DATABASE_READ_URL` names.
    pub(super) fn named_user(&self) -> Option<String> {
        self.named.as_ref().map(|named| named.current().options.get_username().to_owned())
    }

    /// The database that `DATABASE_READ_URL` names.
    pub(super) fn named_place(&self) -> Option<String> {
        self.named.as_ref().map(|named| database_key(&named.current().options))
    }

    /// How sluice itself connects.
    pub(super) fn own(&self) -> PgConnectOptions {
        self.own.address().options.clone()
    }

    pub(super) fn kept(&self) -> &KeptLogins {
        &self.kept
    }
}

/// A login and its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptLogin {
    pub login: String,
    pub password: String,
}

/// The file of logins in the data folder, one a database: a password is never offered to another server than the one it
/// was made on. Its owner alone may read it.
#[derive(Clone)]
pub(super) struct KeptLogins {
    folder: PathBuf,
}

impl KeptLogins {
    const FILE: &'static str = "postgres-readers.json";

    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(Self::FILE)
    }

    pub(super) fn find(&self, database: &str) -> Result<Option<KeptLogin>, Fault> {
        Ok(self.read()?.remove(database))
    }

    /// Keeps a login, in place of an earlier one for the same database.
    pub(super) fn keep(&self, database: &str, login: KeptLogin) -> Result<(), Fault> {
        private_files::folder(&self.folder).map_err(|error| self.unusable("writing", &error))?;
        let mut all = self.read()?;
        all.insert(database.to_owned(), login);
        self.write(&all).map_err(|error| self.unusable("writing", &error))
    }

    fn read(&self) -> Result<BTreeMap<String, KeptLogin>, Fault> {
        match self.contents() {
            Ok(contents) => Ok(contents),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(self.unusable("reading", &error)),
        }
    }

    fn contents(&self) -> io::Result<BTreeMap<String, KeptLogin>> {
        let text = private_files::read(&self.path())?;
        // The parser's words would quote a password.
        serde_json::from_str(&text)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not what sluice wrote"))
    }

    fn write(&self, all: &BTreeMap<String, KeptLogin>) -> io::Result<()> {
        private_files::replace(&self.path(), &serde_json::to_vec_pretty(all)?)
    }

    fn unusable(&self, what: &str, error: &io::Error) -> Fault {
        Fault::misconfigured(
            PART,
            format!("{what} the logins for questions in {} failed: {error}", self.path().display()),
            "mend the file, or delete it and run `sluice migrate --create-reader --new-password`",
        )
    }
}

/// What tells one database from another among the kept logins.
pub(super) fn database_key(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}:{}/{database}", socket.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn logins(folder: &Path, read_url: Option<&str>) -> Logins {
        let settings = PostgresSettings {
            url: "postgres://sluice:senha@db:5433/dados".to_owned().into(),
            read_url: read_url.map(|url| url.to_owned().into()),
            data_dir: folder.to_owned(),
            max_connections: 3,
            timeout: Duration::from_secs(1),
        };
        let own = Connector::new(&settings).expect("a URL");
        Logins::new(&settings, own).expect("logins")
    }

    fn keep(logins: &Logins, database: &str, password: &str) {
        let login = KeptLogin { login: "leitor".to_owned(), password: password.to_owned() };
        logins.kept().keep(database, login).expect("it is kept");
    }

    #[tokio::test]
    async fn the_login_is_the_named_one_else_the_kept_one_else_sluice_s_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("new");
        let plain = logins(&data, None);
        assert_eq!(plain.current().expect("a login").origin, Origin::Own, "nothing is kept");
        keep(&plain, "outro:5433/dados", "alheia");
        let own = plain.current().expect("a login");
        assert_eq!(own.origin, Origin::Own, "another server's password stays at home");
        keep(&plain, "db:5433/dados", "um");
        let kept = plain.current().expect("a login");
        assert_eq!((kept.origin, kept.options.get_username()), (Origin::Kept, "leitor"));
        assert_eq!(kept.options.get_host(), "db");
        assert!(!kept.is(&own) && kept.is(&kept.clone()));
        keep(&plain, "db:5433/dados", "dois");
        assert!(!plain.current().expect("a login").is(&kept), "another password is another login");
        let named = logins(&data, Some("postgres://l:s@replica/dados")).current().expect("a login");
        assert_eq!((named.origin, named.options.get_host()), (Origin::Named, "replica"));
        let same = logins(&data, Some("postgres://sluice:s@replica/dados")).current().expect("a login");
        assert_eq!((same.origin, same.options.get_host()), (Origin::Own, "replica"), "no login of its own");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_file_is_its_owner_s_alone_or_is_refused() {
        use std::{
            fs,
            os::unix::fs::{PermissionsExt as _, symlink},
        };
        let folder = tempfile::tempdir().expect("a folder");
        let logins = logins(folder.path(), None);
        keep(&logins, "db:5433/dados", "segredo");
        let path = logins.kept().path();
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions");
        let fault = logins.current().err().expect("refused").to_string();
        assert!(fault.contains("chmod 600") && !fault.contains("segredo"), "{fault}");

        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).expect("renamed");
        symlink(&elsewhere, &path).expect("a link");
        assert!(logins.current().is_err(), "a link, wherever it leads");

        fs::remove_file(&path).expect("removed");
        fs::write(&path, "{\"db:5433/dados\": \"segredo\"}").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
        let fault = logins.current().err().expect("refused").to_string();
        assert!(fault.contains("not what sluice wrote") && !fault.contains("segredo"), "{fault}");
    }
}
