//! Secrets that stand elsewhere: had anew when they are changed, and told nowhere.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use futures::future::join_all;
use sluice::{
    config::Settings,
    engine::SyncPhase,
    parts,
    source::sample::{Failure, Fault, SampleServer, keys},
};

use crate::support::{
    cli::{run, sluice},
    request,
    rows::{lead, leads},
    sync, table,
};

fn write(path: &Path, secret: &str) {
    fs::write(path, secret).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_changed_while_sluice_runs_is_used_from_its_first_refusal_on() {
    let source = SampleServer::start(0).await.expect("a free port");
    source.set_rows(table("leads"), leads(5));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    write(&path, keys::SECRET);
    let variables = [
        ("SUPABASE_URL", source.url()),
        ("SUPABASE_KEY_FILE", path.display().to_string()),
        ("SUPABASE_RETRY_SECONDS", "2".to_owned()),
        ("SLUICE_DATA_DIR", folder.path().join("data").display().to_string()),
    ];
    let settings = Settings::load(variables.map(|(name, value)| (name.to_owned(), value))).expect("settings");
    let engine = parts::engine(&settings).await.expect("an engine");
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);

    let refusal = || Fault::Refuse(Failure::new(401, "PGRST301", "JWT expired", None));
    source.script([refusal()]);
    let refused = sync(&engine, request(table("leads"))).await;
    assert_eq!(refused.state, SyncPhase::Failed, "there is no other key: {refused:?}");

    write(&path, keys::SERVICE_ROLE);
    source.script([refusal()]);
    source.upsert(table("leads"), vec![lead(9, 0)]);
    source.take_requests();
    let renewed = sync(&engine, request(table("leads"))).await;
    assert_eq!((renewed.state, renewed.appended), (SyncPhase::Done, 1), "{renewed:?}");
    let requests = source.take_requests();
    let is_legacy = |headers: &[String]| headers.iter().any(|header| header == "authorization");
    assert!(!is_legacy(&requests[0].key_headers) && is_legacy(&requests[1].key_headers), "{requests:?}");
    engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_of_any_command_holds_a_secret_however_it_is_given() {
    const SECRETS: [&str; 5] = [
        "sb_secret_nunca_visto",
        "senha-do-banco-nunca",
        "senha-do-kafka-nunca",
        "senha-da-busca-nunca",
        "chave-dos-rastros-nunca",
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let (key, database) = (folder.path().join("key"), folder.path().join("database"));
    write(&key, SECRETS[0]);
    write(&database, &format!("postgres://sluice:{}@127.0.0.1:9/sluice", SECRETS[1]));
    // A command is handed on where secrets may be; what it prints never is.
    let printing = |name: &str, secret: &str| {
        write(&folder.path().join(name), secret);
        format!("cat '{}'", folder.path().join(name).display())
    };
    let variables = [
        ("SUPABASE_URL", "http://127.0.0.1:9".to_owned()),
        ("SUPABASE_KEY_FILE", key.display().to_string()),
        ("DATABASE_URL_FILE", database.display().to_string()),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9".to_owned()),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext".to_owned()),
        ("KAFKA_SASL_MECHANISM", "PLAIN".to_owned()),
        ("KAFKA_SASL_USERNAME", "sluice".to_owned()),
        ("KAFKA_SASL_PASSWORD_COMMAND", printing("kafka", SECRETS[2])),
        ("ELASTICSEARCH_URL", "http://127.0.0.1:9".to_owned()),
        ("ELASTICSEARCH_USERNAME", "sluice".to_owned()),
        ("ELASTICSEARCH_PASSWORD_COMMAND", printing("search", SECRETS[3])),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS_COMMAND", printing("traces", &format!("x-key={}", SECRETS[4]))),
        ("SLUICE_LOG", "trace".to_owned()),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
    ];
    let seconds =
        ["SUPABASE", "DATABASE", "KAFKA", "ELASTICSEARCH"].map(|part| format!("{part}_TIMEOUT_SECONDS"));
    let commands: [&[&str]; 10] = [
        &["doctor"],
        &["status"],
        &["migrate"],
        &["sync", "leads"],
        &["search", "*"],
        &["sql", "SELECT 1"],
        &["report"],
        &["tables", "check"],
        &["client-config", "claude"],
        &["client-config", "claude", "--with-secrets"],
    ];
    let outcomes = join_all(commands.map(|arguments| {
        let mut command = sluice(folder.path(), arguments);
        command.envs(variables.clone()).env("SUPABASE_RETRY_SECONDS", "1");
        command.envs(seconds.iter().map(|name| (name, "1")));
        run(command)
    }));
    for (arguments, outcome) in commands.iter().zip(outcomes.await) {
        for secret in SECRETS {
            assert!(!outcome.all().contains(secret), "{arguments:?} shows {secret}: {outcome:?}");
        }
        let is_client = arguments[0] == "client-config";
        let told = ["DATABASE_URL_FILE", "SUPABASE_KEY_FILE", "KAFKA_SASL_PASSWORD_COMMAND"];
        assert!(!is_client || told.iter().all(|name| outcome.all().contains(name)), "{outcome:?}");
        assert!(
            is_client || outcome.all().contains("127.0.0.1:9"),
            "{arguments:?} tried the parts: {outcome:?}"
        );
    }
}
