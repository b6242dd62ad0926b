//! Long calls as tasks of the protocol's extension, for clients that declare it: the call is answered at once with a
//! task, and the client looks after it. Cancelling the task cancels the call, as taking the request back does.

use std::time::Duration;

use rmcp::{
    RoleServer,
    handler::server::tool::ToolCallContext,
    model::{CallToolRequestParams, CallToolResponse, CreateTaskResult},
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskOptions},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::SluiceServer;

/// How long a task may run; it is remembered as long again once it has ended.
const LIFETIME: Duration = Duration::from_hours(1);

/// How long a call that is a task waits for its work: a little less, so that it ends with an answer.
const LONGEST_WAIT: Duration = Duration::from_mins(59);

/// How often a client should look.
const LOOK_EVERY_MS: u64 = 1000;

/// Tools that may take longer than a client waits for an answer.
const LONG: [&str; 2] = ["sync_chat_sessions_from_supabase", "sync_leads_from_supabase"];

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

/// Whether a call becomes a task: a long one, by a client that knows tasks and wants to see it done.
pub(super) fn wanted(request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> bool {
    let waits = request.arguments.as_ref().and_then(|given| given.get("wait")) != Some(&Value::Bool(false));
    waits
        && LONG.contains(&&*request.name)
        && context.client_capabilities().is_some_and(|client| client.supports_tasks())
}

impl SluiceServer {
    /// Starts a call as a task.
    pub(super) fn start_task(
        &self,
        request: CallToolRequestParams,
        mut context: RequestContext<RoleServer>,
    ) -> CreateTaskResult {
        let server = self.clone();
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let options = TaskOptions::new().with_ttl_ms(lifetime).with_poll_interval_ms(LOOK_EVERY_MS);
        let task = self.tasks.spawn(options, move |task| {
            Box::pin(async move {
                // The request is answered by now; from here on only the task can be cancelled.
                let cancel = CancellationToken::new();
                context.ct = cancel.clone();
                context.extensions.insert(AsTask(task.clone()));
                let call = server.toolbox.router.call(ToolCallContext::new(&server, request, context));
                let mut call = std::pin::pin!(call);
                let answer = tokio::select! {
                    answer = &mut call => answer,
                    () = task.cancelled() => {
                        cancel.cancel();
                        call.await
                    }
                };
                match answer {
                    _ if task.is_cancel_requested() => Err(TaskExit::Cancelled),
                    Ok(CallToolResponse::Complete(result)) => Ok(server.outgoing.result(result)),
                    Ok(_) => Err(TaskExit::Error(rmcp::ErrorData::internal_error(
                        "a task can't be answered by another task or a question",
                        None,
                    ))),
                    Err(error) => Err(TaskExit::Error(server.outgoing.error(error))),
                }
            })
        });
        CreateTaskResult::new(task)
    }
}
