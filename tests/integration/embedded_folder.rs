//! The embedded file as several processes and many tasks meet it: who may write, who can read, how fast it is.
//!
//! A second process is this test program again, told by a variable to open the folder.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sluice::{
    data_folder::DataFolder,
    domain::Catalog,
    embedded::EmbeddedDb,
    fault::{Fault, FaultKind},
    index::tantivy::TantivyIndex,
    log::{Log, StartAt, Topic, embedded::EmbeddedLog},
    sink::Sink,
    store::{EventFilter, EventOrder, Operations, QueryLimits, Questions, Store, sqlite::SqliteStore},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::table;
use crate::support::{
    folder::TestFolder,
    logs::{join, read, records},
    stores::{LOG, apply, batch, claimed, lead, new_sync},
};

const LIMITS: QueryLimits =
    QueryLimits { rows: 10, bytes: 10_000, timeout: Duration::from_secs(10), verbatim: false };

/// The folder a second process is to open.
const FOLDER: &str = "SLUICE_TEST_FOLDER";

fn parts(folder: &Path, owner: &str) -> (EmbeddedLog, SqliteStore) {
    let db = EmbeddedDb::open(folder, owner).expect("an open folder");
    (EmbeddedLog::new(db.clone()), SqliteStore::new(db, Catalog::built_in()))
}

/// Everything that writes is refused, and tells who holds the folder.
async fn refused_writes(log: &EmbeddedLog, store: &SqliteStore) -> Vec<Fault> {
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    vec![
        log.append(Topic::Events, records(1)).await.expect_err("refused"),
        log.append(Topic::DeadLetters, records(1)).await.expect_err("refused"),
        reader.commit(&[sluice::log::Position { partition: 0, offset: 1 }]).await.expect_err("refused"),
        store.claim(LOG, &[0]).await.expect_err("refused"),
        store.begin_sync(new_sync(table("leads"))).await.err().expect("refused"),
        store.request_cancel(uuid::Uuid::nil()).await.expect_err("refused"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_of_an_embedded_folder_reads_everything_and_is_told_who_writes() {
    let folder = TestFolder::new();
    let (log, store) = parts(folder.path(), "host-a, process 7");
    log.append(Topic::Events, records(30)).await.expect("appended");
    apply(&store, vec![lead(1, 0, "Ana")]).await;

    let (other_log, other_store) = parts(folder.path(), "host-b, process 8");
    for fault in refused_writes(&other_log, &other_store).await {
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
        assert!(fault.message.contains("held by host-a, process 7, since 20"), "{fault}");
        assert!(fault.advice.to_string().contains("SLUICE_DATA_DIR"), "{fault}");
    }
    assert_eq!(other_log.identity().await.expect("it answers"), log.identity().await.expect("it answers"));
    assert_eq!(other_log.extents().await.expect("it answers"), log.extents().await.expect("it answers"));
    assert_eq!(
        other_store.applied(LOG).await.expect("it answers"),
        store.applied(LOG).await.expect("it answers")
    );
    // What is written from here on it sees as well.
    apply(&store, vec![lead(2, 0, "Bia")]).await;
    assert_eq!(other_store.counts().await.expect("it answers")[1].1, 2);
    let page =
        other_store.events(&EventFilter::default(), EventOrder::Newest, None, 10).await.expect("events");
    assert_eq!(page.events.len(), 2);
    assert_eq!(other_store.recent_syncs(5).await.expect("it answers").len(), 0);

    drop((log, store));
    other_log.append(Topic::Events, records(1)).await.expect("the folder is free, and taken over");
    let (late_log, _store) = parts(folder.path(), "host-c, process 9");
    let fault = late_log.append(Topic::Events, records(1)).await.expect_err("it is held again");
    assert!(fault.message.contains("held by host-b, process 8"), "{fault}");
}

/// This program, running one of its ignored tests in that folder.
fn second_process(test: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &format!("embedded_folder::{test}"), "--nocapture", "--ignored"]);
    command.env(FOLDER, folder).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().expect("it starts")
}

fn lines(process: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(process.stdout.take().expect("stdout")).lines()
}

/// What it says next; the harness says things of its own.
async fn opened(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    loop {
        let line = lines.next_line().await.expect("a line").expect("an answer before the end");
        if let Some((_, line)) = line.split_once("opened: ") {
            return line.to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_open_an_embedded_folder_at_once_are_one_writer_and_one_reader() {
    let folder = TestFolder::new();
    let mut processes = Vec::new();
    for _ in 0..2 {
        processes.push(second_process("the_second_process_of_an_embedded_folder", folder.path()));
    }
    let mut said = Vec::new();
    for process in &mut processes {
        let mut lines = lines(process);
        said.push((opened(&mut lines).await, lines));
    }
    let mut roles: Vec<&str> = said.iter().map(|(role, _)| role.as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["reader", "writer"]);
    for process in &mut processes {
        process.stdin.take().expect("stdin").write_all(b"end\n").await.expect("told to end");
    }
    for mut process in processes {
        assert!(process.wait().await.expect("it ends").success());
    }
}

/// Not a test of its own: what the processes of the test above run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the second process of another test"]
async fn the_second_process_of_an_embedded_folder() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let (log, store) = parts(Path::new(&folder), &format!("process {}", std::process::id()));
    match log.append(Topic::Events, records(3)).await {
        Ok(_) => println!("opened: writer"),
        Err(_) => {
            let own = format!("process {},", std::process::id());
            for fault in refused_writes(&log, &store).await {
                assert!(
                    fault.message.contains("held by process") && !fault.message.contains(&own),
                    "{fault}"
                );
            }
            println!("opened: reader");
        }
    }
    // Until both have opened it.
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut BufReader::new(tokio::io::stdin()), &mut line)
        .await
        .expect("a line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_took_a_folder_over_keeps_its_journal_whoever_else_opens_and_closes_the_file() {
    let folder = TestFolder::new();
    let (log, store) = parts(folder.path(), "the first");
    log.append(Topic::Events, records(10)).await.expect("appended");
    let mut child = second_process("the_process_that_takes_an_embedded_folder_over", folder.path());
    let (mut said, mut stdin) = (lines(&mut child), child.stdin.take().expect("stdin"));
    assert_eq!(opened(&mut said).await, "reader");
    drop((log, store));
    stdin.write_all(b"append\n").await.expect("told to append");
    assert_eq!(opened(&mut said).await, "writer");

    // Whoever looks into the file with a program of their own.
    let other = rusqlite::Connection::open(folder.path().join("sluice.db")).expect("opened");
    let seen: i64 =
        other.query_row("SELECT count(*) FROM log_records", [], |row| row.get(0)).expect("a count");
    assert_eq!(seen, 20);
    drop(other);
    assert!(
        folder.path().join("sluice.db-wal").is_file(),
        "the journal that the process writes into is gone"
    );

    stdin.write_all(b"append\n").await.expect("told to append");
    assert_eq!(opened(&mut said).await, "writer");
    // SIGKILL: nothing is finished.
    child.kill().await.expect("killed");
    let (log, _store) = parts(folder.path(), "the last");
    let there: i64 = log.extents().await.expect("extents").iter().map(|extent| extent.high).sum();
    assert_eq!(there, 30, "what was acknowledged is there");
}

/// Not a test of its own: appends ten records for each line that it is given.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the second process of another test"]
async fn the_process_that_takes_an_embedded_folder_over() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let (log, store) = parts(Path::new(&folder), "the second");
    log.append(Topic::Events, records(1)).await.expect_err("it is held");
    store.recent_syncs(1).await.expect("it reads");
    println!("opened: reader");
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    while asked.next_line().await.expect("a line").is_some() {
        log.append(Topic::Events, records(10)).await.expect("taken over, and appended");
        println!("opened: writer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_laid_over_the_journal_of_a_process_that_was_killed_is_refused_and_not_made_worse() {
    let place = TestFolder::new();
    let (folder, mixed) = (place.path().join("data"), place.path().join("mixed"));
    std::fs::create_dir(&mixed).expect("a folder");
    let (log, store) = parts(&folder, "before the copy");
    log.append(Topic::Events, records(2_000)).await.expect("appended");
    drop((log, store));
    let copy = std::fs::read(folder.join("sluice.db")).expect("the copy");
    let (log, store) = parts(&folder, "after the copy");
    log.append(Topic::Events, records(20_000)).await.expect("appended");
    drop((log, store));
    let (log, store) = parts(&folder, "the one that is killed");
    log.append(Topic::Events, records(200)).await.expect("appended");
    // As it stands there when nothing is finished.
    std::fs::copy(folder.join("sluice.db-wal"), mixed.join("sluice.db-wal")).expect("the journal");
    std::fs::copy(folder.join("sluice.db"), mixed.join("sluice.db")).expect("the file");
    drop((log, store));
    let whole = place.path().join("whole");
    std::fs::create_dir(&whole).expect("a folder");
    for name in ["sluice.db", "sluice.db-wal"] {
        std::fs::copy(mixed.join(name), whole.join(name)).expect("copied");
    }
    let (log, _store) = parts(&whole, "after a kill");
    let there: i64 = log.extents().await.expect("extents").iter().map(|extent| extent.high).sum();
    assert_eq!(there, 22_200, "what belongs together is sound");

    std::fs::write(mixed.join("sluice.db"), &copy).expect("laid over it");
    for attempt in ["the first", "the second"] {
        let fault = EmbeddedDb::open(&mixed, attempt).err().expect("refused");
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{attempt}: {fault}");
        assert!(fault.advice.to_string().contains("sluice.db is damaged"), "{attempt}: {fault}");
        assert!(std::fs::metadata(mixed.join("sluice.db-wal")).is_ok_and(|found| found.len() > 0));
        assert!(std::fs::read(mixed.join("sluice.db")).expect("the file") == copy, "the copy is as it was");
    }
    // What the advice says.
    std::fs::remove_file(mixed.join("sluice.db-wal")).expect("moved away");
    let (log, _store) = parts(&mixed, "the copy alone");
    let there: i64 = log.extents().await.expect("extents").iter().map(|extent| extent.high).sum();
    assert_eq!(there, 2_000);
}

/// What is done to a folder while processes have it open.
#[cfg(unix)]
type Change = fn(folder: &Path, copy: &Path);

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_replaced_under_a_process_is_not_used_by_it_until_that_is_started_again() {
    let changes: [(&str, Change); 3] = [
        ("an older copy in its place", |folder, copy| {
            std::fs::rename(folder, folder.with_extension("moved")).expect("moved away");
            std::fs::rename(copy, folder).expect("put in its place");
        }),
        ("its database deleted", |folder, _| {
            for name in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
                std::fs::remove_file(folder.join(name)).expect("deleted");
            }
        }),
        ("its lock deleted", |folder, _| {
            std::fs::remove_file(folder.join("sluice.lock")).expect("deleted");
        }),
    ];
    for (change, make) in changes {
        let place = TestFolder::new();
        let (folder, copy) = (place.path().join("data"), place.path().join("copy"));
        let (log, store) = parts(&folder, "before the copy");
        log.append(Topic::Events, records(10)).await.expect("appended");
        drop((log, store));
        std::fs::create_dir(&copy).expect("a folder");
        std::fs::copy(folder.join("sluice.db"), copy.join("sluice.db")).expect("copied");

        let (log, store) = parts(&folder, "host-a, process 7");
        log.append(Topic::Events, records(20)).await.expect("appended");
        apply(&store, vec![lead(1, 0, "Ana")]).await;
        assert!(store.facts().await.expect("facts").unfit.is_none());
        let (reading_log, reading_store) = parts(&folder, "host-b, process 8");
        reading_log.extents().await.expect("it reads");
        make(&folder, &copy);

        let mut refused = vec![
            log.append(Topic::Events, records(1)).await.expect_err("refused"),
            log.identity().await.expect_err("refused"),
            store.counts().await.expect_err("refused"),
            store.query("SELECT count(*) FROM leads", LIMITS).await.expect_err("refused"),
            store.facts().await.expect("facts").unfit.expect("unfit"),
        ];
        // It remembers nothing of the lock, which its successor will make anew.
        if change != "its lock deleted" {
            refused.push(reading_log.extents().await.expect_err("refused"));
            refused.push(reading_store.facts().await.expect("facts").unfit.expect("unfit"));
        }
        for fault in refused {
            let told = fault.to_string();
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{change}: {told}");
            assert!(told.contains("was deleted or replaced under this process"), "{change}: {told}");
            assert!(fault.advice.to_string().contains("restart this process"), "{change}: {told}");
        }

        let (new_log, _new_store) = parts(&folder, "host-c, process 9");
        new_log.append(Topic::Events, records(1)).await.expect("nobody holds it");
        let there: i64 = new_log.extents().await.expect("extents").iter().map(|extent| extent.high).sum();
        let expected = match change {
            "an older copy in its place" => 11,
            "its database deleted" => 1,
            _ => 31,
        };
        assert_eq!(there, expected, "{change}");
        log.append(Topic::Events, records(1)).await.expect_err("still refused");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_folder_that_was_replaced_is_neither_read_nor_written() {
    let place = TestFolder::new();
    let path = place.path().join("data");
    let open = |owner| {
        let folder = DataFolder::open(&path, owner).expect("a folder");
        TantivyIndex::in_folder(folder, Catalog::built_in())
    };
    let index = open("host-a, process 7");
    index.prepare().await.expect("prepared");
    index.make_visible().await.expect("it reads");
    std::fs::rename(&path, path.with_extension("moved")).expect("moved away");
    let refused = async |when: &str| {
        for fault in [
            index.counts().await.expect_err(when),
            index.identities().await.expect_err(when),
            index.health().await.expect_err(when),
            index.prepare().await.expect_err(when),
        ] {
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{when}: {fault}");
            assert!(fault.message.contains("was deleted or replaced under this process"), "{when}: {fault}");
        }
    };
    refused("moved away").await;
    assert!(!path.exists(), "nothing was made in its place");
    let new = open("host-b, process 8");
    new.prepare().await.expect("another is made");
    refused("replaced").await;
    new.counts().await.expect("it reads what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_write_and_read_an_embedded_folder_at_once_lose_nothing_and_do_not_wait_long() {
    let folder = TestFolder::new();
    let (log, store) = parts(folder.path(), "test");
    let (log, store) = (Arc::new(log), Arc::new(store));
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (log, store, done) = (log.clone(), store.clone(), done.clone());
        async move {
            let (mut slowest, mut questions) = (Duration::ZERO, 0);
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                log.extents().await.expect("it answers");
                store.applied(LOG).await.expect("it answers");
                store
                    .events(&EventFilter::default(), EventOrder::LatestStored, None, 20)
                    .await
                    .expect("events");
                slowest = slowest.max(began.elapsed());
                questions += 1;
            }
            (slowest, questions)
        }
    });
    let claims = store.claim(LOG, &[0, 1]).await.expect("claims");
    let appending = (0..4).map(|_| {
        let log = log.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                log.append(Topic::Events, records(100)).await.expect("appended");
            }
        })
    });
    let applying = claims.into_iter().map(|claim| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let first = round * 100;
                let ids = u128::try_from(claim.partition).expect("a number") * 10_000;
                let events = (0..100).map(|n| lead(ids + n, round, "Ana")).collect();
                store
                    .apply(LOG, &crate::support::stores::batch_at(claim, first, events))
                    .await
                    .expect("applied");
            }
        })
    });
    for task in appending.collect::<Vec<_>>().into_iter().chain(applying.collect::<Vec<_>>()) {
        task.await.expect("no task fails");
    }
    done.store(true, Ordering::Relaxed);
    let (slowest, questions) = watching.await.expect("the watcher ends");
    assert!(questions > 5, "{questions}");
    assert!(slowest < Duration::from_secs(3), "a question took {slowest:?}");
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let mut seen: Vec<(i32, i64)> =
        read(&mut *reader, 8000).await.iter().map(|record| (record.partition, record.offset)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 8000, "every record once");
    assert_eq!(store.counts().await.expect("it answers")[0].1, 2000);
    println!("slowest of {questions} questions under load: {slowest:?}");
}

/// Says how fast it is; fails only when something is badly wrong, such as a write to the disk for every row.
#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_folder_takes_thousands_of_events_a_second() {
    let folder = TestFolder::new();
    let (log, store) = parts(folder.path(), "test");
    let claim = claimed(&store).await;
    let events: Vec<_> = (0..10_000).map(|n| lead(n, 0, "Ana")).collect();
    let began = Instant::now();
    for part in events.chunks(1000) {
        let records = part
            .iter()
            .map(|event| sluice::log::NewRecord {
                key: event.entidade.id.clone().into(),
                value: event.encode(),
                headers: vec![("schema", "1".into())],
            })
            .collect();
        log.append(Topic::Events, records).await.expect("appended");
    }
    let appending = began.elapsed();
    let began = Instant::now();
    let whole = batch(claim, events);
    for (i, part) in whole.events.chunks(1000).enumerate() {
        let first = i64::try_from(i).expect("a small number") * 1000;
        let spans = vec![sluice::sink::Span { first, next: first + 1000, ..whole.spans[0] }];
        let part = sluice::sink::SinkBatch { events: part.to_vec(), spans };
        assert_eq!(store.apply(LOG, &part).await.expect("applied").inserted, 1000);
    }
    let applying = began.elapsed();
    let mut reader = log.reader("g").await.expect("a reader");
    join(&mut *reader, StartAt::Beginning).await;
    let began = Instant::now();
    read(&mut *reader, 10_000).await;
    println!(
        "10,000 events: appended in {appending:?}, applied in {applying:?}, read in {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    for n in 0..50 {
        log.append(Topic::Events, vec![crate::support::logs::record(n, n)]).await.expect("appended");
    }
    println!("50 appends of one record each in {:?}", began.elapsed());
    assert!(
        appending < Duration::from_secs(20) && applying < Duration::from_secs(30),
        "{appending:?} {applying:?}"
    );
}
