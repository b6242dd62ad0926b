//! The tools that run as tasks where the client knows tasks, and at once where it does not.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult,
        InputRequest,
    },
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    fixtures::{complete, result},
    input::question,
};

pub const TOOLS: &[&str] = &[
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];

/// How long the job takes that fails.
const FAILS_AFTER: Duration = Duration::from_secs(1);

/// Answers a tool: with a task, where the client knows tasks.
pub async fn call(
    tasks: &TaskManager,
    name: &str,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let has_tasks = context.client_capabilities().is_some_and(|client| client.supports_tasks());
    let job = match name {
        "failing_job" | "test_tool_with_task" if !has_tasks => {
            let needed: ClientCapabilities =
                result(json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}))?;
            return Err(ErrorData::missing_required_client_capability(needed));
        }
        "slow_compute" => Job::Slow(seconds(&request)),
        "failing_job" => Job::Failing,
        "protocol_error_job" => Job::Broken,
        "confirm_delete" => Job::Asking(&["confirm"]),
        "multi_input" => Job::Asking(&["first", "second"]),
        _ => {
            let given = request.input_responses.unwrap_or_default();
            match given.get("user_name").and_then(|answer| answer["content"]["name"].as_str()) {
                Some(name) => Job::Greeting(name.to_owned()),
                None => {
                    let asked = json!({"user_name": question("What is your name?", "name", "string")});
                    let asking: rmcp::model::InputRequiredResult =
                        result(json!({"resultType": "input_required", "inputRequests": asked}))?;
                    return Ok(asking.into());
                }
            }
        }
    };
    if !has_tasks {
        return match job {
            Job::Slow(time) => {
                sleep(time).await;
                Ok(CallToolResponse::Complete(computed()?))
            }
            _ => Ok(CallToolResponse::Complete(said("this needs a task", true)?)),
        };
    }
    let options = TaskOptions::new().with_ttl_ms(60_000).with_poll_interval_ms(100);
    let task = tasks.spawn(options, move |task| Box::pin(async move { job.run(&task).await }));
    Ok(CreateTaskResult::new(task).into())
}

enum Job {
    Slow(Duration),
    Failing,
    Broken,
    /// Asks all of these at once.
    Asking(&'static [&'static str]),
    Greeting(String),
}

impl Job {
    async fn run(self, task: &TaskContext) -> Result<CallToolResult, TaskExit> {
        match self {
            Self::Slow(time) => tokio::select! {
                () = sleep(time) => Ok(computed()?),
                () = task.cancelled() => Err(TaskExit::Cancelled),
            },
            Self::Failing => {
                sleep(FAILS_AFTER).await;
                Ok(said("the job failed", true)?)
            }
            Self::Broken => Err(TaskExit::Error(ErrorData::internal_error("the job broke", None))),
            Self::Asking(questions) => {
                let asked = questions.iter().map(|key| async move {
                    let question: InputRequest = result(question("Go on?", "confirm", "boolean"))?;
                    task.request_input(*key, question).await
                });
                let answers: Result<Vec<Value>, TaskExit> =
                    futures::future::join_all(asked).await.into_iter().collect();
                Ok(said(&format!("{} answers", answers?.len()), false)?)
            }
            Self::Greeting(name) => Ok(said(&format!("Hello, {name}!"), false)?),
        }
    }
}

fn seconds(request: &CallToolRequestParams) -> Duration {
    let seconds = request.arguments.as_ref().and_then(|given| given.get("seconds")).and_then(Value::as_f64);
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

fn computed() -> Result<CallToolResult, ErrorData> {
    said("computed", false)
}

fn said(text: &str, is_error: bool) -> Result<CallToolResult, ErrorData> {
    complete(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}
