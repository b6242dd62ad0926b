//! The real program over stdio, driven by a real MCP client.

use rmcp::{
    RoleClient, ServiceExt,
    model::{CallToolRequestParams, CallToolResult},
    service::RunningService,
    transport::TokioChildProcess,
};
use serde_json::Value;

use super::{Pipeline, rows::object};

pub struct Client(RunningService<RoleClient, ()>);

impl Client {
    pub async fn of(pipeline: &Pipeline) -> Self {
        Self::starting(pipeline.command(&[])).await
    }

    pub async fn starting(program: tokio::process::Command) -> Self {
        let process = TokioChildProcess::new(program).expect("the program starts");
        Self(().serve(process).await.expect("the session opens"))
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(object(arguments));
        self.0.call_tool(request).await.expect("a result")
    }

    /// The structured content of a success.
    pub async fn answer(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
        result.structured_content.expect("structured content")
    }

    /// The text of a failure.
    pub async fn refusal(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}: {result:?}");
        result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.clone()).collect()
    }

    pub async fn close(self) {
        self.0.cancel().await.expect("the session closes");
    }
}
