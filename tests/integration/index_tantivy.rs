//! The embedded index: what is its own, beside what every index promises.

mod embedded {
    use serde_json::json;
    use sluice::fault::FaultKind;
    use uuid::Uuid;

    use crate::support::{
        events::{applied, fault, lead, manual},
        indices::{Embedded, IndexBench, entities, search},
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
        let told = bench.open().health().await.expect_err("there is nothing");
        assert!(
            told.message.contains("not made yet") && told.advice.to_string().contains("start a process"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_reader_follows_a_rebuild_of_the_writers() {
        let bench = Embedded::new();
        let writer = bench.prepared().await;
        applied(&*writer, vec![lead(1, Uuid::new_v4(), 1, json!({"nome": "Ana"}))]).await;
        let reader = bench.prepared().await;
        let rebuild = writer.begin_rebuild(entities("leads")).await.expect("a rebuild");
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
}
