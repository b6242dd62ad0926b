//! Parts that hang or refuse, with the timeouts that are set unless somebody changes them.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::support::{
    cli::{run, sluice},
    fake_http::{FakeHttp, Reply},
    folder::TestFolder,
    http::{HttpServer, command},
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

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_wrong_with_an_address_and_not_only_that_no_answer_came() {
    let answering = async |status, body| FakeHttp::start(move |_, _| Reply::Answer(status, body)).await;
    let servers = [
        (answering(429, "{}").await, "429"),
        (answering(500, "{}").await, "500"),
        (answering(502, "").await, "502"),
        (answering(503, "{}").await, "503"),
        (answering(200, "<html>hello</html>").await, "a web page where data should be"),
    ];
    let mut sources: Vec<(String, &str)> =
        servers.iter().map(|(server, cause)| (server.url.to_string(), *cause)).collect();
    sources.push(("http://127.0.0.1:1".to_owned(), "no connection"));
    sources.push((servers[0].0.url.as_str().replace("http:", "https:"), "no connection"));
    let of_sources = sources.iter().map(async |(url, cause)| {
        let folder = TestFolder::new();
        let mut doctor = sluice(folder.path(), &["doctor"]);
        doctor.env("SUPABASE_URL", url).env("SUPABASE_KEY", "sb_secret_abcdefghijklmnopqrstuv");
        let told = run(doctor).await.stdout;
        assert!(told.contains(cause) && !told.contains("no answer within"), "{url}, {cause}: {told}");
    });
    let of_closed_ports = async {
        let source = sluice::source::sample::SampleServer::start(0).await.expect("a free port");
        let told = run(command(&source, &["doctor"], &USUAL_TIMEOUTS)).await.stdout;
        assert!(!told.contains("no answer within"), "{told}");
        assert!(told.contains("ask for health on 127.0.0.1:1: Connection refused"), "{told}");
        assert!(told.contains("KAFKA_BOOTSTRAP_SERVERS") && told.contains("ELASTICSEARCH_URL"), "{told}");
    };
    tokio::join!(futures::future::join_all(of_sources), of_closed_ports);
}
