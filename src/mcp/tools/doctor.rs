//! The tool that examines every part.

use std::fmt::Write as _;

use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::{Finding, Outcome},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError},
        schema,
    },
};

/// What the doctor found.
#[derive(Debug, Serialize, JsonSchema)]
struct DoctorAnswer {
    /// Nothing failed.
    fit: bool,
    failed: usize,
    warnings: usize,
    /// What failed first, then warnings, then what is well.
    findings: Vec<Finding>,
}

#[tool_router(router = doctor_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Run the doctor",
        description = "Examines every part and changes nothing: reachable, version, keys and row-level security, permissions, \
            migrations, clocks, how the topic is kept, lag, open dead letters, paused sinks, failed schedules. \
            Problems come first, each with what to do. Slower than get_pipeline_status: use it to find out why \
            something does not work, or after a change of settings.",
        output_schema = schema::output::<DoctorAnswer>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn run_doctor(&self) -> Result<Answer<DoctorAnswer>, ToolError> {
        let mut findings = self.engine.examine().await;
        findings.sort_by_key(|finding| severity(finding.outcome));
        let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
        let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
        let text = summary(&findings, failed, warnings);
        Ok(Answer { text, content: DoctorAnswer { fit: failed == 0, failed, warnings, findings } })
    }
}

fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Failed => 0,
        Outcome::Warning => 1,
        Outcome::Ok => 2,
    }
}

fn summary(findings: &[Finding], failed: usize, warnings: usize) -> String {
    let mut text = format!("{} checks: {failed} failed, {warnings} warnings.", findings.len());
    for finding in findings.iter().filter(|finding| finding.outcome != Outcome::Ok) {
        let mark = if finding.outcome == Outcome::Failed { "FAILED" } else { "Warning" };
        let _ = write!(text, "\n{mark}: {}, {}: {}", finding.part, finding.check, finding.detail);
        if let Some(step) = &finding.next_step {
            let _ = write!(text, " -> {step}");
        }
    }
    text
}
