//! Long calls as tasks of the protocol's extension, for clients that declare it: the call is answered at once with a
//! task, and the client looks after it. Cancelling the task cancels the call, as taking the request back does.
//!
//! A task is its client's: another's knows nothing of it, whatever id it names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    RoleServer,
    handler::server::tool::ToolCallContext,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, Task},
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskFuture, TaskManager, TaskOptions},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{SluiceServer, principal::Principal, quota::Share, server::traced};

/// How long a task may run; it is remembered as long again once it has ended.
const LIFETIME: Duration = Duration::from_hours(1);

/// How long a call that is a task waits for its work: a little less, so that it ends with an answer.
const LONGEST_WAIT: Duration = Duration::from_mins(59);

/// Tasks one client may have, those included that have ended and are remembered. Calls beyond them are answered the
/// ordinary way.
const MAX_TASKS_PER_CLIENT: usize = if cfg!(test) { 2 } else { 50 };

/// How often a client should look.
const LOOK_EVERY_MS: u64 = 1000;

/// What a call answers whose request was taken back, where there is nothing else to answer.
pub(super) const TAKEN_BACK: &str = "the request was taken back";

/// Tools that may take longer than a client waits for an answer.
const LONG: [&str; 4] =
    ["export", "sync_chat_sessions_from_supabase", "sync_leads_from_supabase", "sync_table"];

/// Every client's tasks.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    clients: Arc<Mutex<HashMap<Principal, ClientTasks>>>,
}

#[derive(Default)]
struct ClientTasks {
    manager: TaskManager,
    ids: Vec<String>,
}

impl Tasks {
    /// The tasks of one client.
    pub(super) fn of(&self, principal: &Principal) -> TaskManager {
        self.with(principal, |tasks| tasks.manager.clone())
    }

    fn has_room(&self, principal: &Principal) -> bool {
        self.with(principal, |tasks| {
            tasks.ids.retain(|id| tasks.manager.get_task(id).is_ok());
            tasks.ids.len() < MAX_TASKS_PER_CLIENT
        })
    }

    fn start(
        &self,
        principal: &Principal,
        options: TaskOptions,
        work: impl FnOnce(TaskContext) -> TaskFuture,
    ) -> Task {
        self.with(principal, |tasks| {
            let task = tasks.manager.spawn(options, work);
            tasks.ids.push(task.task_id.clone());
            task
        })
    }

    fn with<T>(&self, principal: &Principal, then: impl FnOnce(&mut ClientTasks) -> T) -> T {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        then(clients.entry(principal.clone()).or_default())
    }
}

/// The task a call runs as; among the extensions of the call's context.
#[derive(Clone)]
struct AsTask(TaskContext);

/// How long a call may wait: `otherwise`, unless it is a task.
pub(super) fn patience(context: &RequestContext<RoleServer>, otherwise: Duration) -> Duration {
    if context.extensions.get::<AsTask>().is_some() { LONGEST_WAIT } else { otherwise }
}

/// Tells whoever looks after the task how far it is.
pub(super) fn tell(context: &RequestContext<RoleServer>, message: &str) {
    if let Some(AsTask(task)) = context.extensions.get::<AsTask>() {
        task.set_status_message(message);
    }
}

impl SluiceServer {
    /// Whether a call becomes a task: a long one, by a client that knows tasks, wants to see it done, and has room.
    pub(super) fn becomes_task(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> bool {
        let waits =
            request.arguments.as_ref().and_then(|given| given.get("wait")) != Some(&Value::Bool(false));
        waits
            && LONG.contains(&&*request.name)
            && context.client_capabilities().is_some_and(|client| client.supports_tasks())
            && self.tasks.has_room(&Principal::of(&context.extensions))
    }

    /// Starts a call as a task of its client's.
    pub(super) fn start_task(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> CreateTaskResult {
        let principal = Principal::of(&context.extensions);
        let server = self.clone();
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let options = TaskOptions::new().with_ttl_ms(lifetime).with_poll_interval_ms(LOOK_EVERY_MS);
        let task = self.tasks.start(&principal, options, move |task| {
            Box::pin(async move { server.run_task(request, context, task).await }.in_current_span())
        });
        CreateTaskResult::new(task)
    }

    async fn run_task(
        self,
        request: CallToolRequestParams,
        mut context: RequestContext<RoleServer>,
        task: TaskContext,
    ) -> Result<CallToolResult, TaskExit> {
        let _counted = Share::of(&context.extensions);
        // The request is answered by now; from here on only the task can be cancelled.
        let cancel = CancellationToken::new();
        context.ct = cancel.clone();
        context.extensions.insert(AsTask(task.clone()));
        let traced = traced(&request, &context);
        let call = self.toolbox.router.call(ToolCallContext::new(&self, request, context));
        let mut call = std::pin::pin!(self.answer_of(&traced, call));
        let answer = tokio::select! {
            answer = &mut call => answer,
            () = task.cancelled() => {
                cancel.cancel();
                call.await
            }
        };
        match answer {
            // An error says that the work may go on.
            Ok(CallToolResponse::Complete(result)) if task.is_cancel_requested() && !has_failed(&result) => {
                Err(TaskExit::Cancelled)
            }
            Ok(CallToolResponse::Complete(result)) => Ok(result),
            Ok(_) => Err(TaskExit::Error(rmcp::ErrorData::internal_error(
                "a task can't be answered by another task or a question",
                None,
            ))),
            Err(error) => Err(TaskExit::Error(error)),
        }
    }
}

/// Whether a call that was cancelled answered an error, other than that it was cancelled.
fn has_failed(result: &CallToolResult) -> bool {
    let is_taken_back =
        |block: &ContentBlock| block.as_text().is_some_and(|text| text.text.ends_with(TAKEN_BACK));
    result.is_error == Some(true) && !result.content.iter().any(is_taken_back)
}
