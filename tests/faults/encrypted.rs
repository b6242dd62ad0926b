//! Every part over TLS, with a password each: one row's whole way, and what each part refuses.

use std::os::unix::fs::PermissionsExt as _;

use sluice::engine::{Engine, SyncPhase};

use crate::{
    bed::{PATIENCE, comes, run_to_end},
    cluster::{Cluster, Listener},
    suite::{Row, Run},
    support::{
        Pipeline, finished,
        folder::TestFolder,
        request,
        rows::{lead, leads},
        servers::Servers,
        service, table,
    },
    tls::{Certificates, Door},
};

const USER: &str = "sluice";
const PASSWORD: &str = "segredo-que-ninguem-ve";
/// `sluice:segredo-que-ninguem-ve` as HTTP spells it.
const BASIC: &str = "authorization: Basic c2x1aWNlOnNlZ3JlZG8tcXVlLW5pbmd1ZW0tdmU=";

/// A setting that is wrong, the command that meets it, and what it must be told.
struct Wrong {
    what: &'static str,
    change: &'static [(&'static str, &'static str)],
    command: &'static [&'static str],
    told: &'static [&'static str],
}

/// An empty value takes a setting away. `@` stands for what the setting was.
const WRONGS: [Wrong; 10] = [
    Wrong {
        what: "Kafka's certificate is not trusted",
        change: &[("KAFKA_SSL_CA_LOCATION", "")],
        command: &["migrate"],
        told: &["certificate is not trusted", "KAFKA_SSL_CA_LOCATION"],
    },
    Wrong {
        what: "Kafka's password is wrong",
        change: &[("KAFKA_SASL_PASSWORD", "outra-senha")],
        command: &["migrate"],
        told: &["refuse the user", "KAFKA_SASL_PASSWORD"],
    },
    Wrong {
        what: "Kafka is spoken to without TLS",
        change: &[("KAFKA_SECURITY_PROTOCOL", "")],
        command: &["migrate"],
        told: &["KAFKA_SECURITY_PROTOCOL"],
    },
    Wrong {
        what: "PostgreSQL's certificate is not trusted",
        change: &[("DATABASE_URL", "@&sslrootcert=")],
        command: &["migrate"],
        told: &["TLS", "sslrootcert"],
    },
    Wrong {
        what: "PostgreSQL's password is wrong",
        change: &[("DATABASE_URL", "@:outra-senha@")],
        command: &["migrate"],
        told: &["check user and password in DATABASE_URL"],
    },
    Wrong {
        what: "Elasticsearch's certificate is not trusted",
        change: &[("ELASTICSEARCH_SSL_CA_LOCATION", "")],
        command: &["migrate"],
        told: &["certificate", "ELASTICSEARCH_SSL_CA_LOCATION"],
    },
    Wrong {
        what: "Elasticsearch's password is wrong",
        change: &[("ELASTICSEARCH_PASSWORD", "outra-senha")],
        command: &["migrate"],
        told: &["401", "ELASTICSEARCH_"],
    },
    Wrong {
        what: "the file of Elasticsearch's authority holds none",
        change: &[("ELASTICSEARCH_SSL_CA_LOCATION", "/dev/null")],
        command: &["migrate"],
        told: &["/dev/null holds no certificate", "PEM"],
    },
    Wrong {
        what: "Supabase's certificate is not trusted",
        change: &[("SUPABASE_SSL_CA_LOCATION", "")],
        command: &["sync", "leads"],
        told: &["certificate is not trusted", "SUPABASE_SSL_CA_LOCATION"],
    },
    Wrong {
        what: "Supabase's key is wrong",
        change: &[("SUPABASE_KEY", "sb_secret_outra")],
        command: &["sync", "leads"],
        told: &["SUPABASE_KEY"],
    },
];

/// Everything that a run needs.
struct Encrypted {
    pipeline: Pipeline,
    certificates: Certificates,
    cluster: Cluster,
    servers: Servers,
    doors: [Door; 2],
}

fn broker(certificates: &Certificates) -> Listener {
    let (keystore, authority) = (certificates.keystore(), certificates.authority());
    let properties = format!(
        "sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"broker\" password=\"{PASSWORD}\" user_broker=\"{PASSWORD}\";\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
        keystore.display(),
        authority.display(),
    );
    let client = [
        ("security.protocol", "sasl_ssl".to_owned()),
        ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", USER.to_owned()),
        ("sasl.password", PASSWORD.to_owned()),
        ("ssl.ca.location", authority.display().to_string()),
    ];
    let users = vec![format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")];
    Listener { protocol: "SASL_SSL", properties, users, client: client.into() }
}

impl Encrypted {
    async fn new() -> Self {
        let certificates = Certificates::new();
        let authority = certificates.authority().display().to_string();
        let cluster = Cluster::start(1, broker(&certificates)).await;
        let servers = Servers::start_some(&["postgres"]).await;
        let mut pipeline = Pipeline::on(&servers.admin_url(), &servers.database_url()).await;
        servers.require_tls(USER, PASSWORD, &certificates.certificate, &certificates.key).await;
        let url = pipeline.variables["DATABASE_URL"].replacen("sluice@", &format!("{USER}:{PASSWORD}@"), 1);
        let elasticsearch = service("ELASTICSEARCH_URL");
        let target = elasticsearch.trim_start_matches("http://").trim_end_matches('/');
        let search = Door::to(target, &certificates, Some(BASIC)).await;
        let supabase = pipeline.source.url();
        let rest = Door::to(supabase.trim_start_matches("http://"), &certificates, None).await;
        for (name, value) in [
            ("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers()),
            ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl".to_owned()),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".to_owned()),
            ("KAFKA_SASL_USERNAME", USER.to_owned()),
            ("KAFKA_SASL_PASSWORD", PASSWORD.to_owned()),
            ("KAFKA_SSL_CA_LOCATION", authority.clone()),
            ("DATABASE_URL", format!("{url}?sslmode=verify-full&sslrootcert={authority}")),
            ("ELASTICSEARCH_URL", format!("https://{}", search.address)),
            ("ELASTICSEARCH_USERNAME", USER.to_owned()),
            ("ELASTICSEARCH_PASSWORD", PASSWORD.to_owned()),
            ("ELASTICSEARCH_SSL_CA_LOCATION", authority.clone()),
            ("SUPABASE_URL", format!("https://{}", rest.address)),
            ("SUPABASE_SSL_CA_LOCATION", authority),
        ] {
            pipeline.set(name, value);
        }
        Self { pipeline, certificates, cluster, servers, doors: [search, rest] }
    }

    /// A command with a setting that is wrong; what is wrong with its answer.
    async fn refused(&self, wrong: &Wrong) -> Option<String> {
        let mut command = self.pipeline.command(wrong.command);
        command.env("KAFKA_TIMEOUT_SECONDS", "5").env("ELASTICSEARCH_TIMEOUT_SECONDS", "5");
        for (name, value) in wrong.change {
            let was = &self.pipeline.variables[*name];
            let authority = self.certificates.authority().display().to_string();
            let value = match *value {
                "@&sslrootcert=" => was.replace(&format!("&sslrootcert={authority}"), ""),
                "@:outra-senha@" => was.replace(PASSWORD, "outra-senha"),
                other => other.to_owned(),
            };
            command.env(name, value);
        }
        let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
            return Some(format!("{}: it does not end", wrong.what));
        };
        let output = output.expect("the program runs");
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        // What the client's own log says does not count.
        let told: String = said.lines().filter(|line| !line.starts_with('{')).collect();
        let lacks: Vec<&&str> = wrong.told.iter().filter(|text| !told.contains(**text)).collect();
        let is_well = !output.status.success()
            && lacks.is_empty()
            && !said.contains(PASSWORD)
            && !said.contains("outra-senha");
        (!is_well).then(|| format!("{}: {:?}, without {lacks:?}: {told}", wrong.what, output.status.code()))
    }
}

/// Each part over TLS with its password, and each refused without.
pub async fn every_part(run: Run) -> Row {
    let mut row = run.row();
    let encrypted = Encrypted::new().await;
    let pipeline = &encrypted.pipeline;
    pipeline.source.set_rows(table("leads"), leads(1));
    for trouble in [
        run_to_end(pipeline.command(&["migrate"]), "migrate").await,
        run_to_end(pipeline.command(&["sync", "leads", "--wait"]), "sync leads --wait").await,
    ] {
        row.found.other.extend(trouble);
    }
    let stored = pipeline.try_number("SELECT count(*) FROM leads").await;
    let found = pipeline.try_hits("leads", "*").await;
    if (stored, found) != (Some(1), Some(1)) {
        row.trouble(format!("of one row {stored:?} are stored and {found:?} found"));
    }
    for wrong in WRONGS.iter().cycle().take(WRONGS.len() * run.injections as usize) {
        row.found.other.extend(encrypted.refused(wrong).await);
        row.injections += 1;
    }
    pipeline.clean_up_indices().await;
    row
}

/// Whether a sync brings in all that there is.
async fn done(engine: &Engine) -> bool {
    match engine.syncs.start(request(table("leads"))).await {
        Ok(id) => finished(engine, id).await.state == SyncPhase::Done,
        Err(_) => false,
    }
}

/// Kafka's password is changed and the broker is killed, so that no connection stays: the drains and a sync go on with what
/// stands in the file.
pub async fn changed_password(run: Run) -> Row {
    let mut row = run.row();
    let Encrypted {
        mut pipeline,
        certificates: _certificates,
        mut cluster,
        servers: _servers,
        doors: _doors,
    } = Encrypted::new().await;
    let folder = TestFolder::new();
    let path = folder.path().join("password");
    let write = |password: &str| {
        std::fs::write(&path, password).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    };
    write(PASSWORD);
    pipeline.variables.remove("KAFKA_SASL_PASSWORD");
    pipeline.set("KAFKA_SASL_PASSWORD_FILE", path.display().to_string());
    pipeline.set("KAFKA_TIMEOUT_SECONDS", "5");
    pipeline.set("KAFKA_SESSION_TIMEOUT_SECONDS", "6");
    let engine = pipeline.engine().await;
    engine.start_drains().await;
    pipeline.source.set_rows(table("leads"), leads(3));
    if !done(&engine).await {
        row.trouble("the first password does not open the log");
    }
    for round in 0..run.injections {
        let password = format!("outro-segredo-{round}");
        cluster.change_password(USER, &password);
        cluster.kill(0);
        cluster.restart(0).await;
        // Refused before there is another to read, and after.
        let id = 100 + u128::from(round);
        pipeline.source.upsert(table("leads"), vec![lead(id, 0)]);
        if done(&engine).await {
            row.trouble(format!("round {round}: the earlier password still opens the log"));
        }
        write(&password);
        let expected = i64::from(round) + 4;
        let came = comes(PATIENCE, async || {
            done(&engine).await
                && pipeline.try_number("SELECT count(*) FROM leads").await == Some(expected)
                && pipeline.try_hits("leads", "*").await == Some(expected)
        });
        if !came.await {
            row.trouble(format!("round {round}: nothing goes on: {:?}", engine.drains.reports()));
        }
        row.injections += 1;
    }
    engine.shut_down().await;
    pipeline.clean_up_indices().await;
    row
}
