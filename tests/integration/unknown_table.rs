//! A table that nobody here knows: discovered, synced, searched and queried by one command each.

use sluice::source::sample::SampleColumn;

use crate::support::{
    every_type::{EVERY_TYPE, KEY, create_every_type},
    folder::TestFolder,
    on_each_adapter,
    place::{Embedded, Place, Real},
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_table_of_every_type_is_discovered_synced_searched_and_queried_by_one_command_each,
    names_that_a_database_keeps_for_itself_are_changed_by_discover_and_go_into_both_sinks,
}

async fn a_table_of_every_type_is_discovered_synced_searched_and_queried_by_one_command_each<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    create_every_type(place.source());
    let told = async |arguments: &[&str]| {
        let output = place.command(arguments).output().await.expect("it runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
        stdout.into_owned()
    };

    told(&["tables", "discover", "Tudo"]).await;
    let synced = told(&["sync", "tudo", "--hours", "876600", "--wait"]).await;
    assert!(synced.contains("done. 2 rows read, 2 new events, 0 unchanged, 0 dead letters"), "{synced}");
    let found = told(&["search", "--index", "tudo", "c_varchar:abc AND c_bigint:>9000000000000000000"]).await;
    assert!(found.lines().count() == 1 && found.contains(&KEY.to_string()), "{found}");
    let counted =
        told(&["sql", "SELECT count(*) AS n FROM tudo WHERE c_date = '2026-05-01' AND c_boolean"]).await;
    assert_eq!(counted.lines().nth(1), Some("1"), "{counted}");
    let row = told(&[
        "sql",
        "SELECT id, c_smallint, c_bigint, c_varchar, c_inet, c_enum FROM tudo WHERE c_text IS NOT NULL",
        "--reveal-pii",
    ])
    .await;
    let cells: Vec<&str> = row.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(
        cells,
        [&*KEY.to_string(), "-32768", "9223372036854775807", "abc", "10.1.2.3/8", "aberta"],
        "{row}"
    );
    let columns = told(&["sql", "SELECT * FROM tudo"]).await;
    for (name, _, _) in EVERY_TYPE {
        assert!(columns.lines().next().is_some_and(|header| header.contains(name)), "{name}: {columns}");
    }
    place.clean_up().await;
}

async fn names_that_a_database_keeps_for_itself_are_changed_by_discover_and_go_into_both_sinks<P: Place>() {
    const KEPT: [&str; 7] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "rowid"];
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let mut columns = vec![SampleColumn::key("oid", "bigint")];
    columns.extend(KEPT.map(|name| SampleColumn::new(name, "text")));
    let row = format!(r#"{{"oid": 7, {}}}"#, KEPT.map(|name| format!(r#""{name}": "a-{name}""#)).join(", "));
    place.source().create_table("public", "sqlite_x", columns, &[row]).expect("rows");
    let told = async |arguments: &[&str]| {
        let output = place.command(arguments).output().await.expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    told(&["tables", "discover", "sqlite_x"]).await;
    told(&["sync", "tabela_sqlite_x", "--hours", "876600", "--wait"]).await;
    let row = told(&["sql", "SELECT oid_origem, ctid_origem, rowid_origem FROM tabela_sqlite_x"]).await;
    assert_eq!(row.lines().nth(1), Some("7\ta-ctid\ta-rowid"), "{row}");
    let found = told(&["search", "--index", "tabela_sqlite_x", "xmin_origem:a-xmin"]).await;
    assert!(found.contains("a-cmax"), "{found}");
    place.clean_up().await;
}
