//! What a newcomer types in a fresh folder.

use crate::support::cli::{run, sluice};

const EMPTY: &str = "empty: run `sluice sync leads --wait`";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_commands_in_a_fresh_folder_fail_nothing_and_name_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let first: [&[&str]; 8] = [
        &["status"],
        &["doctor"],
        // Now the parts have their files.
        &["status"],
        &["search"],
        &["search", "nome:ana", "--count-by", "origem", "--format", "csv"],
        &["sql", "SELECT count(*) AS n FROM leads"],
        &["report"],
        &["search", "--index", "chat-sessions"],
    ];
    for arguments in first {
        let outcome = run(sluice(folder.path(), arguments)).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.all().matches(EMPTY).count(), 1, "{arguments:?}: {outcome:?}");
        assert!(!outcome.all().contains("error:"), "{arguments:?}: {outcome:?}");
    }
    let status = run(sluice(folder.path(), &["status", "--json"])).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    let told: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert!(told["healthy"] == false && told["problems"][0].as_str().is_some(), "{told}");

    // What was named works as it stands there.
    let outcome = run(sluice(folder.path(), &["sync", "leads", "--wait"])).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let found = run(sluice(folder.path(), &["search", "--limit", "1"])).await;
    assert!(found.stdout.contains("\"id\"") && !found.all().contains(EMPTY), "{found:?}");
    for arguments in [["status"].as_slice(), &["sql", "SELECT 1 AS n"], &["report"]] {
        let outcome = run(sluice(folder.path(), arguments)).await;
        assert!(!outcome.all().contains(EMPTY), "{arguments:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_of_an_option_is_named_with_the_option() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, option) in [
        (["sync", "leads", "--hours", "-1"].as_slice(), "--hours"),
        (&["sync", "leads", "--hours", "0"], "--hours"),
        (&["sync", "leads", "--limit", "-5"], "--limit"),
        (&["search", "--limit", "-1"], "--limit"),
        (&["search", "--limit", "1001"], "--limit"),
        (&["search", "--sort", "best"], "--sort"),
        (&["sql", "SELECT 1", "--rows", "-3"], "--rows"),
        (&["sql", "SELECT 1", "--format", "xml"], "--format"),
        (&["reconcile", "leads", "--allow-deletes", "-1"], "--allow-deletes"),
        (&["sample", "--port", "-1"], "--port"),
    ] {
        let outcome = run(sluice(folder.path(), arguments)).await;
        let value = arguments.last().expect("a value");
        let told = format!("invalid value '{value}' for '{option} ");
        assert!(outcome.code == Some(2) && outcome.stderr.contains(&told), "{arguments:?}: {outcome:?}");
    }
    let mut loud = sluice(folder.path(), &["status"]);
    loud.env("SLUICE_LOG", "loud");
    let outcome = run(loud).await;
    assert!(
        outcome.code == Some(1) && outcome.stderr.contains("error, warn, info, debug, trace, off"),
        "{outcome:?}"
    );
    let mut tongue = sluice(folder.path(), &["status"]);
    tongue.env("SLUICE_LANGUAGE", "klingon");
    let outcome = run(tongue).await;
    assert!(
        outcome.code == Some(1) && outcome.stderr.contains("SLUICE_LANGUAGE: must be en or pt-BR"),
        "{outcome:?}"
    );
}
