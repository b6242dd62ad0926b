//! Where settings come from: never from a folder that somebody else filled, and an address and its secret from one
//! place.

use std::path::Path;

use serde_json::json;
use sluice::source::sample::{SampleServer, keys};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    cli::{Outcome, run, sluice},
    client::Client,
    rows::leads,
    terminal::typed,
};

const COUNT: &[&str] = &["sync", "leads"];

struct Place {
    folder: TempDir,
    source: SampleServer,
}

impl Place {
    /// A folder whose file of settings leads to a project of its own.
    async fn new() -> Self {
        let place = Self::without_file().await;
        place.write(&place.lines());
        place
    }

    async fn without_file() -> Self {
        let source = SampleServer::start(0).await.expect("a free port");
        source.set_rows(crate::support::table("leads"), leads(3));
        Self { folder: tempfile::tempdir().expect("a folder"), source }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn lines(&self) -> String {
        format!("SUPABASE_URL={}\nSUPABASE_KEY={}\n", self.source.url(), keys::SECRET)
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path().join(".env"), text).expect("written");
    }

    fn sluice(&self, arguments: &[&str]) -> Command {
        sluice(self.path(), arguments)
    }

    fn was_asked(&self) -> bool {
        !self.source.take_requests().is_empty()
    }
}

fn refused(outcome: &Outcome, reasons: &[&str]) {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for reason in reasons {
        assert!(outcome.stderr.contains(reason), "{reason} is missing in {}", outcome.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_over_stdio_reads_no_file_of_the_folder_it_is_started_in() {
    let place = Place::new().await;
    let session = Client::starting(place.sluice(&["serve"])).await;
    let status = session.answer("get_pipeline_status", json!({})).await;
    assert_eq!(status["source"]["name"], "sample", "{status}");
    session.close().await;
    assert!(!place.was_asked(), "the folder's file led sluice to its server");

    // Not even where a person typed it.
    let outcome = typed(place.sluice(&["serve", "--list-tools"])).await;
    assert!(
        outcome.stderr.contains("is not read") && !outcome.stderr.contains("come from a file"),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_command_reads_the_folders_file_and_tells_what_came_from_it() {
    let place = Place::new().await;
    let more = "HTTPS_PROXY=http://127.0.0.1:9\nHTTP_PROXY=http://127.0.0.1:9\nSSL_CERT_FILE=/nowhere\nPGHOST=evil\n";
    place.write(&format!("{}KAFKA_HOME=/opt/kafka\n{more}", place.lines()));
    let outcome = typed(place.sluice(COUNT)).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("3 rows read"), "{outcome:?}");
    let told = &outcome.stderr;
    assert!(
        told.contains("settings come from a file") && told.contains("SUPABASE_URL, SUPABASE_KEY"),
        "{told}"
    );
    assert!(told.contains(&format!("{}/.env", place.path().display())), "{told}");
    assert!(told.contains("HTTPS_PROXY, HTTP_PROXY, SSL_CERT_FILE, PGHOST"), "{told}");
    assert!(!told.contains(keys::SECRET) && !told.contains("nowhere"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_typed_leaves_the_folders_file_alone_and_says_so() {
    let place = Place::new().await;
    let outcome = run(place.sluice(&["status"])).await;
    assert!(outcome.stdout.contains("sample"), "{outcome:?}");
    let told = &outcome.stderr;
    assert!(told.contains("is not read") && told.contains("SUPABASE_URL, SUPABASE_KEY"), "{told}");
    assert!(told.contains("--env-file") && !told.contains(keys::SECRET), "{told}");
    assert!(!place.was_asked());

    // What is no file of sluice's settings is nothing to speak of.
    place.write("NODE_ENV=production\nSECRET=$x\n");
    let outcome = run(place.sluice(&["status"])).await;
    assert!(!outcome.stderr.contains("is not read"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_named_is_read_by_every_command() {
    let place = Place::without_file().await;
    let file = place.path().join("sluice.env");
    std::fs::write(&file, place.lines()).expect("written");
    for command in [
        place.sluice(&["--env-file", "sluice.env", "sync", "leads"]),
        place.sluice(&["sync", "leads", "--env-file", "sluice.env", "--full"]),
        {
            let mut command = place.sluice(&["sync", "leads", "--full"]);
            command.env("SLUICE_ENV_FILE", &file);
            command
        },
    ] {
        let outcome = run(command).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains("3 rows read"), "{outcome:?}");
        assert!(outcome.stderr.contains("settings come from a file"), "{outcome:?}");
    }
    let mut command = place.sluice(&["serve"]);
    command.env("SLUICE_ENV_FILE", &file);
    let session = Client::starting(command).await;
    let status = session.answer("get_pipeline_status", json!({})).await;
    assert_eq!(status["source"]["name"], "supabase", "{status}");
    session.close().await;

    refused(
        &run(place.sluice(&["status", "--env-file", "nowhere.env"])).await,
        &["nowhere.env", "No such file"],
    );
    std::fs::write(&file, "SUPABASE_KEY sb_secret_segredo").expect("written");
    let outcome = run(place.sluice(&["status", "--env-file", "sluice.env"])).await;
    refused(&outcome, &["sluice.env: line 1 is not NAME=value"]);
    assert!(!outcome.all().contains("segredo"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_environment_is_not_sent_where_a_file_leads() {
    let place = Place::without_file().await;
    let url = place.source.url();
    for (secrets, file, reasons) in [
        (
            [("SUPABASE_KEY", "sb_secret_segredo")].as_slice(),
            format!("SUPABASE_URL={url}"),
            ["SUPABASE_KEY: comes from the environment", "SUPABASE_URL from"].as_slice(),
        ),
        (
            &[("SUPABASE_KEY", "sb_secret_segredo")],
            format!("SUPABASE_URL={url}/$SUPABASE_KEY\nSUPABASE_KEY=sb_secret_other"),
            &["SUPABASE_URL: has one of $"],
        ),
        (
            &[("ELASTICSEARCH_API_KEY", "segredo")],
            format!("SLUICE_SAMPLE=true\nELASTICSEARCH_URL={url}"),
            &["ELASTICSEARCH_API_KEY: comes from the environment"],
        ),
        (
            &[("ELASTICSEARCH_USERNAME", "ana"), ("ELASTICSEARCH_PASSWORD", "segredo")],
            format!("SLUICE_SAMPLE=true\nELASTICSEARCH_URL={url}"),
            &["ELASTICSEARCH_USERNAME: comes from the environment"],
        ),
        (
            &[("PGPASSWORD", "segredo")],
            "SLUICE_SAMPLE=true\nDATABASE_URL=postgres://sluice@127.0.0.1:9/sluice".to_owned(),
            &["PGPASSWORD: comes from the environment", "without a password"],
        ),
        (
            &[
                ("KAFKA_SASL_USERNAME", "ana"),
                ("KAFKA_SASL_PASSWORD", "segredo"),
                ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
            ],
            "SLUICE_SAMPLE=true\nKAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9".to_owned(),
            &["KAFKA_SASL_USERNAME: comes from the environment"],
        ),
    ] {
        place.write(&file);
        for (arguments, by_person) in
            [(["doctor"].as_slice(), true), (&["doctor", "--env-file", ".env"], false)]
        {
            let mut command = place.sluice(arguments);
            command.envs(secrets.iter().copied());
            let outcome = if by_person { typed(command).await } else { run(command).await };
            refused(&outcome, reasons);
            assert!(!outcome.all().contains("segredo"), "{outcome:?}");
            assert!(!place.was_asked(), "{file}");
        }
        // Nor is it handed on to a client that would start sluice with both.
        let mut command = place.sluice(&["client-config", "gemini"]);
        command.envs(secrets.iter().copied());
        refused(&typed(command).await, reasons);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_user_laid_into_the_folder_is_not_read() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away; what is done then is the same for all.
        return;
    }
    let place = Place::new().await;
    std::os::unix::fs::chown(place.path().join(".env"), Some(4242), None).expect("given away");
    let outcome = typed(place.sluice(&["status"])).await;
    assert!(outcome.stderr.contains("it belongs to another user"), "{outcome:?}");
    assert!(!place.was_asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_rows_are_kept_out_of_real_parts() {
    let place = Place::without_file().await;
    for (name, value) in [
        ("DATABASE_URL", "postgres://sluice@127.0.0.1:9/sluice"),
        ("ELASTICSEARCH_URL", "http://127.0.0.1:9"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9"),
    ] {
        for arguments in [COUNT, &["serve"], &["worker"], &["doctor"], &["migrate"]] {
            let mut command = place.sluice(arguments);
            command.env(name, value);
            refused(&run(command).await, &["SUPABASE_URL: is not set although", name, "SLUICE_SAMPLE=true"]);
        }
    }
    let mut command = place.sluice(&["status"]);
    command.env("SLUICE_SAMPLE", "true").env("ELASTICSEARCH_URL", "http://127.0.0.1:9");
    let outcome = run(command).await;
    assert!(outcome.stdout.contains("sample") && outcome.stdout.contains("127.0.0.1:9"), "{outcome:?}");
    let mut command = place.sluice(&["bench", "--events", "10"]);
    command.env("SUPABASE_URL", place.source.url()).env("SUPABASE_KEY", keys::SECRET);
    refused(&run(command).await, &["SUPABASE_URL names a project", "SLUICE_SAMPLE=true"]);
    // A demonstration is of generated rows, and goes nowhere else.
    let mut command = place.sluice(&["demo"]);
    command.env("DATABASE_URL", "postgres://sluice@127.0.0.1:9/sluice");
    assert_eq!(run(command).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_variable_is_told_with_the_one_that_was_meant_and_all_other_problems() {
    let place = Place::without_file().await;
    place.write("ELASTICSEARCH_ULR=http://127.0.0.1:9\n");
    for arguments in [COUNT, &["client-config", "cursor"], &["sample", "--port", "0"]] {
        let mut command = place.sluice(arguments);
        command.args(["--env-file", ".env"]);
        command.envs([
            ("SUPABSE_URL", "https://abc.supabase.co"),
            ("SLUICE_REDONLY", "true"),
            ("SLUICE_BATCH_RECORDS", "0"),
            ("KAFKA_HOME", "/opt/kafka"),
            ("KAFKA_OPTS", "-Dx=y"),
            ("SLUICE_SERVICE_HOST", "10.0.0.1"),
        ]);
        let outcome = run(command).await;
        refused(
            &outcome,
            &[
                "SUPABSE_URL: is no setting; did you mean SUPABASE_URL?",
                "SLUICE_REDONLY: is no setting; did you mean SLUICE_READ_ONLY?",
                "ELASTICSEARCH_ULR: is no setting; did you mean ELASTICSEARCH_URL?",
            ],
        );
        let told = &outcome.stderr;
        assert!(!told.contains("KAFKA_") && !told.contains("SLUICE_SERVICE_HOST"), "{told}");
        assert_eq!(told.contains("SLUICE_BATCH_RECORDS: must be"), arguments == COUNT, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_of_a_file_counts() {
    let place = Place::without_file().await;
    place.write(&format!("{}SLUICE_LOG=sluice=loud\n", place.lines()));
    let outcome = run(place.sluice(&["sync", "leads", "--env-file", ".env"])).await;
    assert!(outcome.stderr.contains("SLUICE_LOG: "), "{}", outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_the_name_of_the_file_and_none_of_its_secrets() {
    let place = Place::new().await;
    let outcome =
        run(place.sluice(&["client-config", "claude", "--env-file", ".env", "--with-secrets"])).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let file: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let env = &file["mcpServers"]["sluice"]["env"];
    assert_eq!(env["SLUICE_ENV_FILE"], place.path().join(".env").display().to_string(), "{file}");
    assert_eq!((env.get("SUPABASE_KEY"), env.get("SUPABASE_URL")), (None, None), "{file}");
    assert!(!outcome.all().contains(keys::SECRET), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_anywhere_in_an_address_is_handed_on_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, value) in [
        ("ELASTICSEARCH_URL", "https://es.example/?api_key=segredo"),
        ("ELASTICSEARCH_URL", "https://ana:segredo@es.example"),
        ("ELASTICSEARCH_URL", "https://segredo@es.example"),
        ("ELASTICSEARCH_URL", "ana:segredo@es.example:9200"),
        ("SUPABASE_URL", "https://abc.supabase.co/?apikey=segredo"),
        ("DATABASE_URL", "postgres://ana:seg#redo@db/sluice"),
        ("DATABASE_URL", "postgres://ana@db/sluice?sslpassword=segredo"),
    ] {
        let mut command = sluice(folder.path(), &["client-config", "gemini"]);
        command.env(name, value);
        let outcome = run(command).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains(&format!("\"{name}\": \"${{{name}}}\"")), "{value}: {outcome:?}");
        assert!(!outcome.all().contains("redo"), "{value}: {outcome:?}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_a_file_of_settings_that_others_may_read_as_long_as_a_secret_is_in_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new().await;
    let file = place.path().join("own.env");
    let address = format!("SLUICE_DATA_DIR={}\n", place.path().join("data").display());
    for (mode, text, warns) in [
        (0o600, place.lines(), false),
        (0o644, place.lines(), true),
        (0o640, place.lines(), true),
        (0o666, address, false),
    ] {
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("permissions");
        let told = run(place.sluice(&["doctor", "--env-file", &file.display().to_string()])).await;
        assert_eq!(told.stdout.contains("own.env"), warns, "{mode:o}: {told:?}");
        assert_eq!(told.stdout.contains("chmod 600"), warns, "{mode:o}: {told:?}");
    }
}
