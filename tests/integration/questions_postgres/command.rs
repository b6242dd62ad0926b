//! The commands as an operator types them, on a server that wants passwords.

use std::path::Path;

use crate::support::{folder::TestFolder, servers::Servers};

struct Outcome {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

async fn sluice(database_url: &str, data_dir: &Path, arguments: &[&str]) -> Outcome {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command.env("DATABASE_URL", database_url).env("SLUICE_DATA_DIR", data_dir).env("SLUICE_SAMPLE", "true");
    let output = command.output().await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { succeeded: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kept_password_and_no_other_opens_the_way_to_questions() {
    const LOGIN: &str = "sluice_reader_sluice";
    const QUESTION: [&str; 2] = ["sql", "SELECT count(*) FROM leads"];
    const MAKE: [&str; 2] = ["migrate", "--create-reader"];
    let servers = Servers::start_some(&["postgres"]).await;
    servers.require_password(LOGIN).await;
    let folder = TestFolder::new();
    let (data, superuser, owner) = (folder.path().join("data"), servers.admin_url(), servers.database_url());

    // The first to come makes the tables.
    let warned = sluice(&owner, &data, &QUESTION).await;
    assert!(warned.succeeded && warned.stderr.contains("warning: questions run under"), "{}", warned.stderr);
    let refused = sluice(&superuser, &data, &QUESTION).await;
    assert!(!refused.succeeded && refused.stderr.contains("a superuser"), "{}", refused.stderr);
    assert!(refused.stderr.contains("sluice migrate --create-reader"), "{}", refused.stderr);

    let made = sluice(&superuser, &data, &MAKE).await;
    assert!(
        made.succeeded && made.stdout.contains(&format!("The login {LOGIN} was made")),
        "{}",
        made.stderr
    );
    for url in [&superuser, &owner] {
        let answered = sluice(url, &data, &QUESTION).await;
        assert!(answered.succeeded && answered.stdout == "count\n0\n", "{}", answered.stderr);
        assert!(!answered.stderr.contains("warning"), "{}", answered.stderr);
    }
    let strict = sluice(&superuser, &data, &["doctor", "--strict"]).await;
    let doctor = sluice(&superuser, &data, &["doctor"]).await;
    // Before the first sync there is more to look at than the login.
    assert!(doctor.succeeded && !strict.succeeded, "{}", strict.stdout);
    let doctor = doctor.stdout;
    let line = |check: &str| doctor.lines().find(|line| line.contains(check)).unwrap_or_default().to_owned();
    assert!(line("own login").starts_with("WARNING"), "{doctor}");
    assert!(
        line("questions").contains("may create temporary tables in sluice, though not by a question"),
        "{doctor}"
    );
    // As it advises.
    let mut admin = crate::support::connect(&superuser).await;
    let revoked = sqlx::query("REVOKE TEMPORARY ON DATABASE sluice FROM PUBLIC").execute(&mut admin).await;
    revoked.expect("revoked");
    let doctor = sluice(&owner, &data, &["doctor"]).await.stdout;
    assert!(!doctor.contains("own login") && doctor.contains(&format!("run as {LOGIN}")), "{doctor}");

    // Somebody else has changed the password.
    let kept = data.join("postgres-readers.json");
    let text = std::fs::read_to_string(&kept).expect("a file");
    let password =
        text.split("\"password\": \"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    std::fs::write(&kept, text.replace(password, "outra")).expect("written");
    let shut_out = sluice(&owner, &data, &QUESTION).await;
    assert!(
        !shut_out.succeeded && shut_out.stderr.contains("--create-reader --new-password"),
        "{}",
        shut_out.stderr
    );
    for text in [&made, &shut_out] {
        assert!(!text.stdout.contains(password) && !text.stderr.contains(password));
    }
    let renewed = sluice(&superuser, &data, &["migrate", "--create-reader", "--new-password"]).await;
    assert!(renewed.succeeded && renewed.stdout.contains("is up to date"), "{}", renewed.stderr);
    assert!(sluice(&owner, &data, &QUESTION).await.succeeded);

    // A login that may make none is told what to run.
    let elsewhere = folder.path().join("elsewhere");
    let told = sluice(&owner, &elsewhere, &["migrate", "--create-reader", "--new-password"]).await;
    assert!(
        !told.succeeded && told.stderr.contains("CREATE ROLE sluice_reader_sluice LOGIN"),
        "{}",
        told.stderr
    );
    let embedded = sluice("", &elsewhere, &MAKE).await;
    assert!(
        !embedded.succeeded && embedded.stderr.contains("the embedded store has no logins"),
        "{}",
        embedded.stderr
    );
}
