//! `sluice tables`: what it says of a project's table, and that its advice leads somewhere.

use sluice::source::sample::{SampleColumn, SampleServer, keys};
use tokio::process::Command;

use crate::support::cli::{Outcome, run, sluice};

struct Place {
    folder: tempfile::TempDir,
    source: SampleServer,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("tables")).expect("a folder");
        Self { folder, source: SampleServer::start(0).await.expect("a free port") }
    }

    fn has(&self, table: &str, columns: Vec<SampleColumn>, rows: &[&str]) {
        self.source.create_table("public", table, columns, rows).expect("rows");
    }

    fn define(&self, table: &str, definition: &str) {
        std::fs::write(self.folder.path().join(format!("tables/{table}.toml")), definition).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = sluice(self.folder.path(), arguments);
        command.env("SUPABASE_URL", self.source.url()).env("SUPABASE_KEY", keys::SECRET);
        command.env("SUPABASE_RETRY_SECONDS", "2");
        command.env("SLUICE_TABLES_DIR", self.folder.path().join("tables"));
        command
    }

    async fn runs(&self, arguments: &[&str]) -> Outcome {
        let outcome = run(self.command(arguments)).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        outcome
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_primary_key_is_told_and_so_are_the_rows_that_share_a_key() {
    let place = Place::new().await;
    let columns = || vec![SampleColumn::new("id", "bigint"), SampleColumn::new("nota", "text")];
    let rows = [
        r#"{"id": 1, "nota": "a"}"#,
        r#"{"id": 1, "nota": "b"}"#,
        r#"{"id": 2, "nota": "c"}"#,
        r#"{"id": 2, "nota": "c"}"#,
    ];
    place.has("a/b?c#d", columns(), &rows);
    let found = place.runs(&["tables", "discover", "a/b?c#d"]).await;
    assert!(found.stderr.contains("a/b?c#d has no primary key: id is taken as its key"), "{found:?}");
    assert!(found.stderr.contains("unique and never null"), "{found:?}");
    let checked = run(place.command(&["tables", "check", "a_b_c_d"])).await;
    assert!(checked.stdout.contains("hint: a/b?c#d has no primary key"), "{checked:?}");
    let synced = place.runs(&["sync", "a_b_c_d", "--wait"]).await;
    assert!(synced.stdout.contains("done. 4 rows read, 3 new events"), "{synced:?}");
    assert!(synced.stdout.contains("2 rows have the key of another row"), "{synced:?}");
    let told = run(place.command(&["status"])).await;
    assert!(told.stdout.contains("2 rows of a_b_c_d at the source have the key of another row"), "{told:?}");
    assert!(
        told.stdout.contains("4 at the source, 2 in the store, 2 in the index, 0 parked, 0 not read yet"),
        "{told:?}"
    );
    let checked = run(place.command(&["tables", "check", "a_b_c_d"])).await;
    assert!(checked.stdout.contains("hint: 2 rows had the id of another row"), "{checked:?}");
    let proven = place.runs(&["reconcile", "a_b_c_d", "--wait"]).await;
    assert!(proven.stdout.contains("2 rows have the key of another row"), "{proven:?}");
    place.has("a/b?c#d", columns(), &[rows[0], rows[2]]);
    place.runs(&["reconcile", "a_b_c_d", "--wait"]).await;
    let checked = run(place.command(&["tables", "check", "a_b_c_d"])).await;
    assert!(!checked.stdout.contains("had the id of another row"), "the sync before that: {checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_definition_was_taken_away_is_what_status_names() {
    let place = Place::new().await;
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("nota", "text")];
    place.has("pedidos", columns, &[r#"{"id": 1, "nota": "a"}"#]);
    place.define(
        "pedidos",
        "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = { column = 'id', type = 'bigint' }\n\
         columns = [{ name = 'nota', type = 'text' }]\n\
         event = { categoria = 'c', evento = 'e', metadata = { nota = 'nota' } }\n",
    );
    place.runs(&["sync", "pedidos", "--wait"]).await;
    std::fs::remove_file(place.folder.path().join("tables/pedidos.toml")).expect("removed");
    let told = run(place.command(&["status"])).await;
    assert!(told.stdout.contains("events of tables that are not defined here: pedido;"), "{told:?}");
    assert!(!told.stdout.contains("no process drains") && !told.stdout.contains("lacks columns"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_mended_as_check_says_and_the_store_too() {
    let place = Place::new().await;
    let has_type = |format: &str, rows: &[&str]| {
        let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("cod", format)];
        place.has("pedidos", columns, rows);
    };
    let define = |columns: &str, metadata: &str| {
        place.define(
            "pedidos",
            &format!(
                "name = 'pedidos'\nabout = 'x'\nentity = 'pedido'\nkey = {{ column = 'id', type = 'bigint' }}\n\
                 event = {{ categoria = 'c', evento = 'e', metadata = {{ {metadata} }} }}\ncolumns = [{columns}]"
            ),
        );
    };
    has_type("bigint", &[r#"{"id": 1, "cod": 7}"#]);
    define("{ name = 'cod', type = 'integer' }", "cod = 'cod'");
    place.runs(&["sync", "pedidos", "--wait"]).await;

    has_type("text", &[r#"{"id": 1, "cod": 7}"#, r#"{"id": 2, "cod": "A-7"}"#]);
    let checked = run(place.command(&["tables", "check", "pedidos"])).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for part in ["if pedidos was never synced", "name = \"cod_text\" with from = \"cod\" and type = \"text\""]
    {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }

    define("{ name = 'cod', type = 'text' }", "cod = 'cod'");
    let refused = run(place.command(&["sql", "SELECT cod FROM pedidos"])).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("give the column another name there, with from = \"cod\""),
        "{refused:?}"
    );
    assert!(!refused.all().contains("ALTER TABLE"), "no command can run it here: {refused:?}");

    define("{ name = 'cod_text', from = 'cod', type = 'text' }", "cod_text = 'cod_text'");
    let checked = run(place.command(&["tables", "check", "pedidos"])).await;
    assert!(!checked.stdout.contains("cod is of the type"), "{checked:?}");
    let synced = place.runs(&["sync", "pedidos", "--wait"]).await;
    assert!(synced.stdout.contains("done. 2 rows read, 1 new events, 1 unchanged"), "{synced:?}");
    let told = place.runs(&["sql", "SELECT id, cod_text FROM pedidos ORDER BY id"]).await;
    assert_eq!(told.stdout, "id\tcod_text\n1\t7\n2\tA-7\n", "the old row is filled: {told:?}");
    let found = place.runs(&["search", "--index", "pedidos", "cod_text:A-7"]).await;
    assert!(found.stdout.contains("A-7"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_mended_by_another_name_for_the_table() {
    let place = Place::new().await;
    let define = |name: &str, kind: &str| {
        place.define(
            "pedidos",
            &format!(
                "name = '{name}'\nabout = 'x'\nentity = 'pedido'\nsource = {{ table = 'pedidos' }}\n\
                 key = {{ column = 'id', type = '{kind}' }}\nevent = {{ categoria = 'c', evento = 'e' }}\n"
            ),
        );
    };
    place.has("pedidos", vec![SampleColumn::key("id", "bigint")], &[r#"{"id": 1}"#]);
    define("pedidos", "bigint");
    place.runs(&["sync", "pedidos", "--wait"]).await;
    place.has("pedidos", vec![SampleColumn::key("id", "text")], &[r#"{"id": "1"}"#, r#"{"id": "dois"}"#]);
    let checked = run(place.command(&["tables", "check", "pedidos"])).await;
    assert!(checked.stdout.contains("a stored key keeps its type"), "{checked:?}");
    define("pedidos", "text");
    let refused = run(place.command(&["migrate"])).await;
    assert!(refused.stderr.contains("source = { table = \"pedidos\" }"), "{refused:?}");
    assert!(!refused.all().contains("DROP TABLE"), "no command can run it here: {refused:?}");
    define("pedidos_2", "text");
    place.runs(&["sync", "pedidos_2", "--wait"]).await;
    let told = place.runs(&["sql", "SELECT id FROM pedidos_2 ORDER BY id"]).await;
    assert_eq!(told.stdout, "id\n1\ndois\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_name_in_never_read_is_told_before_and_while_its_column_is_read() {
    let place = Place::new().await;
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("cpf", "text")];
    place.has("pessoas", columns, &[r#"{"id": 1, "cpf": "segredo"}"#]);
    let define = |hidden: &str| {
        let text = format!(
            "name = 'pessoas'\nabout = 'x'\nentity = 'pessoa'\nnever_read = ['{hidden}']\n\
             key = {{ column = 'id', type = 'bigint' }}\nevent = {{ categoria = 'c', evento = 'e' }}\n"
        );
        place.define("pessoas", &text);
    };
    for (hidden, is_told) in [("CPF", true), ("cpf", false)] {
        define(hidden);
        let checked = run(place.command(&["tables", "check", "pessoas"])).await;
        assert_eq!(checked.stdout.contains("if cpf is meant, write that instead"), is_told, "{checked:?}");
        assert_eq!(checked.stdout.contains("mend: never_read names CPF"), is_told, "{checked:?}");
        let synced = place.runs(&["sync", "pessoas", "--wait"]).await;
        assert_eq!(synced.stderr.contains("a name in never_read is no column's"), is_told, "{synced:?}");
        let told = run(place.command(&["status"])).await;
        assert_eq!(told.stdout.contains("pessoas: never_read names CPF"), is_told, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tables_folder_that_is_not_there_is_said_to_be_not_there() {
    let place = Place::new().await;
    let folder = place.folder.path().join("nada");
    let mut command = place.command(&["tables"]);
    command.env("SLUICE_TABLES_DIR", &folder);
    let refused = run(command).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let told = format!("is not there: make the folder {}", folder.display());
    assert!(refused.stderr.contains(&told) && !refused.stderr.contains("holds a file"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_right_after_a_table_was_discovered_finds_what_was_there_before() {
    let place = Place::new().await;
    place.has(
        "notas",
        vec![SampleColumn::key("id", "bigint"), SampleColumn::new("texto", "text")],
        &[r#"{"id": 1, "texto": "achado"}"#],
    );
    place.has("mais", vec![SampleColumn::key("id", "bigint"), SampleColumn::new("altura", "numeric")], &[]);
    place.runs(&["tables", "discover", "notas"]).await;
    place.runs(&["sync", "notas", "--wait"]).await;
    place.runs(&["tables", "discover", "mais"]).await;
    let found = place.runs(&["search", "--index", "notas", "achado"]).await;
    assert!(found.stdout.contains("achado"), "{found:?}");
}
