//! SQL over the embedded store that asks for more than there is: time, memory, places.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice::{
    fault::{Fault, FaultKind},
    store::{QueryAnswer, QueryLimits, Store},
};
use tokio::sync::Mutex;

use crate::support::stores::{Embedded, StoreBench, apply, lead};

/// SQLite's memory is bounded for the process as a whole, so those who take all of it take turns.
static MEMORY: Mutex<()> = Mutex::const_new(());

const ENDLESS: &str = "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d) SELECT max(n) FROM d";

fn limits(timeout: Duration) -> QueryLimits {
    QueryLimits { rows: 100, bytes: 100_000, timeout, verbatim: false }
}

/// What a statement came to, and how long that took.
async fn timed(store: &dyn Store, sql: &str, timeout: Duration) -> (Result<QueryAnswer, Fault>, Duration) {
    let began = Instant::now();
    let outcome = store.query(sql, limits(timeout)).await;
    (outcome, began.elapsed())
}

/// `count` terms joined so that none stands deeper than it must.
fn balanced(count: usize, term: &str, operator: &str) -> String {
    match count {
        0 | 1 => term.to_owned(),
        _ => format!(
            "({} {operator} {})",
            balanced(count / 2, term, operator),
            balanced(count - count / 2, term, operator)
        ),
    }
}

#[tokio::test]
async fn statements_that_take_long_in_one_step_or_in_being_prepared_end_at_their_deadline() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let bench = Embedded::new().await;
    let store = bench.open();
    apply(&*store, vec![lead(1, 0, "Ana"), lead(2, 0, "Bia")]).await;
    let long = "printf('%.*c', 4000000, 'a')";
    let half = "printf('%.*c', 2000000, 'a')";
    let many =
        "(WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 1000) SELECT n FROM d)";
    for sql in [
        format!("SELECT {long} GLOB '*' || {half} || 'b'"),
        format!("SELECT sum({long} || n GLOB '*{}b') FROM {many}", "a".repeat(190)),
        format!("SELECT sum({long} || n LIKE '%{}b') FROM {many}", "a".repeat(190)),
        format!("SELECT sum({long} || n LIKE '{}b') FROM {many}", "%a".repeat(90)),
        format!("SELECT glob('*' || {half} || 'b', {long})"),
        format!("SELECT like('%' || {half} || 'b', {long})"),
        format!("SELECT sum(instr({long}, {half} || 'b' || n)) FROM {many}"),
        format!("SELECT length(replace({long}, {half} || 'b', 'c')), length(replace({long}, 'a', {half}))"),
        format!("SELECT sum(length(trim({long} || n, {half} || 'b'))) FROM {many}"),
        format!("SELECT count(*) FROM leads WHERE {}", balanced(33_000, "id='x'", "OR")),
        format!("SELECT count(*) FROM leads WHERE {}", balanced(1_900, "id='x'", "OR")),
        format!("SELECT count(*) FROM leads WHERE {}", balanced(1_900, "nome=1", "AND")),
        format!("SELECT count(*) FROM leads WHERE nome IN ({})", vec!["1"; 9_900].join(",")),
        format!("SELECT {}", vec!["1"; 9_900].join("+")),
        format!("SELECT {}", vec!["1"; 9_900].join(",")),
        format!("SELECT {}1{}", "(".repeat(9_900), ")".repeat(9_900)),
        format!("SELECT {}1{}", "abs(".repeat(3_300), ")".repeat(3_300)),
        format!("SELECT {}1{}", "(SELECT ".repeat(1_900), ")".repeat(1_900)),
        format!("SELECT * FROM {}leads{}", "(".repeat(45), ")".repeat(45)),
        format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(1_000), ")".repeat(1_000)),
        format!("SELECT {}1", "NOT ".repeat(4_900)),
        format!("SELECT {}1", "- ".repeat(9_900)),
        format!("SELECT {} 1 {}", "CASE WHEN ".repeat(900), "THEN 1 END ".repeat(900)),
        vec!["SELECT 1"; 1_200].join(" UNION "),
        format!("VALUES {}", vec!["(1)"; 4_900].join(",")),
        format!("SELECT count(*) FROM {}", vec!["leads"; 60].join(",")),
        format!("WITH {} SELECT count(*) FROM a20", doubling(20)),
        "SELECT count(*) FROM leads a, leads b, leads c, leads d, json_each(printf('[%.*c1]', 100000, '1'))"
            .to_owned(),
        ENDLESS.to_owned(),
    ] {
        let (outcome, took) = timed(&*store, &sql, TIMEOUT).await;
        let shown = &sql[..sql.len().min(90)];
        assert!(took < TIMEOUT + Duration::from_secs(1), "{shown}: {took:?}");
        if let Err(fault) = outcome {
            assert!(
                fault.kind == FaultKind::Invalid || fault.message.contains("other statements"),
                "{shown}: {fault}"
            );
        }
    }
}

/// Queries that each read the one before twice.
fn doubling(depth: usize) -> String {
    let each = (1..=depth).map(|i| format!("a{i} AS (SELECT x.n FROM a{} x, a{} y)", i - 1, i - 1));
    std::iter::once("a0(n) AS (SELECT 1 UNION SELECT 2)".to_owned())
        .chain(each)
        .collect::<Vec<_>>()
        .join(", ")
}

#[tokio::test]
async fn statements_that_would_take_much_memory_are_refused() {
    let _alone = MEMORY.lock().await;
    let bench = Embedded::new().await;
    let store = bench.open();
    let times = |count: usize, what: &str| vec![what; count].join(", ");
    let text = "printf('%.*c', 4000000, 'x')";
    let rows = |what: &str| {
        format!("WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 100000) {what}")
    };
    for (sql, told) in [
        (format!("SELECT {}", times(200, "randomblob(4000000)")), "not authorized to use function"),
        (format!("SELECT {}", times(200, "zeroblob(4000000)")), "not authorized to use function"),
        (format!("SELECT {}", times(200, text)), "has 200 columns"),
        (format!("SELECT {}", times(90, text)), "memory"),
        (format!("SELECT concat({})", times(90, text)), "memory"),
        (format!("SELECT json_array({})", times(90, text)), "memory"),
        (format!("SELECT count(*) FROM (SELECT DISTINCT {})", times(90, text)), "memory"),
        (rows("SELECT group_concat(printf('%.*c', 100000, 'x')) FROM d"), "too large"),
        (rows("SELECT json_group_array(printf('%.*c', 100000, 'x')) FROM d"), "memory"),
        (rows("SELECT count(DISTINCT n || printf('%.*c', 100000, 'x')) FROM d"), "memory"),
        (rows("SELECT n || printf('%.*c', 100000, 'x') AS t FROM d ORDER BY t DESC"), "memory"),
        (
            "WITH RECURSIVE d(n, t) AS (SELECT 1, '' UNION SELECT n + 1, printf('%.*c', 100000, 'x') FROM d) SELECT max(n) FROM d".to_owned(),
            "memory",
        ),
        (
            "WITH RECURSIVE d(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM d) SELECT max(length(t)) FROM d".to_owned(),
            "too large",
        ),
        (format!("WITH a AS MATERIALIZED (SELECT {text} AS t) SELECT {}", times(90, "(SELECT t FROM a)")), "memory"),
    ] {
        let (outcome, _) = timed(&*store, &sql, Duration::from_secs(20)).await;
        let fault = outcome.expect_err(&sql);
        assert!(fault.message.contains(told), "{}: {fault}", &sql[..sql.len().min(90)]);
    }
}

#[tokio::test]
async fn statements_that_take_all_the_memory_fail_no_write() {
    let _alone = MEMORY.lock().await;
    let bench = Embedded::new().await;
    let store = bench.open();
    let end = Instant::now() + Duration::from_secs(4);
    let asking = |sql: String| {
        let store = store.clone();
        async move {
            while Instant::now() < end {
                store.query(&sql, limits(Duration::from_secs(20))).await.expect_err("it takes too much");
            }
        }
    };
    let wide = format!("SELECT {}", vec!["printf('%.*c', 4000000, 'x')"; 90].join(", "));
    let long = "WITH RECURSIVE d(n, t) AS (SELECT 1, '' UNION SELECT n + 1, printf('%.*c', 1000, 'x') FROM d)
                SELECT max(n) FROM d";
    let writing = async {
        let mut written = 0;
        while Instant::now() < end {
            apply(&*store, vec![lead(1, 0, "Ana")]).await;
            written += 1;
        }
        written
    };
    let ((), (), written) = tokio::join!(asking(wide), asking(long.to_owned()), writing);
    assert!(written > 1, "nothing waits for the statements");
    let (outcome, _) = timed(&*store, "SELECT count(*) FROM leads", Duration::from_secs(10)).await;
    assert_eq!(outcome.expect("an answer").rows, [[json!(1)]]);
}

#[tokio::test]
async fn an_error_of_a_row_tells_nothing_of_what_is_in_it() {
    let bench = Embedded::new().await;
    let store = bench.open();
    apply(&*store, vec![lead(1, 0, "3123-5678")]).await;
    for (sql, told) in [
        ("SELECT json_extract('{}', nome) FROM leads", "bad JSON path"),
        ("SELECT json_set('{}', nome, 1) FROM leads", "bad JSON path"),
        ("SELECT j.value FROM leads, json_each('{}', nome) AS j", "bad JSON path"),
        ("SELECT json(nome) FROM leads", "malformed JSON"),
        ("SELECT date_trunc(nome, now()) FROM leads", "date_trunc knows"),
    ] {
        let asked = store.query(sql, limits(Duration::from_secs(9))).await.expect_err(sql).to_string();
        assert!(asked.contains(told) && !asked.contains("3123"), "{sql}: {asked}");
        // An export is told before its rows or among them.
        let told_so = match store.stream(sql, limits(Duration::from_secs(9))).await {
            Ok(mut streamed) => loop {
                match streamed.rows.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{sql}: no error"),
                    Err(fault) => break fault.to_string(),
                }
            },
            Err(fault) => fault.to_string(),
        };
        assert!(told_so.contains(told) && !told_so.contains("3123"), "{sql}: {told_so}");
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_into_the_answer_is_cut_and_said_to_be() {
    let _alone = MEMORY.lock().await;
    let bench = Embedded::new().await;
    let store = bench.open();
    let sql = "SELECT 1 UNION ALL SELECT printf('%.*c', 4000000, 'x')";
    let (outcome, _) = timed(&*store, sql, Duration::from_secs(10)).await;
    let answer = outcome.expect("an answer");
    assert_eq!((answer.rows, answer.truncated), (vec![vec![json!(1)]], true));
    let name = "n".repeat(9_000);
    let sql = format!("WITH a AS (SELECT 1 AS {name}) SELECT {} FROM a", vec!["a.*"; 20].join(", "));
    let (outcome, _) = timed(&*store, &sql, Duration::from_secs(10)).await;
    let fault = outcome.expect_err("names count, too");
    assert!(fault.message.contains("names of its columns"), "{fault}");
}

#[tokio::test]
async fn two_statements_run_at_once_and_the_next_ones_wait_or_are_told_to() {
    let bench = Embedded::new().await;
    let store = bench.open();
    let long = || store.query(ENDLESS, limits(Duration::from_secs(3)));
    let third = async {
        // Behind both.
        tokio::task::yield_now().await;
        timed(&*store, "SELECT 1", Duration::from_millis(600)).await
    };
    let (first, second, (third, waited)) = tokio::join!(long(), long(), third);
    assert!(first.is_err() && second.is_err());
    let fault = third.expect_err("both places are taken");
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    assert!(
        fault.message.contains("2 other statements") && fault.advice.to_string().contains("ask again"),
        "{fault}"
    );
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    let short =
        || async { store.query("SELECT 1", limits(Duration::from_secs(10))).await.expect("an answer").rows };
    let all = tokio::join!(short(), short(), short(), short(), short());
    assert_eq!(all.4, [[json!(1)]], "short ones wait for each other");
}

#[tokio::test]
async fn a_statement_ends_when_its_caller_has_gone() {
    let bench = Embedded::new().await;
    let store = bench.open();
    for _ in 0..4 {
        let asked = store.query(ENDLESS, limits(Duration::from_mins(1)));
        tokio::time::timeout(Duration::from_millis(50), asked).await.expect_err("it is endless");
    }
    let (outcome, took) = timed(&*store, "SELECT 1", Duration::from_secs(30)).await;
    assert_eq!(outcome.expect("a free place").rows, [[json!(1)]]);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
