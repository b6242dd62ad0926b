//! A table whose key was replaced, in the way that its refusal advises: it is proven, and whoever has events of before is
//! erased as everybody else.

use sluice::source::sample::SampleColumn;

use super::*;
use crate::support::{cli::run, folder::TestFolder};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_table_whose_key_was_replaced_is_proven_and_nothing_is_left_of_whoever_is_erased,
}

async fn a_table_whose_key_was_replaced_is_proven_and_nothing_is_left_of_whoever_is_erased<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |name: &str, key: (&str, &str), column: &str| {
        let (id, kind) = key;
        let definition = format!(
            "name = '{name}'\nabout = 'x'\nentity = '{name}'\nkey = {{ column = '{id}', type = '{kind}' }}\n\
             event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{{ {column} }}]\n"
        );
        std::fs::write(tables.path().join(format!("{name}.toml")), definition).expect("written");
    };
    let done = async |arguments: &[&str]| {
        let outcome = run(place.command(arguments)).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
    };
    let email = "name = 'email', type = 'text', lookup = true";
    let (keys, names) = ([10, 11, 12, 13, 14], ["ana", "bia", "caio", "dora", "eva"]);
    // Two have the keys of now in another spelling.
    let earlier = ["10", "11", "12", &id(13).to_uppercase(), &format!(" {}", id(14))].map(str::to_owned);
    define("pess", ("id", "text"), email);
    let columns = vec![SampleColumn::key("id", "text"), SampleColumn::new("email", "text")];
    let before = earlier
        .iter()
        .zip(names)
        .map(|(key, name)| format!(r#"{{"id": "{key}", "email": "{name}@x.example"}}"#));
    place.source().create_table("public", "pess", columns, &before.collect::<Vec<_>>()).expect("rows");
    done(&["sync", "pess", "--wait"]).await;

    define("pess", ("pid", "uuid"), email);
    define("conv", ("id", "bigint"), "name = 'pessoa', type = 'text', refers_to = 'pess'");
    let columns = vec![SampleColumn::key("pid", "uuid"), SampleColumn::new("email", "text")];
    let now = keys
        .iter()
        .zip(names)
        .map(|(key, name)| format!(r#"{{"pid": "{}", "email": "{name}@x.example"}}"#, id(*key)));
    place.source().create_table("public", "pess", columns, &now.collect::<Vec<_>>()).expect("rows");
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("pessoa", "uuid")];
    let talk = format!(r#"{{"id": 1, "pessoa": "{}"}}"#, id(11));
    place.source().create_table("public", "conv", columns, &[talk]).expect("rows");
    place.execute("DROP TABLE pess").await;
    done(&["migrate"]).await;
    done(&["sync", "pess", "--full", "--wait"]).await;
    done(&["sync", "conv", "--wait"]).await;
    done(&["reconcile", "pess", "--wait", "--allow-deletes", "5"]).await;
    let status = run(place.command(&["status"])).await.stdout;
    assert!(status.contains("dead letters   0"), "{status}");
    assert!(
        !status.contains("were read from it before") && !status.contains("rows of pess that were read"),
        "{status}"
    );

    let (client, _) = connect_to(place.command(&[])).await;
    let asked = json!({"table": "pess", "key": earlier[4], "confirm": true});
    let report = answer(&client, "erase_entity", asked).await;
    assert_eq!(
        (&report["complete"], &report["keys"]),
        (&json!(true), &json!([id(14), earlier[4]])),
        "{report}"
    );
    client.cancel().await.expect("the session closes");

    let engine = place.engine().await;
    engine.start_drains().await;
    let people = engine.catalog.get("pess").expect("pess");
    let by = |who| ErasureRequest { table: people, who, related: true };
    let by_key = |key: &str| by(EntityKey::Key(key.to_owned()));
    let told = |report: &ErasureReport, part: &str| report.remains.iter().any(|one| one.what.contains(part));
    // The second time only the row at the source tells of the address.
    for _ in 0..2 {
        let report = erased(&engine, &by_key(&id(10))).await;
        assert!(told(&report, "1 others have, or had, the same email"), "{report:?}");
    }
    for _ in 0..2 {
        let report = erased(&engine, &by_key("10")).await;
        assert!(report.keys == ["10"] && !told(&report, "others have"), "{report:?}");
    }
    for _ in 0..2 {
        let report = erased(&engine, &by_key(&earlier[3])).await;
        assert_eq!(report.keys, [id(13), earlier[3].clone()], "{report:?}");
        assert!(told(&report, "1 of these rows still stand") && !told(&report, "others have"), "{report:?}");
    }
    let refusal =
        engine.erasures.erase(&by_key("99"), "a test").await.expect_err("nobody has it").to_string();
    assert!(refusal.contains("is no key of pess, whose keys are of the type uuid"), "{refusal}");
    let who = EntityKey::Lookup { column: "email".to_owned(), value: "bia@x.example".to_owned() };
    let report = erased(&engine, &by(who)).await;
    assert_eq!((report.keys.clone(), report.related), (vec!["11".to_owned(), id(11)], 1), "{report:?}");
    assert!(
        told(&report, "2 of these rows still stand") && !told(&report, "could not be asked"),
        "{report:?}"
    );
    let left = value(&engine, "SELECT count(*) FROM eventos_raw WHERE tipo_evento IN ('pess', 'conv')").await;
    assert_eq!(left, json!(2), "those of caio");
    let dump = place.dump().await;
    let held: Vec<&str> =
        names.into_iter().filter(|name| dump.contains(&format!("{name}@x.example"))).collect();
    assert_eq!(held, ["caio"]);
    engine.shut_down().await;
    place.clean_up().await;
}
