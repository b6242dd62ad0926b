//! HTTP as no client would speak it: bytes on a socket.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::http::HttpServer;

/// Longest wait for anything; reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub async fn connect(server: &HttpServer) -> Self {
        let address = server.url.trim_start_matches("http://");
        Self { stream: TcpStream::connect(address).await.expect("a connection") }
    }

    /// A connection on which this was sent.
    pub async fn sent(server: &HttpServer, bytes: impl AsRef<[u8]>) -> Self {
        let mut raw = Self::connect(server).await;
        raw.send(bytes).await.expect("written");
        raw
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Everything until the server closes the connection.
    pub async fn until_closed(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset ends the connection as well as a farewell does.
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await;
        read.expect("the server closes the connection").ok();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One answer whose body has a length, and leaves what follows.
    pub async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while !bytes.ends_with(b"\r\n\r\n") {
                match self.stream.read_u8().await {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if self.stream.read_exact(&mut body).await.is_ok() {
                bytes.extend_from_slice(&body);
            }
        };
        timeout(PATIENCE, reading).await.expect("an answer");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}
