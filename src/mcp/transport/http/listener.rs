//! Takes connections in and drives each: HTTP/1 and nothing else, so that what a proxy in front believes to be one
//! request is one here. A client that sends or reads too slowly loses its connection, and one that only holds it gives
//! way to others.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;
use tracing::{debug, warn};

use super::connections::{Connection, Connections};

/// Bytes a request's head may have.
const MAX_HEAD_BYTES: usize = 32 * 1024;

const MAX_HEADERS: usize = 100;

/// How long to wait when the system has no more connections to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// Somebody who connects too often fills no log.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Takes connections in and answers what comes over them by `app`.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) connections: Arc<Connections>,
    pub(super) app: Router,
    pub(super) io_timeout: Duration,
    /// Once done, nothing new is taken in, and connections close when what is under way on them is answered.
    pub(super) asked: CancellationToken,
}

impl Listener {
    /// Runs until it is asked to end, and every connection has closed or is cut after `farewell` from when `closing` is
    /// done.
    pub(super) async fn run(self, closing: CancellationToken, farewell: Duration) {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let (mut crowded, mut exhausted) = (None, None::<Instant>);
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.asked.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match self.connections.open(peer.ip()) {
                    Ok(connection) => {
                        tasks.spawn(self.drive(stream, peer, connection, cut.clone()));
                    }
                    Err(full) => turn_away(&stream, &full.to_string()),
                },
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    if exhausted.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                        warn!(%error, "connections can't be taken in; see SLUICE_HTTP_MAX_CONNECTIONS and `ulimit -n`");
                        exhausted = Some(Instant::now());
                    }
                    self.connections.make_room();
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
            self.warn_of_crowding(&mut crowded);
        }
        // Nobody can connect any more.
        drop(self.socket);
        self.connections.cut_unknown();
        tasks.close();
        closing.cancelled().await;
        if timeout(farewell, tasks.wait()).await.is_err() {
            cut.cancel();
            tasks.wait().await;
        }
    }

    fn drive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        connection: Connection,
        cut: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Answers are small and awaited.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection will be slower than it could be");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.io_timeout));
        let (app, link) = (self.app.clone(), connection.link());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(link.clone());
            app.clone().call(request)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.io_timeout)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES);
        let serving = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let asked = self.asked.clone();
        async move {
            let mut serving = std::pin::pin!(serving);
            let served = tokio::select! {
                biased;
                () = connection.cut().cancelled() => return,
                served = &mut serving => served,
                () = asked.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    tokio::select! {
                        biased;
                        () = connection.cut().cancelled() => return,
                        () = cut.cancelled() => return,
                        served = &mut serving => served,
                    }
                }
            };
            if let Err(error) = served {
                debug!(%error, peer = %peer.ip(), "a connection ended");
            }
        }
    }

    fn warn_of_crowding(&self, warned: &mut Option<(Instant, (u64, u64))>) {
        let (cut, refused) = self.connections.crowded_out();
        let (at, (before_cut, before_refused)) =
            warned.map_or((None, (0, 0)), |(at, before)| (Some(at), before));
        let is_new = (cut, refused) != (before_cut, before_refused);
        if is_new && at.is_none_or(|at: Instant| at.elapsed() >= WARNING_INTERVAL) {
            warn!(
                cut = cut - before_cut,
                refused = refused - before_refused,
                "more connections than may be: idle ones were cut, or new ones refused; see SLUICE_HTTP_MAX_CONNECTIONS"
            );
            *warned = Some((Instant::now(), (cut, refused)));
        }
    }
}

/// Says no as far as it can be said without waiting for anybody.
fn turn_away(stream: &TcpStream, reason: &str) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    stream.try_write(answer.as_bytes()).ok();
}

/// Whether an error is about the connection that was to be taken in, and says nothing of the next.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Lets the process open as many files as its connections and its own files need, as far as the system does. Returns
/// how many connections there can be.
pub(super) fn allow_files(connections: usize) -> usize {
    /// What everything but connections needs.
    const OTHERS: u64 = 256;
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed >= needed => connections,
        Ok(allowed) => {
            let left = allowed.saturating_sub(OTHERS).max(allowed / 4).max(1);
            let left = usize::try_from(left).unwrap_or(usize::MAX).min(connections);
            warn!(
                allowed,
                connections = left,
                "the system lets this process open fewer files than SLUICE_HTTP_MAX_CONNECTIONS needs; raise `ulimit -n`"
            );
            left
        }
        Err(error) => {
            warn!(%error, "how many files this process may open is unknown; see `ulimit -n`");
            connections
        }
    }
}
