//! A pooler in transaction mode, as PgBouncer is: every client is given the same session of the server, for one
//! transaction at a time.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

pub struct Pooler {
    pub port: u16,
    task: JoinHandle<()>,
}

/// The one session, and what the server said when it began.
struct Session {
    greeting: Vec<u8>,
    from: mpsc::Receiver<Vec<u8>>,
    to: OwnedWriteHalf,
}

impl Pooler {
    /// In front of `target`, a host and a port.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (target, session) = (target.to_owned(), Arc::new(Mutex::new(None)));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), session.clone()));
            }
        });
        Self { port, task }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `None` once the client is gone.
async fn serve(mut client: TcpStream, target: String, session: Arc<Mutex<Option<Session>>>) -> Option<()> {
    const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
    let startup = loop {
        let message = body(&mut client, Vec::new()).await?;
        let code = u32::from_be_bytes(message[4..8].try_into().expect("four bytes"));
        if !ENCRYPTION.contains(&code) {
            break message;
        }
        client.write_all(b"N").await.ok()?;
    };
    let (from, mut to) = client.into_split();
    let mut from = messages(from);
    {
        let mut held = session.lock().await;
        match &*held {
            Some(session) => to.write_all(&session.greeting).await.ok()?,
            None => *held = Some(begin(&target, &startup, &mut from, &mut to).await?),
        }
    }
    loop {
        let first = from.recv().await.filter(|message| message[0] != b'X')?;
        let mut held = session.lock().await;
        let session = held.as_mut().expect("a session");
        session.to.write_all(&first).await.ok()?;
        let mut unanswered = u32::from(is_answered(&first));
        loop {
            tokio::select! {
                message = from.recv() => {
                    let message = message?;
                    unanswered += u32::from(is_answered(&message));
                    session.to.write_all(&message).await.ok()?;
                }
                message = session.from.recv() => {
                    let message = message?;
                    to.write_all(&message).await.ok()?;
                    if message[0] == b'Z' {
                        unanswered -= 1;
                        if unanswered == 0 && message[5] == b'I' {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// Lets the first client log in, and keeps what the server says of it.
async fn begin(
    target: &str,
    startup: &[u8],
    from_client: &mut mpsc::Receiver<Vec<u8>>,
    to_client: &mut OwnedWriteHalf,
) -> Option<Session> {
    let (from, mut to) = TcpStream::connect(target).await.ok()?.into_split();
    let mut from = messages(from);
    to.write_all(startup).await.ok()?;
    let mut greeting = Vec::new();
    loop {
        let message = from.recv().await?;
        to_client.write_all(&message).await.ok()?;
        let asks = message[0] == b'R' && !matches!(message[8], 0 | 12);
        if asks {
            to.write_all(&from_client.recv().await?).await.ok()?;
        } else if message[0] != b'R' || message[8] == 0 {
            greeting.extend(&message);
        }
        if message[0] == b'Z' {
            return Some(Session { greeting, from, to });
        }
    }
}

/// Whether the server ends its answer to it by saying that it is ready.
fn is_answered(message: &[u8]) -> bool {
    matches!(message[0], b'Q' | b'S')
}

fn messages(mut from: OwnedReadHalf) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(kind) = from.read_u8().await {
            let Some(message) = body(&mut from, vec![kind]).await else { return };
            if send.send(message).await.is_err() {
                return;
            }
        }
    });
    receive
}

/// The rest of a message: its length, which counts itself, and what it says.
async fn body(from: &mut (impl AsyncRead + Unpin), mut message: Vec<u8>) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    message.extend(length.to_be_bytes());
    let begin = message.len();
    message.resize(begin + usize::try_from(length).ok()?.checked_sub(4)?, 0);
    from.read_exact(&mut message[begin..]).await.ok()?;
    Some(message)
}
