//! Rows for programs: every format says the same, and shows contacts only to who asked for them.

use serde_json::{Value, json};
use sluice::source::sample::{SampleServer, keys};
use tempfile::TempDir;

use crate::support::{
    cli::{Outcome, run, sluice},
    rows::lead,
    table,
};

const NAMES: &str = "SELECT nome, score_qualificacao, utm_source FROM leads ORDER BY created_at, id";

const CONTACTS: &str = "SELECT email AS quem, telefone, localizacao FROM leads";

/// A project with these leads, synced.
struct Place {
    folder: TempDir,
    source: SampleServer,
}

impl Place {
    async fn with(names: &[&str]) -> Self {
        let source = SampleServer::start(0).await.expect("a free port");
        let rows = names.iter().zip(1_u8..).map(|(name, n)| {
            let mut row = lead(u128::from(n), i64::from(n));
            row.insert("nome".to_owned(), json!(name));
            row.insert("email".to_owned(), json!(format!("pessoa{n}@exemplo.com.br")));
            row.insert("telefone".to_owned(), json!("+55 11 98765-4321"));
            row.insert("localizacao".to_owned(), json!({"contato": format!("pessoa{n}@exemplo.com.br")}));
            row
        });
        source.set_rows(table("leads"), rows.collect());
        let place = Self { folder: tempfile::tempdir().expect("a folder"), source };
        let outcome = place.runs(&["sync", "leads", "--full", "--wait"]).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        place
    }

    async fn runs(&self, arguments: &[&str]) -> Outcome {
        let mut command = sluice(self.folder.path(), arguments);
        command.envs([("SUPABASE_URL", self.source.url().as_str()), ("SUPABASE_KEY", keys::SECRET)]);
        run(command).await
    }

    async fn told(&self, arguments: &[&str]) -> String {
        let outcome = self.runs(arguments).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        outcome.stdout
    }
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_the_same_rows_and_none_what_a_spreadsheet_computes() {
    let names = ["=HYPERLINK(\"http://x\")", "Ana;\n\"Bia\", o\tque", "João 日本"];
    let place = Place::with(&names).await;
    let by_name: Vec<Value> = objects(&place.told(&["sql", NAMES, "--format", "json"]).await);
    let sorted = |mut values: Vec<String>| {
        values.sort();
        values
    };
    let found = by_name.iter().map(|row| row["nome"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(sorted(found), sorted(names.map(str::to_owned).to_vec()));
    assert!(by_name[0]["score_qualificacao"].is_number(), "{:?}", by_name[0]);

    let tsv = place.told(&["sql", NAMES]).await;
    assert_eq!(tsv, place.told(&["sql", NAMES, "--format", "tsv"]).await);
    assert!(tsv.starts_with("nome\tscore_qualificacao\tutm_source\n"), "{tsv}");
    assert!(tsv.contains("Ana;\\n\"Bia\", o\\tque\t") && tsv.lines().count() == 4, "{tsv}");

    let csv = place.told(&["sql", NAMES, "--format", "csv"]).await;
    assert!(csv.contains("\"'=HYPERLINK(\"\"http://x\"\")\","), "{csv}");
    assert!(csv.contains("\"Ana;\n\"\"Bia\"\", o\tque\","), "{csv}");

    // A table that is piped on is not cut.
    let long = place.told(&["sql", "SELECT dados FROM eventos_raw LIMIT 1", "--format", "table"]).await;
    assert!(long.lines().count() == 3 && long.lines().any(|line| line.len() > 200), "{long}");

    let twice = place.runs(&["sql", "SELECT 1 AS n, 2 AS n", "--format", "json"]).await;
    assert!(twice.code == Some(1) && twice.stderr.contains("two columns are called 'n'"), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_masked_on_the_command_line_unless_they_are_asked_for() {
    let place = Place::with(&["Ana", "Bia"]).await;
    let calls: [&[&str]; 7] = [
        &["sql", CONTACTS],
        &["sql", CONTACTS, "--format", "csv"],
        &["sql", CONTACTS, "--format", "json"],
        &["sql", "SELECT usuario, metadata, dados FROM eventos_raw"],
        &["search"],
        &["search", "--format", "csv"],
        &["search", "--count-by", "email", "--format", "tsv"],
    ];
    for arguments in calls {
        let masked = place.told(arguments).await;
        assert!(!masked.contains("pessoa1@") && !masked.contains("98765"), "{arguments:?}: {masked}");
        let shown = place.told(&[arguments, &["--reveal-pii"]].concat()).await;
        assert!(shown.contains("pessoa1@exemplo.com.br"), "{arguments:?}: {shown}");
    }
    let report = ["report", "last_30_days", "--by", "email", "--reveal-pii"];
    assert!(!place.told(&report[..4]).await.contains("pessoa1@"));
    let mut revealed = sluice(place.folder.path(), &["sql", CONTACTS]);
    revealed.env("SLUICE_REVEAL_PII", "true");
    assert!(run(revealed).await.stdout.contains("pessoa1@exemplo.com.br"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_sorted_as_asked_and_prints_the_columns_that_are_named() {
    let place = Place::with(&["Ana", "Bia", "Caio"]).await;
    let times = async |sort: &str| -> Vec<String> {
        let found = objects(&place.told(&["search", "--sort", sort, "--columns", "timestamp,nome"]).await);
        assert!(found.iter().all(|row| row.as_object().is_some_and(|row| row.len() == 2)), "{found:?}");
        found.iter().map(|row| row["timestamp"].to_string()).collect()
    };
    let (mut newest, oldest) = (times("newest").await, times("oldest").await);
    assert!(oldest.len() == 3 && oldest.is_sorted(), "{oldest:?}");
    newest.reverse();
    assert_eq!(newest, oldest);
    let best =
        place.told(&["search", "nome:bia OR nome:ana", "--sort", "relevance", "--format", "csv"]).await;
    assert!(best.lines().next().is_some_and(|names| names.contains("nome")), "{best}");

    let unknown = place.runs(&["search", "--columns", "nome,cpf"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("--columns cpf"), "{unknown:?}");
    let counts = place.told(&["search", "--count-by", "status_lead", "--format", "csv"]).await;
    assert!(counts.starts_with("field,value,count\n"), "{counts}");
    // A dash or an underscore: the same table.
    for name in ["chat-sessions", "chat_sessions"] {
        for arguments in [["search", "--index", name], ["report", "--table", name], ["tables", "check", name]]
        {
            let outcome = place.runs(&arguments).await;
            assert!(!outcome.stderr.contains("there are"), "{arguments:?}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_speaks_portuguese_where_people_do() {
    let place = Place::with(&["Ana"]).await;
    let report = async |variable: (&str, &str), format: &str| {
        let mut command =
            sluice(place.folder.path(), &["report", "last_30_days", "--by", "day", "--format", format]);
        command.envs([variable]);
        run(command).await
    };
    for variable in [("SLUICE_LANGUAGE", "pt-BR"), ("LANG", "pt_BR.UTF-8")] {
        let told = report(variable, "tsv").await;
        assert!(
            told.stdout.starts_with("leads: chegaram ") && told.stdout.contains("\tantes\tqualificados\n"),
            "{told:?}"
        );
    }
    let told = report(("LANG", "C.UTF-8"), "csv").await;
    assert!(
        told.stderr.contains(" leads arrived from ") && told.stdout.starts_with("created_at,"),
        "{told:?}"
    );
}
