//! An HTTP server that answers what a test tells it to, or doesn't.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// The request line and the headers, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The lines of the body.
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.body).lines().map(str::to_owned).collect()
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    Answer(u16, &'static str),
    /// With one header line.
    AnswerWith(u16, &'static str, &'static str),
    /// Take the request and never answer.
    Hang,
    /// Let the real server answer.
    Forward(Url),
    /// Let the real server do it, and lose its answer.
    ForwardAndLose(Url),
}

/// The server; it ends with the test.
pub struct FakeHttp {
    pub url: Url,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl FakeHttp {
    /// Asks `script` about every request; the first is number 0.
    pub async fn start(script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, &*script, &seen).await });
            }
        });
        Self { url: Url::parse(&format!("http://{address}")).expect("a URL"), requests, task }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic in the server").clone()
    }
}

impl Drop for FakeHttp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request a connection.
async fn serve(
    mut stream: TcpStream,
    script: &(dyn Fn(usize, &Request) -> Reply + Send + Sync),
    seen: &Mutex<Vec<Request>>,
) {
    let Some(request) = read(&mut stream).await else { return };
    let number = {
        let mut seen = seen.lock().expect("no panic in the server");
        seen.push(request.clone());
        seen.len() - 1
    };
    let (status, header, body) = match script(number, &request) {
        Reply::Answer(status, body) => (status, "", body.to_owned()),
        Reply::AnswerWith(status, header, body) => (status, header, body.to_owned()),
        Reply::Forward(server) => {
            let (status, body) = forward(&server, &request).await;
            (status, "", body)
        }
        Reply::ForwardAndLose(server) => {
            forward(&server, &request).await;
            return;
        }
        Reply::Hang => {
            std::future::pending::<()>().await;
            return;
        }
    };
    let separator = if header.is_empty() { "" } else { "\r\n" };
    let answer = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}{separator}{header}\r\n\r\n{body}",
        body.len()
    );
    // A client that has gone away is the test's own doing.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut wanted: Option<(usize, usize)> = None;
    loop {
        if let Some((head, length)) = wanted
            && received.len() >= head + length
        {
            let text = String::from_utf8_lossy(&received[..head]).into_owned();
            let mut words = text.split_whitespace();
            return Some(Request {
                method: words.next()?.to_owned(),
                path: words.next()?.to_owned(),
                head: text.to_lowercase(),
                body: received[head..head + length].to_vec(),
            });
        }
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        received.extend_from_slice(&chunk[..read]);
        if wanted.is_none()
            && let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            wanted = Some((end + 4, length.unwrap_or(0)));
        }
    }
}

async fn forward(server: &Url, request: &Request) -> (u16, String) {
    let url = server.join(&request.path).expect("a URL");
    let method = request.method.parse().expect("a method");
    let content_type =
        if request.path.starts_with("/_bulk") { "application/x-ndjson" } else { "application/json" };
    let answer = reqwest::Client::new()
        .request(method, url)
        .header("content-type", content_type)
        .body(request.body.clone())
        .send()
        .await
        .expect("the real server answers");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}
