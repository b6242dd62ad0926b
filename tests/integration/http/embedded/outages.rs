//! Parts that hang or refuse, with the timeouts that are set unless somebody changes them.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::support::{
    fake_http::{FakeHttp, Reply},
    http::HttpServer,
};

/// Prometheus waits for ten seconds, and a busy machine takes its own.
const SCRAPED_WITHIN: Duration = Duration::from_secs(9);

const USUAL_TIMEOUTS: [(&str, &str); 3] = [
    ("KAFKA_TIMEOUT_SECONDS", "30"),
    ("DATABASE_TIMEOUT_SECONDS", "30"),
    ("ELASTICSEARCH_TIMEOUT_SECONDS", "30"),
];

/// Takes connections and never says anything.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_the_parts_that_are_down_before_prometheus_gives_up() {
    let unavailable = FakeHttp::start(|_, _| Reply::Answer(503, "{}")).await;
    let (_listener, address) = silent().await;
    let (web, database) = (format!("http://{address}"), format!("postgres://nobody@{address}/nothing"));
    let refusing = [&USUAL_TIMEOUTS[..], &[("SUPABASE_URL", unavailable.url.as_str())]].concat();
    let silent = [
        ("SUPABASE_URL", web.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", &address),
        ("DATABASE_URL", &database),
        ("ELASTICSEARCH_URL", &web),
    ];
    let silent = [&USUAL_TIMEOUTS[..], &silent].concat();
    futures::future::join_all([refusing, silent].map(async |settings| {
        let server = HttpServer::start(&settings).await;
        let begun = Instant::now();
        let metrics = reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer");
        let (metrics, took) = (metrics.text().await.expect("text"), begun.elapsed());
        assert!(took < SCRAPED_WITHIN, "{took:?}");
        for part in ["supabase", "kafka", "postgres", "elasticsearch"] {
            let line = format!("sluice_part_up{{part=\"{part}\"}} 0");
            assert!(metrics.lines().any(|written| written == line), "{line} in {metrics}");
        }
    }))
    .await;
}
