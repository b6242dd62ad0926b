//! Tools that tell webhooks of what happens.

use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operate::operator;
use crate::{
    engine::{AlertRequest, AlertStatus, AlertTerms, Alerts, Trial, When},
    fault::Fault,
    index::ValueCounts,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        consent,
        next_step::worded,
        output::fence::quoted,
        schema,
    },
    store::{AlertFired, AlertRule},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateAlertArgs {
    name: String,
    /// row: one arrives, or comes to meet where; late: a sync or reconciliation late or failed.
    when: When,
    /// A webhook of list_alerts.
    #[serde(default)]
    target: Option<String>,
    /// Default leads.
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    r#where: Vec<String>,
    /// Records of lag (1000), or letters (0).
    #[serde(default)]
    above: Option<u64>,
    #[serde(default)]
    minutes: Option<u32>,
    /// Only tell what last week would have fired.
    #[serde(default)]
    r#try: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteAlertArgs {
    name: String,
    /// The user agreed; needed where this client can't ask.
    #[serde(default)]
    confirm: Option<bool>,
}

/// What became of a request.
#[derive(Debug, Serialize, JsonSchema)]
struct AlertAnswer {
    /// created or tried.
    outcome: &'static str,
    /// What it waits for.
    condition: String,
    trial: Option<Trial>,
    /// Values there are, where nobody has one that a filter asks for: check the spelling.
    existing: Vec<ValueCounts>,
}

/// What became of an alert.
#[derive(Debug, Serialize, JsonSchema)]
struct DeleteAnswer {
    /// There was one.
    deleted: bool,
}

/// Every alert.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp) struct AlertList {
    alerts: Vec<AlertStatus>,
    /// Why none fires.
    problems: Vec<String>,
    /// The newest first.
    recent: Vec<AlertFired>,
    /// The webhooks an operator named.
    targets: Vec<String>,
}

/// Every alert, and what was told last.
///
/// # Errors
/// When the store can't be reached.
pub(in crate::mcp) async fn listed(alerts: &Alerts) -> Result<AlertList, Fault> {
    let (listed, recent, unlooked) = tokio::try_join!(alerts.list(), alerts.recent(), alerts.unlooked())?;
    let problems = unlooked.into_iter().map(|remark| remark.worded(worded)).collect();
    Ok(AlertList { alerts: listed, problems, recent, targets: alerts.targets().to_vec() })
}

#[tool_router(router = alert_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Create an alert",
        description = "Tells a webhook once of each row, or of each episode and its end; never of the past. Example: {\"name\": \"hot\", \"when\": \"row\", \"where\": [\"score_qualificacao>=80\"]}",
        input_schema = schema::input::<CreateAlertArgs>(),
        output_schema = schema::output::<AlertAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = true)
    )]
    async fn create_alert(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<AlertAnswer>, ToolError> {
        let CreateAlertArgs { name, when, target, table, r#where, above, minutes, r#try } = arguments(given)?;
        let rule = AlertTerms { when, table, conditions: r#where, above, minutes }.rule()?;
        let condition = rule.to_string();
        let request = AlertRequest { name, target, rule: rule.clone() };
        let (outcome, trial) = if r#try {
            ("tried", Some(self.engine.alerts.trial(&request).await?))
        } else {
            self.engine.alerts.create(request, &operator(&context)).await?;
            ("created", None)
        };
        let existing = match &rule {
            AlertRule::Row { table, conditions } => {
                self.masked(self.engine.questions.existing_beside(table, conditions).await)
            }
            _ => Vec::new(),
        };
        Ok(Answer(AlertAnswer { outcome, condition, trial, existing }))
    }

    #[tool(
        title = "List alerts",
        description = "Alerts, whether they get through, what they told last, and the webhooks.",
        output_schema = schema::output::<AlertList>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_alerts(&self) -> Result<Answer<AlertList>, ToolError> {
        Ok(Answer(listed(&self.engine.alerts).await?))
    }

    #[tool(
        title = "Delete an alert",
        description = "What it has not sent yet is never sent.",
        input_schema = schema::input::<DeleteAlertArgs>(),
        output_schema = schema::output::<DeleteAnswer>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn delete_alert(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<DeleteAnswer>, ToolError> {
        let DeleteAlertArgs { name, confirm } = arguments(given)?;
        let what = format!("deletes the alert {}; what it has not sent yet is never sent", quoted(&name));
        consent::ask(&context, confirm, &what).await?;
        Ok(Answer(DeleteAnswer { deleted: self.engine.alerts.delete(&name).await? }))
    }
}
