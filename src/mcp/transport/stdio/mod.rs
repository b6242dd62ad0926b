//! MCP over a pair of byte streams, one JSON-RPC message a line: stdin and stdout.
//!
//! Whatever a client sends, it is answered or it is a notification, and the next line is read. Input that ends, or a
//! request to stop, ends the session only once what is under way has been answered; what takes too long for that is
//! answered by an error. Answers that nobody reads stop the reading of further requests, so that neither a client that
//! only writes nor an endless line costs more memory than is set here.

mod calls;
mod fuzzing;
mod lines;
mod output;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use rmcp::{
    RoleServer, ServerHandler, ServiceExt,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    service::ServerInitializeError,
    transport::Transport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};
use tracing::{error, info, warn};

#[doc(hidden)]
pub use self::fuzzing::framing;
pub use self::lines::{Line, Lines, MAX_LINE};
use self::{
    calls::Calls,
    output::{Gone, Output},
};
use super::message::{Incoming, read, refuse_beginning};

/// How long the end of a session may take.
#[derive(Debug, Clone, Copy)]
struct Grace {
    /// For calls under way once the client has said its last. A tool waits some 20 s at most.
    eof: Duration,
    /// For calls under way once the process is asked to stop: whoever asks does not wait long before it kills.
    stop: Duration,
    /// For the last answers to be written.
    flush: Duration,
}

const GRACE: Grace =
    Grace { eof: Duration::from_secs(30), stop: Duration::from_secs(2), flush: Duration::from_secs(1) };

const ABANDONED: &str = "the server ends, and this call had not come to an end; what it began may go on or be undone: \
                         ask again once the server is back";

/// Serves one client until it is gone, or until `stop` is done.
///
/// # Errors
/// When the session can't be opened for a reason that is not the client's leaving.
pub async fn serve<H, R, W>(
    server: H,
    input: R,
    output: W,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<ServerInitializeError>>
where
    H: ServerHandler,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    serve_within(GRACE, server, input, output, stop).await
}

async fn serve_within<H, R, W>(
    grace: Grace,
    server: H,
    input: R,
    output: W,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<ServerInitializeError>>
where
    H: ServerHandler,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (output, writer) = output::open(output);
    let mut writing = tokio::spawn(writer);
    let stopping = CancellationToken::new();
    let transport = StdioTransport::new(grace, input, output, stopping.clone());
    let session = async {
        match server.serve(transport).await {
            Ok(running) => {
                info!("session opened");
                running.waiting().await.ok();
                Ok(())
            }
            // The client left, or was made to, before it opened a session.
            Err(
                ServerInitializeError::ConnectionClosed(_)
                | ServerInitializeError::TransportError { .. }
                | ServerInitializeError::Cancelled,
            ) => Ok(()),
            Err(error) => Err(Box::new(error)),
        }
    };
    let told_to_stop = async {
        stop.await;
        stopping.cancel();
        tokio::time::sleep(grace.stop + grace.flush).await;
    };
    // The writer ends with the last answer; what calls are still busy with then is of use to nobody.
    let (ended, written) = tokio::select! {
        ended = session => (ended, timeout(grace.flush, writing).await.ok()),
        written = &mut writing => (Ok(()), Some(written)),
        () = told_to_stop => (Ok(()), None),
    };
    match written {
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => warn!(%error, "the client reads no more answers, so the session ends"),
        Some(Err(error)) => error!(%error, "the answers could not be written"),
        None => warn!("the client does not read its last answers, so they are dropped"),
    }
    ended
}

struct StdioTransport<R> {
    grace: Grace,
    input: FramedRead<R, Lines>,
    output: Output,
    shared: Arc<Shared>,
    /// Messages that the server has not taken yet.
    waiting: VecDeque<ClientJsonRpcMessage>,
    stopping: CancellationToken,
    /// Until when calls may end; set once nothing more is read.
    deadline: Option<Instant>,
    /// Answers to those that did not.
    last: VecDeque<String>,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Calls>,
    /// A call has ended.
    ended: Notify,
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: AsyncRead + Send + Unpin> StdioTransport<R> {
    fn new(grace: Grace, input: R, output: Output, stopping: CancellationToken) -> Self {
        Self {
            grace,
            input: FramedRead::new(input, Lines::new(MAX_LINE)),
            output,
            shared: Arc::default(),
            waiting: VecDeque::new(),
            stopping,
            deadline: None,
            last: VecDeque::new(),
        }
    }

    /// Reads a line; `false` once there are no more to read.
    async fn read_line(&mut self) -> bool {
        let reading = async {
            // A client that does not take in what it asked for is not asked what else it wants.
            let room = self.output.room().await.ok()?;
            while self.shared.calls().is_full() {
                self.shared.ended.notified().await;
            }
            Some((room, self.input.next().await?))
        };
        let read = tokio::select! {
            biased;
            () = self.stopping.cancelled() => None,
            () = self.output.closed() => None,
            read = reading => read,
        };
        match read {
            Some((room, Ok(line))) => {
                let (messages, answer) = take(&line, &mut self.shared.calls());
                self.waiting.extend(messages);
                if let Some(answer) = answer {
                    room.write(answer);
                }
                true
            }
            Some((_, Err(error))) => {
                error!(%error, "the client's messages can't be read any more");
                false
            }
            None => false,
        }
    }

    /// Waits until what is under way is answered, as long as that may take, and has the writer end.
    async fn finish(&mut self) -> Result<(), Gone> {
        loop {
            let grace = if self.stopping.is_cancelled() { self.grace.stop } else { self.grace.eof };
            let latest = Instant::now() + grace;
            let deadline = *self.deadline.insert(self.deadline.map_or(latest, |before| before.min(latest)));
            if self.shared.calls().is_idle() {
                break;
            }
            tokio::select! {
                () = self.shared.ended.notified() => {}
                () = self.stopping.cancelled(), if !self.stopping.is_cancelled() => {}
                () = self.output.closed() => return Err(Gone),
                () = sleep_until(deadline) => break,
            }
        }
        let abandoned = self.shared.calls().abandon(ABANDONED);
        if !abandoned.is_empty() {
            warn!(calls = abandoned.len(), "the server ends before calls that were under way");
            self.last.extend(abandoned);
        }
        loop {
            let room = self.output.room().await?;
            match self.last.pop_front() {
                Some(answer) => room.write(answer),
                None => {
                    room.end();
                    return Ok(());
                }
            }
        }
    }
}

/// Takes a line in: what the server is to be handed, and what is to be written at once.
fn take(line: &Line, calls: &mut Calls) -> (Vec<ClientJsonRpcMessage>, Option<String>) {
    let (incoming, bytes) = match line {
        Line::Whole(bytes) => (read(bytes), bytes.len()),
        Line::TooLong(beginning) => {
            let problem = format!("a line has at most {MAX_LINE} bytes, and this one has more");
            (refuse_beginning(beginning, problem), MAX_LINE)
        }
    };
    let admitted = match incoming {
        Incoming::Blank => Ok(Vec::new()),
        Incoming::Message(message) => calls.admit(*message).map(|one| vec![one]),
        Incoming::Batch(items) => calls.admit_batch(items),
        Incoming::Refused(refusal) => Err(refusal),
        Incoming::Useless(problem) => {
            warn!(bytes, problem, "a line of the client's is ignored");
            Ok(Vec::new())
        }
    };
    match admitted {
        Ok(admitted) => {
            let lines: Vec<&str> = admitted.iter().filter_map(|one| one.line.as_deref()).collect();
            let answer = (!lines.is_empty()).then(|| lines.join("\n"));
            (admitted.into_iter().filter_map(|one| one.message).collect(), answer)
        }
        Err(refusal) => {
            warn!(bytes, code = refusal.code.0, problem = %refusal.problem, "a line of the client's is refused");
            (Vec::new(), Some(refusal.to_json()))
        }
    }
}

impl<R: AsyncRead + Send + Unpin> Transport<RoleServer> for StdioTransport<R> {
    type Error = Gone;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (output, shared) = (self.output.clone(), self.shared.clone());
        async move {
            let room = output.room().await?;
            {
                // Under one lock: whoever finds nothing under way must find the last answer on its way.
                let mut calls = shared.calls();
                if let Some(line) = calls.dispatch(&message) {
                    room.write(line);
                }
            }
            shared.ended.notify_one();
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if self.deadline.is_some() || !self.read_line().await {
                // Where the client has gone there is nobody to wait for.
                self.finish().await.ok();
                return None;
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
