//! Sessions of the revisions that have them: so many at once for all clients and for each, and each its opener's alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::Stream;
use rmcp::{
    model::{ClientJsonRpcMessage, JsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage, ServerResult},
    transport::streamable_http_server::session::{
        ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError},
    },
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::in_flight::Tracked;
use crate::{
    config::{HttpLimits, HttpSettings},
    mcp::{
        principal::Principal,
        quota::{Quota, Share},
    },
};

/// How many sessions of one transport there may be.
pub(super) struct Room {
    most: usize,
    quota: Arc<Quota>,
}

impl Room {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self { most: limits.sessions, quota: Quota::new(limits.sessions_per_client) }
    }

    /// The place of one more session of a client, where so many are open in all.
    pub(super) fn take(&self, principal: &Principal, open: usize) -> Result<Share, NoRoom> {
        if open >= self.most {
            return Err(NoRoom::ForAnybody(self.most));
        }
        self.quota.take(principal).ok_or(NoRoom::ForThisClient(self.quota.most()))
    }
}

/// rmcp's sessions, bounded and owned.
pub(super) struct Sessions {
    local: LocalSessionManager,
    room: Room,
    owners: Mutex<HashMap<SessionId, Owned>>,
    /// The server ends.
    asked: CancellationToken,
}

struct Owned {
    share: Share,
    /// What the session speaks, once that is agreed.
    version: Option<ProtocolVersion>,
}

/// Why no session opens.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum NoRoom {
    #[error("{0} sessions are open already, see SLUICE_HTTP_MAX_SESSIONS; close one, or try again later")]
    ForAnybody(usize),
    #[error(
        "this client has {0} sessions open already, see SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT; close one (by DELETE, \
         or by leaving its stream at /sse), or try again later"
    )]
    ForThisClient(usize),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionsError {
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

tokio::task_local! {
    /// Whose request is being answered: rmcp opens a session without saying for whom.
    static OPENER: Opener;
    /// Set where the stream that is to be resumed is not known any more: rmcp answers with one that ends at once, which
    /// a client takes for a connection that broke, and resumes again.
    static LOST: Arc<AtomicBool>;
}

struct Opener {
    principal: Principal,
    refused: Arc<std::sync::Mutex<Option<NoRoom>>>,
}

impl Sessions {
    /// Sessions whose users are asked nothing any more once `asked` is cancelled.
    pub(super) fn new(settings: &HttpSettings, asked: CancellationToken) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(settings.session_idle);
        Self { local, room: Room::new(&settings.limits), owners: Mutex::default(), asked }
    }

    pub(super) async fn open(&self) -> usize {
        self.owners.lock().await.len()
    }

    /// Whose a session is; `None` when there is none of this id.
    pub(super) async fn owner(&self, session: &str) -> Option<Principal> {
        self.owners.lock().await.get(session).map(|owned| owned.share.principal().clone())
    }

    /// What a session speaks.
    pub(super) async fn version(&self, session: &str) -> Option<ProtocolVersion> {
        self.owners.lock().await.get(session)?.version.clone()
    }

    /// Answers a client's request by `answering`: a session that this opens is the client's. The error is why none
    /// could be opened.
    pub(super) async fn opened_by<T>(
        principal: &Principal,
        answering: impl Future<Output = T>,
    ) -> (T, Option<NoRoom>) {
        let refused = Arc::default();
        let opener = Opener { principal: principal.clone(), refused: Arc::clone(&refused) };
        let answer = OPENER.scope(opener, answering).await;
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        (answer, refused)
    }
}

impl Sessions {
    /// Answers a request by `answering`, which may resume a stream; and whether there was none to resume.
    pub(super) async fn resumed_by<T>(answering: impl Future<Output = T>) -> (T, bool) {
        let lost = Arc::<AtomicBool>::default();
        let answer = LOST.scope(lost.clone(), answering).await;
        (answer, lost.load(Ordering::Relaxed))
    }
}

impl SessionManager for Sessions {
    type Error = SessionsError;
    type Transport = Tracked<<LocalSessionManager as SessionManager>::Transport>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let opener = OPENER.try_with(|opener| (opener.principal.clone(), opener.refused.clone()));
        let (principal, refused) =
            opener.unwrap_or_else(|_| (Principal::of(&rmcp::model::Extensions::new()), Arc::default()));
        // Held until the session is counted: two that open at once must not both take the last place.
        let mut owners = self.owners.lock().await;
        let share = self.room.take(&principal, owners.len()).inspect_err(|error| {
            *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(*error);
        })?;
        let (id, transport) = self.local.create_session().await?;
        owners.insert(id.clone(), Owned { share, version: None });
        Ok((id, Tracked::new(transport, self.asked.child_token())))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let answer = self.local.initialize_session(id, message).await?;
        if let JsonRpcMessage::Response(response) = &answer
            && let ServerResult::InitializeResult(agreed) = &response.result
            && let Some(owned) = self.owners.lock().await.get_mut(id)
        {
            owned.version = Some(agreed.protocol_version.clone());
        }
        Ok(answer)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.local.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.owners.lock().await.remove(id);
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
        let resumed = self.local.resume(id, last_event_id).await;
        if resumed.is_err() {
            LOST.try_with(|lost| lost.store(true, Ordering::Relaxed)).ok();
        }
        Ok(resumed?)
    }
}
