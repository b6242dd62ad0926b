//! The lines that go out, in a queue with an end: whoever has something to say waits for room in it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc::{self, Permit},
    time::timeout,
};
use tracing::warn;

/// Lines that may wait to be written.
const QUEUE: usize = 64;

/// How long a client may not read before the log says so.
const STALLED: Duration = Duration::from_secs(30);

/// Nobody reads what would be sent.
#[derive(Debug, thiserror::Error)]
#[error("the client reads no more")]
pub(super) struct Gone;

enum Out {
    Line(String),
    End,
}

/// Where lines go in.
#[derive(Clone)]
pub(super) struct Output(mpsc::Sender<Out>);

/// Room for one thing.
pub(super) struct Room<'a>(Permit<'a, Out>);

/// A queue, and what writes what is put into it until it is told to end, nobody can put in more, or nobody reads.
pub(super) fn open<W: AsyncWrite + Unpin>(writer: W) -> (Output, impl Future<Output = io::Result<()>>) {
    let (output, lines) = mpsc::channel(QUEUE);
    (Output(output), write(writer, lines))
}

impl Output {
    pub(super) async fn room(&self) -> Result<Room<'_>, Gone> {
        self.0.reserve().await.map(Room).map_err(|_| Gone)
    }

    /// Returns when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Room<'_> {
    /// One line, or several with line feeds between them.
    pub(super) fn write(self, line: String) {
        self.0.send(Out::Line(line));
    }

    /// Nothing that is put in after this is written.
    pub(super) fn end(self) {
        self.0.send(Out::End);
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut lines: mpsc::Receiver<Out>) -> io::Result<()> {
    while let Some(Out::Line(mut line)) = lines.recv().await {
        line.push('\n');
        let mut writing = std::pin::pin!(async {
            writer.write_all(line.as_bytes()).await?;
            // The next line, if it is there, is on its way at once.
            if lines.is_empty() { writer.flush().await } else { Ok(()) }
        });
        match timeout(STALLED, &mut writing).await {
            Ok(written) => written?,
            Err(_) => {
                warn!(
                    seconds = STALLED.as_secs(),
                    "the client does not read its answers; no more requests are read"
                );
                writing.await?;
            }
        }
    }
    writer.flush().await
}
