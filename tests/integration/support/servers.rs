//! Real servers of a test's own, to be killed: the shared ones have other tests' work in hand.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;
use uuid::Uuid;

/// How long servers may take to start or stop; longer than the script waits itself.
const PATIENCE: Duration = Duration::from_mins(5);

/// Kafka and PostgreSQL on ports and in a folder of their own; stopped and deleted when dropped.
pub struct Servers {
    folder: PathBuf,
    ports: [(&'static str, u16); 2],
}

impl Servers {
    pub async fn start() -> Self {
        Self::start_some(&["kafka", "postgres"]).await
    }

    /// Only some of them.
    pub async fn start_some(services: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).expect("a new folder");
        // PostgreSQL's user must be able to enter it.
        #[cfg(unix)]
        {
            use std::os::unix::fs::{PermissionsExt, symlink};
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("permissions");
            let shared =
                std::env::var("SLUICE_SERVICES_DIR").map_or_else(|_| root().join(".services"), PathBuf::from);
            symlink(shared.join("libs"), folder.join("libs")).expect("a link to the jars");
        }
        let (kafka, postgres) = (free_ports(), free_ports());
        let servers =
            Self { folder, ports: [("SLUICE_KAFKA_PORT", kafka), ("SLUICE_POSTGRES_PORT", postgres)] };
        servers.run("start", services).await;
        servers
    }

    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0].1)
    }

    /// As the login that owns sluice's database.
    pub fn database_url(&self) -> String {
        format!("postgres://sluice@127.0.0.1:{}/sluice", self.ports[1].1)
    }

    /// As a superuser.
    pub fn admin_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/sluice", self.ports[1].1)
    }

    /// Lets a login in only by its password; all others need none.
    pub async fn require_password(&self, login: &str) {
        self.add_rules(login, &format!("host all {login} 127.0.0.1/32 scram-sha-256")).await;
    }

    /// Gives a login a password, and lets it in by that and over TLS only.
    #[cfg(unix)]
    // The fault suite's alone.
    #[allow(dead_code)]
    pub async fn require_tls(&self, login: &str, password: &str, certificate: &[u8], key: &[u8]) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let data = self.folder.join("data/postgres");
        let owner = std::fs::metadata(&data).expect("the server's folder");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
            chown(&path, Some(owner.uid()), Some(owner.gid())).expect("the server's own");
        }
        let mut admin = super::connect(&self.admin_url()).await;
        for sql in [&*format!("ALTER ROLE {login} PASSWORD '{password}'"), "ALTER SYSTEM SET ssl = on"] {
            sqlx::query(sql).execute(&mut admin).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let local = format!("all {login} 127.0.0.1/32");
        self.add_rules(login, &format!("hostssl {local} scram-sha-256\nhostnossl {local} reject")).await;
        super::eventually("the server speaks TLS", async || {
            let mut anew = super::connect(&self.admin_url()).await;
            let speaks = sqlx::query_scalar::<_, bool>("SELECT current_setting('ssl')::boolean");
            speaks.fetch_one(&mut anew).await.expect("an answer")
        })
        .await;
    }

    async fn add_rules(&self, login: &str, added: &str) {
        let path = self.folder.join("data/postgres/pg_hba.conf");
        let rules = std::fs::read_to_string(&path).expect("the server's rules");
        std::fs::write(&path, format!("{added}\n{rules}")).expect("written");
        let mut admin = super::connect(&self.admin_url()).await;
        sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await.expect("reloaded");
        super::eventually("the rule counts", async || {
            let counts = sqlx::query_scalar::<_, bool>(
                "SELECT EXISTS (SELECT FROM pg_hba_file_rules WHERE $1 = ANY(user_name))
                    AND pg_conf_load_time() > pg_postmaster_start_time()",
            );
            counts.bind(login).fetch_one(&mut admin).await.expect("an answer")
        })
        .await;
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub async fn kill(&self, service: &str) {
        self.signal(service, "-9").await;
    }

    /// SIGSTOP: it takes connections and answers nothing.
    pub async fn freeze(&self, service: &str) {
        self.signal(service, "-STOP").await;
    }

    /// SIGCONT: it goes on.
    pub async fn thaw(&self, service: &str) {
        self.signal(service, "-CONT").await;
    }

    async fn signal(&self, service: &str, signal: &str) {
        let pid_file = match service {
            "postgres" => self.folder.join("data/postgres/postmaster.pid"),
            other => self.folder.join(format!("run/{other}.pid")),
        };
        let text = std::fs::read_to_string(pid_file).expect("a pid file");
        let pid = text.lines().next().expect("a pid");
        assert!(Command::new("kill").args([signal, pid]).status().await.expect("kill runs").success());
    }

    /// Stops PostgreSQL and starts it as a standby, which only reads until it is promoted.
    // The fault suite has no use for it.
    #[allow(dead_code)]
    pub async fn make_standby(&self) {
        self.run("stop", &["postgres"]).await;
        std::fs::write(self.folder.join("data/postgres/standby.signal"), "").expect("written");
        // It starts and answers; that its database can't be seen to is told as a failure.
        self.command("start", &["postgres"]).output().await.expect("tools/services runs");
        let mut admin = super::connect(&self.admin_url()).await;
        let is_standby = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
        assert!(is_standby.fetch_one(&mut admin).await.expect("an answer"));
    }

    pub async fn restart(&self, service: &str) {
        self.run("start", &[service]).await;
    }

    async fn run(&self, command: &str, services: &[&str]) {
        let ended =
            tokio::time::timeout(PATIENCE, self.command(command, services).kill_on_drop(true).output());
        let output = ended.await.unwrap_or_else(|_| panic!("{command} {services:?} did not end"));
        let output = output.expect("tools/services runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, command: &str, services: &[&str]) -> Command {
        let mut process = Command::new(root().join("tools/services"));
        process.arg(command).args(services).env("SLUICE_SERVICES_DIR", &self.folder);
        process.envs(self.ports.map(|(name, port)| (name, port.to_string()))).stdin(Stdio::null());
        process
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let mut stop = self.command("stop", &["kafka", "postgres"]).into_std();
        stop.stderr(Stdio::null()).status().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first of two neighbouring ports that are free, and that the system gives to no connection until they are bound.
fn free_ports() -> u16 {
    const BELOW_EPHEMERAL: std::ops::Range<u16> = 20_000..32_000;
    loop {
        let [high, low, ..] = Uuid::new_v4().into_bytes();
        let within = u16::from_be_bytes([high, low]) % (BELOW_EPHEMERAL.end - BELOW_EPHEMERAL.start);
        let port = BELOW_EPHEMERAL.start + within;
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}
