//! A small proxy in front of the real search server, which lets through as much as it is told.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Response, StatusCode},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

/// What the proxy does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Through,
    /// Two of three bulks are refused with 429.
    Storm,
    /// Of each bulk every other item is refused with 429, the rest goes through.
    Partial,
    /// Bulks go through, and their answers are lost.
    Lost,
    /// 503 to everything.
    Down,
}

struct Way {
    server: String,
    mood: watch::Receiver<Mood>,
    bulks: AtomicU32,
    http: reqwest::Client,
}

pub struct Proxy {
    pub url: String,
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(server: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (mood, watched) = watch::channel(Mood::Through);
        let way = Way {
            server: server.trim_end_matches('/').to_owned(),
            mood: watched,
            bulks: AtomicU32::new(0),
            http: reqwest::Client::new(),
        };
        let router = Router::new().fallback(pass).with_state(Arc::new(way));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, mood, task }
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(way): State<Arc<Way>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mood = *way.mood.borrow();
    let is_bulk = head.uri.path().ends_with("/_bulk");
    let nth = if is_bulk { way.bulks.fetch_add(1, Ordering::Relaxed) } else { 0 };
    match mood {
        Mood::Down => {
            return answer(
                503,
                r#"{"error": {"type": "unavailable", "reason": "down"}, "status": 503}"#.into(),
            );
        }
        Mood::Storm if is_bulk && nth % 3 != 0 => {
            let refusal =
                r#"{"error": {"type": "es_rejected_execution_exception", "reason": "full"}, "status": 429}"#;
            return answer(429, refusal.into());
        }
        _ => {}
    }
    let (sent, refused) =
        if is_bulk && mood == Mood::Partial { every_other(&body, nth as usize) } else { (body, Vec::new()) };
    let mut asked = way.http.request(head.method, format!("{}{}", way.server, head.uri)).body(sent.clone());
    for name in ["content-type", "accept"] {
        if let Some(value) = head.headers.get(name) {
            asked = asked.header(name, value);
        }
    }
    let (status, text) = if sent.is_empty() && !refused.is_empty() {
        (200, Bytes::from(r#"{"took": 0, "errors": false, "items": []}"#))
    } else {
        let Ok(answered) = asked.send().await else { return answer(502, Bytes::new()) };
        (answered.status().as_u16(), answered.bytes().await.unwrap_or_default())
    };
    if is_bulk && mood == Mood::Lost {
        return answer(502, Bytes::new());
    }
    answer(status, if refused.is_empty() { text } else { with_refusals(&text, refused) })
}

fn answer(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    let json = "application/json".parse().expect("a header");
    response.headers_mut().insert("content-type", json);
    response.headers_mut().insert("x-elastic-product", "Elasticsearch".parse().expect("a header"));
    response
}

/// A bulk without every other of its items, and those with their places.
fn every_other(body: &[u8], from: usize) -> (Bytes, Vec<(usize, Value)>) {
    let text = String::from_utf8_lossy(body);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let (mut sent, mut refused, mut at, mut place) = (String::new(), Vec::new(), 0, 0);
    while at < lines.len() {
        let action: Value = serde_json::from_str(lines[at]).expect("an action");
        // A deletion has no second line.
        let length = if action.get("delete").is_some() { 1 } else { 2 };
        if (place + from).is_multiple_of(2) {
            for line in &lines[at..at + length] {
                sent.push_str(line);
                sent.push('\n');
            }
        } else {
            refused.push((place, action));
        }
        at += length;
        place += 1;
    }
    (Bytes::from(sent), refused)
}

/// The server's answer with the refused items in their places.
fn with_refusals(answered: &[u8], refused: Vec<(usize, Value)>) -> Bytes {
    let mut answered: Value = serde_json::from_slice(answered).expect("JSON");
    let Some(items) = answered["items"].as_array_mut() else { return Bytes::from(answered.to_string()) };
    for (place, action) in refused {
        let (verb, about) = action.as_object().and_then(|action| action.iter().next()).expect("an action");
        let error = json!({"type": "es_rejected_execution_exception", "reason": "queue is full"});
        let item =
            json!({verb: {"_index": about["_index"], "_id": about["_id"], "status": 429, "error": error}});
        items.insert(place.min(items.len()), item);
    }
    answered["errors"] = json!(true);
    Bytes::from(answered.to_string())
}
