//! The tool that examines every part.

use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::{Finding, Outcome},
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError},
        next_step::worded,
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
        description = "Examines every part and changes nothing: reachable, version, keys, row-level security, permissions, \
            migrations, clocks, topics, lag, dead letters, schedules; problems first. Slower than get_pipeline_status: for why \
            something does not work.",
        output_schema = schema::output::<DoctorAnswer>(),
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn run_doctor(&self) -> Result<Answer<DoctorAnswer>, ToolError> {
        let mut findings = self.engine.doctor.examine().await;
        findings
            .iter_mut()
            .filter_map(|finding| finding.next_step.as_mut())
            .for_each(|step| step.word(worded));
        findings.sort_by_key(|finding| severity(finding.outcome));
        let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
        let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
        Ok(Answer(DoctorAnswer { fit: failed == 0, failed, warnings, findings }))
    }
}

fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Failed => 0,
        Outcome::Warning => 1,
        Outcome::Ok => 2,
    }
}
