//! Tools that watch and work the engine itself.

use std::fmt::Write as _;

use rmcp::{tool, tool_router};

use crate::{
    engine::EngineMetrics,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError},
        schema,
    },
};

#[tool_router(router = operate_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "Engine metrics",
        description = "How fast and how well this process works: rows read, events appended, and for each sink events per second, \
            batch sizes, apply latency and append-to-applied latency (p50, p95, p99 in milliseconds), retries, \
            restarts and dead letters. Rates are over the last minute, latencies over the last five, counters since \
            start. Other workers measure themselves. Takes no arguments.",
        output_schema = schema::output::<EngineMetrics>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn get_engine_metrics(&self) -> Result<Answer<EngineMetrics>, ToolError> {
        let metrics = self.engine.metrics();
        Ok(Answer { text: metrics_text(&metrics), content: metrics })
    }
}

fn metrics_text(metrics: &EngineMetrics) -> String {
    let mut text = format!(
        "Up {} s; {} rows read ({}/s), {} events appended ({}/s).",
        metrics.uptime_seconds,
        metrics.source.items,
        metrics.source.items_per_second,
        metrics.log.items,
        metrics.log.items_per_second
    );
    for sink in &metrics.sinks {
        let (drain, times) = (&sink.drain, &sink.times);
        let _ = write!(
            text,
            "\n{}: {}, {} events/s, apply p50 {} ms, p99 {} ms, append to applied p99 {} ms, {} retries, {} restarts",
            drain.sink,
            drain.state.as_str(),
            drain.events_per_second,
            times.apply_ms.p50,
            times.apply_ms.p99,
            times.end_to_end_ms.p99,
            drain.retries,
            drain.restarts
        );
    }
    text
}
