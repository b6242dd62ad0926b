//! The embedded index: what is its own, beside what every index promises.

mod embedded {
    use std::path::Path;

    use bytes::Bytes;
    use serde_json::json;
    use sluice::{
        domain::{Catalog, Definition, Event, Json, Table},
        fault::FaultKind,
        index::{Index, IndexName},
        log::Position,
        sink::{SinkBatch, SinkEvent, Span},
    };
    use uuid::Uuid;

    use crate::support::{
        events::{LOG, applied, event, fault, lead, manual},
        folder::copy_folder,
        indices::{Embedded, IndexBench, entities, request, search},
        table,
    };

    #[tokio::test]
    async fn a_second_handle_reads_what_the_first_writes_and_is_told_who_writes() {
        let bench = Embedded::new();
        let writer = bench.prepared().await;
        applied(&*writer, vec![lead(1, Uuid::new_v4(), 1, json!({"nome": "Ana"}))]).await;
        let reader = bench.prepared().await;
        assert_eq!(search(&*reader, entities("leads"), "nome:ana").await.total, 1);
        applied(&*writer, vec![lead(2, Uuid::new_v4(), 1, json!({"nome": "Ana"}))]).await;
        assert_eq!(search(&*reader, entities("leads"), "nome:ana").await.total, 2, "without being told");
        let told = fault(&*reader, vec![manual(3, json!({}))]).await;
        assert_eq!(told.kind, FaultKind::Misconfigured);
        assert!(told.message.contains(&format!("process {}", std::process::id())), "{told}");
        drop(writer);
        assert_eq!(applied(&*reader, vec![manual(3, json!({}))]).await.inserted, 1, "the lock is free again");
    }

    #[tokio::test]
    async fn an_index_nobody_has_made_says_so() {
        let bench = Embedded::new();
        let told = bench.open().counts().await.expect_err("there is nothing");
        assert!(
            told.message.contains("not made yet") && told.advice.to_string().contains("run the migrations"),
            "{told}"
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_folder_that_was_deleted_is_told_and_one_in_its_place_is_read_and_written() {
        let bench = Embedded::new();
        let index = bench.prepared().await;
        let ana = |n| vec![lead(n, Uuid::new_v4(), 1, json!({"nome": "Ana"}))];
        applied(&*index, ana(1)).await;
        assert_eq!(search(&*index, entities("leads"), "nome:ana").await.total, 1);
        std::fs::remove_dir_all(bench.0.path().join("index")).expect("deleted");
        let told = index.search(&request(entities("leads"), "*")).await.expect_err("deleted").to_string();
        assert!(told.contains("was deleted"), "{told}");
        let told = index.identities().await.expect_err("deleted");
        assert_eq!(told.kind, FaultKind::Misconfigured, "whoever drains makes it anew: {told}");

        let other = bench.prepared().await;
        for n in 2..=4 {
            applied(&*other, ana(n)).await;
        }
        drop(other);
        assert_eq!(search(&*index, entities("leads"), "nome:ana").await.total, 3, "what is there now");
        assert_eq!(applied(&*index, ana(5)).await.inserted, 1);
        let other = bench.open();
        assert_eq!(search(&*other, entities("leads"), "nome:ana").await.total, 4, "others find it");
        assert_eq!(
            fault(&*other, ana(6)).await.kind,
            FaultKind::Misconfigured,
            "it holds the lock that is there"
        );
    }

    #[tokio::test]
    async fn a_reader_follows_a_rebuild_of_the_writers() {
        let bench = Embedded::new();
        let writer = bench.prepared().await;
        applied(&*writer, vec![lead(1, Uuid::new_v4(), 1, json!({"nome": "Ana"}))]).await;
        let reader = bench.prepared().await;
        let rebuild = writer.begin_rebuild(entities("leads"), Uuid::nil()).await.expect("a rebuild");
        let sink = writer.rebuild_sink(&rebuild);
        let anew = (1..=3).map(|n| lead(n, Uuid::new_v4(), 1, json!({"nome": "Bia"}))).collect();
        applied(&*sink, anew).await;
        assert_eq!(search(&*reader, entities("leads"), "*").await.total, 1);
        writer.serve_rebuilt(&rebuild).await.expect("swapped");
        writer.end_rebuild(&rebuild).await.expect("ended");
        assert_eq!(search(&*reader, entities("leads"), "nome:bia").await.total, 3);
        let generations = std::fs::read_dir(bench.0.path().join("index")).expect("a folder");
        let generations = generations.filter(|found| found.as_ref().is_ok_and(|found| found.path().is_dir()));
        assert_eq!(generations.count(), 3, "the old generation is gone");
    }

    /// Tables by their names and columns.
    fn catalog(tables: &[(&str, &str)]) -> Catalog {
        let defined = tables.iter().map(|(name, columns)| {
            let toml = format!(
                "name = \"{name}\"\nabout = \"x\"\nentity = \"de_{name}\"\nkey = {{ column = \"codigo\", type = \"bigint\" }}\n\
                 event = {{ categoria = \"c\", evento = \"e\", metadata = {{ nota = \"nota\" }} }}\ncolumns = [{columns}]\n"
            );
            Definition::parse(&toml).expect("a definition")
        });
        Catalog::of(defined.collect(), chrono_tz::Tz::UTC)
    }

    /// A row as it was read the `n`th time.
    fn row(table: Table, n: i64, json: &str) -> SinkEvent {
        let json = Json::try_from(Bytes::copy_from_slice(json.as_bytes())).expect("JSON");
        let mut event = event(table, &json, n);
        event.timestamp += chrono::TimeDelta::seconds(n);
        let position = Position { partition: 0, offset: n };
        SinkEvent { position, raw: event.encode(), event, table: Some(table) }
    }

    #[tokio::test]
    async fn columns_that_were_added_or_renamed_are_filled_from_the_events_there_are() {
        let catalog = |columns: &str| catalog(&[("coisas", columns)]);
        let before = catalog(r#"{ name = "nota", type = "text" }, { name = "fone", type = "text" }"#);
        let bench = Embedded::new();
        let index = bench.prepared_with(before).await;
        let table = before.get("coisas").expect("coisas");
        let row = |n: i64, json: &str| row(table, n, json);
        // No server takes the second row's JSON: the events' index holds it as a text.
        let first = r#"{"codigo":1,"nota":"a","fone":"11 99","cor":"azul","peso":7.50}"#;
        let rows = vec![
            row(1, first),
            row(2, r#"{"codigo":2,"nota":"b","fone":"12 88","cor":"azul","peso":8,"x":{"a":1,"a":2}}"#),
        ];
        applied(&*index, rows).await;
        // The first row was another meanwhile: its event is the one that is there, and its version is not.
        applied(&*index, vec![row(4, r#"{"codigo":1,"nota":"outra","cor":"azul"}"#)]).await;
        let again = applied(&*index, vec![row(5, first)]).await;
        assert_eq!((again.duplicates, again.entities), (1, 1));
        let event = Event::removal(table, "3", Uuid::from_u128(3), chrono::DateTime::UNIX_EPOCH, 9);
        let position = Position { partition: 0, offset: 3 };
        applied(&*index, vec![SinkEvent { position, raw: event.encode(), event, table: Some(table) }]).await;
        let coisas = |catalog: Catalog| IndexName::Entities(catalog.get("coisas").expect("coisas"));
        let old = search(&*index, coisas(before), "codigo:1").await.hits[0].source.clone();
        drop(index);

        let after = catalog(
            r#"{ name = "nota", type = "text" }, { name = "telefone", type = "text", from = "fone" },
               { name = "cor", type = "text" }, { name = "peso", type = "number" }"#,
        );
        let index = bench.prepared_with(after).await;
        for (query, expected) in [
            ("cor:azul", 2),
            ("telefone:12", 1),
            ("peso:[7.5 TO 8]", 2),
            ("_exists_:telefone", 2),
            ("nota:a", 1),
            ("*", 2),
        ] {
            assert_eq!(search(&*index, coisas(after), query).await.total, expected, "{query}");
        }
        let new = search(&*index, coisas(after), "codigo:1").await.hits[0].source.clone();
        assert_eq!((&new["telefone"], &new["metadata"]), (&old["fone"], &old["metadata"]));
        for same in ["versao", "timestamp", "processado_em"] {
            assert_eq!(new[same], old[same], "{same}");
        }
        assert_eq!(new["versao"], 5);
        assert!(!new.contains_key("fone"), "as a rebuild from the log would have it");

        drop(index);
        let without = catalog(
            r#"{ name = "nota", type = "text" }, { name = "telefone", type = "text", from = "fone" },
               { name = "peso", type = "number" }"#,
        );
        let index = bench.prepared_with(without).await;
        let last = search(&*index, coisas(without), "codigo:1").await.hits[0].source.clone();
        assert!(
            new.contains_key("cor") && !last.contains_key("cor"),
            "nor has it what was taken out: {last:?}"
        );

        drop(index);
        let otherwise = catalog(
            r#"{ name = "nota", type = "text", from = "tom", formerly = ["cor"] },
               { name = "telefone", type = "text", from = "fone" }, { name = "peso", type = "number" }"#,
        );
        let index = bench.prepared_with(otherwise).await;
        for (query, expected) in [("nota:azul", 2), ("nota:a", 0), ("telefone:12", 1), ("*", 2)] {
            assert_eq!(search(&*index, coisas(otherwise), query).await.total, expected, "{query}");
        }
        assert_eq!(index.unfilled().await.expect("an answer"), []);
    }

    #[tokio::test]
    async fn erasing_after_a_definition_changed_leaves_no_column_unfilled() {
        let coisas =
            |more: &str| catalog(&[("coisas", &format!(r#"{{ name = "nota", type = "text" }}{more}"#))]);
        let of = |catalog: Catalog| catalog.get("coisas").expect("coisas");
        let bench = Embedded::new();
        let before = coisas("");
        let index = bench.prepared_with(before).await;
        let rows =
            (1..=2).map(|n| row(of(before), n, &format!(r#"{{"codigo":{n},"nota":"a","cor":"azul"}}"#)));
        applied(&*index, rows.collect()).await;
        drop(index);

        let after = coisas(r#", { name = "cor", type = "text" }"#);
        let index = bench.open_with(after);
        let told = index.unfilled().await.expect("an answer");
        let [lack] = &told[..] else { panic!("{told:?}") };
        assert_eq!(lack.columns, ["cor"]);
        let next = lack.next_step.to_string();
        assert!(next.contains("restart the process") && !next.contains("rebuild"), "{next}");
        assert_eq!(index.erase(of(after), &["1".to_owned()]).await.expect("erased"), 2, "it and its event");
        assert_eq!(index.unfilled().await.expect("an answer"), []);
        assert_eq!(search(&*index, IndexName::Entities(of(after)), "cor:azul").await.total, 1);

        // Nor does one that is made anew lack what the one before it lacked.
        let emptied = index.begin_rebuild(IndexName::Eventos, Uuid::nil()).await.expect("a rebuild");
        index.serve_rebuilt(&emptied).await.expect("swapped");
        index.end_rebuild(&emptied).await.expect("ended");
        drop(index);
        let last = coisas(r#", { name = "cor", type = "text", from = "tom", formerly = ["cor"] }"#);
        let index = bench.prepared_with(last).await;
        assert_eq!(index.unfilled().await.expect("an answer").len(), 1);
        drop(index);
        for found in std::fs::read_dir(bench.0.path().join("index")).expect("a folder") {
            let path = found.expect("found").path();
            if path.is_dir() && path.to_string_lossy().contains("coisas-") {
                std::fs::remove_dir_all(path).expect("deleted");
            }
        }
        let index = bench.prepared_with(last).await;
        assert_eq!(index.unfilled().await.expect("an answer"), []);
    }

    #[tokio::test]
    async fn a_table_is_brought_up_to_date_though_another_can_t_be() {
        let both = |kind: &str, more: &str| {
            let nota = format!(r#"{{ name = "nota", type = "{kind}" }}"#);
            catalog(&[
                ("antigas", &nota),
                ("coisas", &format!(r#"{{ name = "nota", type = "text" }}{more}"#)),
            ])
        };
        let of = |catalog: Catalog, name: &str| catalog.get(name).expect("a table");
        let bench = Embedded::new();
        let before = both("text", "");
        let index = bench.prepared_with(before).await;
        applied(&*index, vec![row(of(before, "coisas"), 1, r#"{"codigo":1,"cor":"azul","tom":"claro"}"#)])
            .await;
        drop(index);

        let cor = r#", { name = "cor", type = "text" }"#;
        let after = both("number", cor);
        let index = bench.open_with(after);
        assert_eq!(search(&*index, IndexName::Entities(of(after, "coisas")), "cor:azul").await.total, 1);
        drop(index);

        let last = both("number", &format!(r#"{cor}, {{ name = "tom", type = "text" }}"#));
        let index = bench.open_with(last);
        let told = index.prepare().await.expect_err("another type").to_string();
        assert!(told.contains("antigas"), "{told}");
        assert_eq!(index.versions(of(last, "coisas"), None, 10).await.expect("versions").entities.len(), 1);
    }

    #[tokio::test]
    async fn a_rebuild_that_the_definition_can_t_use_is_begun_anew() {
        let coisas = |search: &str| {
            let nota = format!(r#"{{ name = "nota", type = "text", search = "{search}" }}"#);
            catalog(&[("coisas", &nota)])
        };
        let of = |catalog: Catalog| catalog.get("coisas").expect("coisas");
        let rows = |catalog: Catalog, n: i64| {
            vec![row(of(catalog), n, &format!(r#"{{"codigo":{n},"nota":"::1"}}"#))]
        };
        let rebuilding = async |index: &dyn Index, catalog: Catalog| {
            let rebuild = index.begin_rebuild(IndexName::Entities(of(catalog)), Uuid::nil()).await;
            let rebuild = rebuild.expect("a rebuild");
            let written = applied(&*index.rebuild_sink(&rebuild), rows(catalog, 1)).await;
            assert_eq!(written.entities, 1, "what is built is written");
            rebuild
        };
        let (text, keyword, ip) = (coisas("text"), coisas("keyword"), coisas("ip"));
        let bench = Embedded::new();
        let index = bench.prepared_with(text).await;
        applied(&*index, rows(text, 1)).await;
        drop(index);
        let index = bench.open_with(keyword);
        index.prepare().await.expect_err("it serves another kind");
        let by_keyword = rebuilding(&*index, keyword).await;
        drop(index);

        let index = bench.prepared_with(text).await;
        assert_eq!(applied(&*index, rows(text, 2)).await.inserted, 1, "what serves is as it was");
        let by_text = rebuilding(&*index, text).await;
        assert_ne!(by_text.id, by_keyword.id);
        assert_eq!(index.rebuilds().await.expect("rebuilds"), std::slice::from_ref(&by_text));
        drop(index);

        let index = bench.open_with(ip);
        index.prepare().await.expect_err("it serves another kind");
        let by_ip = rebuilding(&*index, ip).await;
        assert_ne!(by_ip.id, by_text.id);
        index.serve_rebuilt(&by_ip).await.expect("swapped");
        index.end_rebuild(&by_ip).await.expect("ended");
        index.prepare().await.expect("prepared");
    }

    #[tokio::test]
    async fn a_rebuild_that_is_ahead_of_the_events_a_new_column_is_filled_from_is_begun_anew() {
        let coisas =
            |more: &str| catalog(&[("coisas", &format!(r#"{{ name = "nota", type = "text" }}{more}"#))]);
        let of = |catalog: Catalog| catalog.get("coisas").expect("coisas");
        let rows = |catalog: Catalog, ns: &[i64]| {
            let read =
                |n: &i64| row(of(catalog), *n, &format!(r#"{{"codigo":{n},"nota":"a","cor":"azul"}}"#));
            ns.iter().map(read).collect::<Vec<_>>()
        };
        let (before, after) = (coisas(""), coisas(r#", { name = "cor", type = "text" }"#));
        let bench = Embedded::new();
        let index = bench.prepared_with(before).await;
        applied(&*index, rows(before, &[1])).await;
        let ahead = index.begin_rebuild(IndexName::Entities(of(before)), Uuid::nil()).await;
        let ahead = ahead.expect("a rebuild");
        applied(&*index.rebuild_sink(&ahead), rows(before, &[1, 2])).await;
        drop(index);

        let index = bench.prepared_with(after).await;
        let entities = IndexName::Entities(of(after));
        assert_eq!(search(&*index, entities, "cor:azul").await.total, 1, "what serves is filled");
        let rebuild = index.begin_rebuild(entities, Uuid::nil()).await.expect("a rebuild");
        assert_ne!(rebuild.id, ahead.id);
        applied(&*index.rebuild_sink(&rebuild), rows(after, &[1, 2])).await;
        index.serve_rebuilt(&rebuild).await.expect("swapped");
        index.end_rebuild(&rebuild).await.expect("ended");
        assert_eq!(search(&*index, entities, "cor:azul").await.total, 2);
        assert_eq!(index.unfilled().await.expect("an answer"), []);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_earlier_copy_that_is_put_back_is_brought_up_to_date_by_the_next_write() {
        let coisas = |from: &str| {
            catalog(&[("coisas", &format!(r#"{{ name = "nota", type = "text", from = "{from}" }}"#))])
        };
        let (before, after) = (coisas("tom"), coisas("cor"));
        let of = |catalog: Catalog| catalog.get("coisas").expect("coisas");
        let write = async |index: &dyn Index, catalog: Catalog, n: i64| {
            let json = format!(r#"{{"codigo":{n},"tom":"claro","cor":"azul"}}"#);
            let spans = vec![Span { partition: 0, epoch: 0, first: n - 1, next: n }];
            let batch = SinkBatch { events: vec![row(of(catalog), n, &json)], spans };
            index.apply(LOG, &batch).await.expect("applied");
            index.reached(LOG).await.expect("an answer")[0].offset
        };
        let bench = Embedded::new();
        let (folder, copy) = (bench.0.path().join("index"), bench.0.path().join("copy"));
        let index = bench.prepared_with(before).await;
        assert_eq!(write(&*index, before, 1).await, 1);
        drop(index);
        copy_folder(&folder, &copy);
        let index = bench.prepared_with(after).await;
        assert_eq!(write(&*index, after, 2).await, 2);

        std::fs::remove_dir_all(&folder).expect("deleted");
        std::fs::rename(&copy, &folder).expect("put back");
        assert_eq!(write(&*index, after, 3).await, 1, "what the copy lacks is read again");
        let coisas = IndexName::Entities(of(after));
        assert_eq!(
            search(&*index, coisas, "nota:azul").await.total,
            2,
            "what is in it, and what was written"
        );
        index.prepare().await.expect("prepared");
        assert_eq!(write(&*index, after, 2).await, 2);
        assert_eq!(search(&*index, coisas, "nota:azul").await.total, 3);
    }

    /// One lead of the sample project and its event, as sluice wrote them while it kept words as automata.
    fn of_an_earlier_build() -> Embedded {
        let earlier =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/index_of_an_earlier_build");
        let bench = Embedded::new();
        copy_folder(&earlier, &bench.0.path().join("index"));
        bench
    }

    #[tokio::test]
    async fn an_index_of_an_earlier_build_is_brought_up_to_date_with_its_documents() {
        let bench = of_an_earlier_build();
        let index = bench.prepared().await;
        for name in [IndexName::Eventos, entities("leads")] {
            assert_eq!(search(&*index, name, "*").await.total, 1, "{name}");
        }
        assert_eq!(search(&*index, entities("leads"), "nome:ana").await.total, 1);
        let lead_2 = |n, nome| vec![lead(n, Uuid::from_u128(2), n, json!({"nome": nome}))];
        assert_eq!(applied(&*index, lead_2(1, "Rui")).await.entities, 1);
        let versions = index.versions(table("leads"), None, 10).await.expect("the versions");
        assert_eq!(versions.entities.len(), 2);
        let generations = std::fs::read_dir(bench.0.path().join("index")).expect("a folder");
        let generations = generations.filter(|found| found.as_ref().is_ok_and(|found| found.path().is_dir()));
        assert_eq!(generations.count(), 3, "the old generations are gone");
    }

    #[tokio::test]
    async fn searches_while_an_index_is_brought_up_to_date_leave_what_was_just_made() {
        for _ in 0..3 {
            let bench = of_an_earlier_build();
            let index = bench.open();
            let before = index.identities().await.expect("the identities");
            let (prepared, again, leads, eventos) = tokio::join!(
                index.prepare(),
                index.prepare(),
                search(&*index, entities("leads"), "nome:ana"),
                search(&*index, IndexName::Eventos, "*"),
            );
            prepared.and(again).expect("prepared");
            assert_eq!((leads.total, eventos.total), (1, 1));
            let there = bench.open();
            assert_eq!(there.identities().await.expect("the identities"), before, "none was made anew");
            for name in [IndexName::Eventos, entities("leads")] {
                assert_eq!(search(&*there, name, "*").await.total, 1, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn erasing_as_the_first_command_of_a_new_build_brings_the_index_up_to_date() {
        let other = of_an_earlier_build();
        let versions = other.prepared().await.versions(table("leads"), None, 10).await.expect("the versions");
        let [(key, _)] = &versions.entities[..] else { panic!("{versions:?}") };
        let bench = of_an_earlier_build();
        let index = bench.open();
        let erased = index.erase(table("leads"), std::slice::from_ref(key)).await.expect("erased");
        assert_eq!(erased, 2, "the lead and its event");
        for name in [IndexName::Eventos, entities("leads")] {
            assert_eq!(search(&*index, name, "*").await.total, 0, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_discarded_takes_the_other_events_of_its_entity_along() {
        let bench = Embedded::new();
        let index = bench.prepared().await;
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let events = [(1, first, 1), (2, first, 2), (3, second, 3)];
        let events = events.map(|(at, key, version)| lead(at, key, version, json!({"nome": at.to_string()})));
        applied(&*index, events.to_vec()).await;
        index.discard(&events[1..2]).await.expect("discarded");
        for name in [IndexName::Eventos, entities("leads")] {
            assert_eq!(search(&*index, name, "*").await.total, 1, "{name}");
        }
    }

    #[tokio::test]
    async fn what_killed_processes_left_goes_with_the_next_erasure_and_where_the_index_is_prepared() {
        let bench = Embedded::new();
        let writer = bench.prepared().await;
        applied(&*writer, vec![lead(1, Uuid::new_v4(), 1, json!({"nome": "Ana"}))]).await;
        let folder = bench.0.path().join("index");
        let replaced = folder.join("leads-000009");
        let unmerged = folder.join("eventos-000001").join(format!("{}.store", Uuid::new_v4().simple()));
        std::fs::create_dir(&replaced).expect("a generation that nothing names");
        std::fs::write(&unmerged, "Zuleica").expect("a segment that nothing names");
        writer.erase(table("leads"), &["nobody".to_owned()]).await.expect("erased");
        assert!(!replaced.exists() && !unmerged.exists());

        std::fs::write(&unmerged, "Zuleica").expect("a segment that nothing names");
        let reader = bench.prepared().await;
        assert!(unmerged.exists(), "another writes, and it may be its own");
        drop(writer);
        reader.prepare().await.expect("prepared");
        assert!(!unmerged.exists());
        let other = bench.open();
        assert_eq!(applied(&*other, vec![manual(2, json!({}))]).await.inserted, 1, "the lock was given back");
    }
}
