//! Sessions of the revisions that have them: so many at once, and each its opener's alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::RETRY_AFTER},
    middleware::Next,
    response::Response,
};
use futures::Stream;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{
        ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError},
    },
};

use super::{client::Client, guard::refusal};
use crate::config::HttpSettings;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// How long a client should wait for another's session to end, in seconds.
const FULL_FOR_SECONDS: u16 = 10;

/// rmcp's sessions, bounded and owned.
pub(super) struct Sessions {
    local: LocalSessionManager,
    most: usize,
    owners: Mutex<HashMap<SessionId, Client>>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionsError {
    #[error("{0} sessions are open already, see SLUICE_HTTP_MAX_SESSIONS; close one, or try again later")]
    Full(usize),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl Sessions {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(settings.session_idle);
        Self { local, most: settings.max_sessions, owners: Mutex::default() }
    }

    pub(super) async fn open(&self) -> usize {
        self.local.sessions.read().await.len()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<SessionId, Client>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token's session is no other token's; where nobody needs a token, knowing the id must do.
    fn may_use(&self, session: &str, client: &Client) -> bool {
        let owners = self.owners();
        match (owners.get(session), client) {
            (Some(Client::Token(owner)), Client::Token(name)) => owner == name,
            _ => true,
        }
    }
}

impl SessionManager for Sessions {
    type Error = SessionsError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        if self.open().await >= self.most {
            return Err(SessionsError::Full(self.most));
        }
        Ok(self.local.create_session().await?)
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        Ok(self.local.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.local.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.owners().remove(id);
        Ok(self.local.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.local.create_stream(id, message).await?)
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        Ok(self.local.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.local.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.local.resume(id, last_event_id).await?)
    }
}

/// Keeps clients out of each other's sessions, and says so when one is closed.
pub(super) async fn keep_apart(
    State(sessions): State<Arc<Sessions>>,
    request: Request,
    next: Next,
) -> Response {
    let client = request.extensions().get::<Client>().cloned();
    if let (Some(session), Some(client)) = (session_of(request.headers()), &client)
        && !sessions.may_use(session, client)
    {
        // As if it did not exist.
        return refusal(StatusCode::NOT_FOUND, "the session is unknown; initialize a new one");
    }
    let closes = request.method() == Method::DELETE;
    let mut response = next.run(request).await;
    // rmcp says that it will close the session; it has, and clients complain of anything but a success.
    if closes && response.status() == StatusCode::ACCEPTED {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    // It takes every reason to open no session for a fault of the server's; being full is none.
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR && sessions.open().await >= sessions.most {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(FULL_FOR_SECONDS));
    }
    if let (Some(session), Some(client)) = (session_of(response.headers()), client) {
        // One that ended at once must not be remembered for ever.
        if sessions.local.sessions.read().await.contains_key(session) {
            sessions.owners().insert(session.into(), client);
        }
    }
    response
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}
