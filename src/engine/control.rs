//! What an operator may do to the drains: pause, resume, start anew. A pause is kept in the store, and every worker
//! of the sink obeys it within seconds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Engine, EngineError, reading::group_base, supervisor::Restart};
use crate::{
    domain::{Event, ManualEvent, can_be_added_up},
    fault::Fault,
    log::{Position, Topic},
    sink::Sink,
};

/// How long a call waits for a drain to do as it is told.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(15);

/// A sink that an operator paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkPause {
    pub sink: String,
    pub paused_by: String,
    pub since: DateTime<Utc>,
}

impl Engine {
    /// The sinks that are paused, whichever processes drain them.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn paused_sinks(&self) -> Result<Vec<SinkPause>, Fault> {
        self.ready_store().await?;
        self.known_pauses().await
    }

    /// As [`Engine::paused_sinks`], on a store that may not be migrated yet.
    pub(super) async fn known_pauses(&self) -> Result<Vec<SinkPause>, Fault> {
        let known = self.store.pauses().await?;
        let paused = self.sinks.iter().filter_map(|sink| {
            let group = group_base(&self.settings, &**sink);
            let pause = known.iter().find(|pause| pause.consumer_group == group)?;
            Some(SinkPause {
                sink: sink.name().to_owned(),
                paused_by: pause.paused_by.clone(),
                since: pause.since,
            })
        });
        Ok(paused.collect())
    }

    /// Pauses a sink in every process; this one's drain has stopped when the call returns, unless its sink keeps it
    /// waiting.
    ///
    /// # Errors
    /// When there is no such sink or the store can't be reached.
    pub async fn pause_sink(&self, sink: &str, by: &str) -> Result<SinkPause, EngineError> {
        let group = group_base(&self.settings, self.named("sink", sink)?);
        let by = format!("{by} on {}", self.settings.owner);
        let pause = self.ready_store().await?.pause(&group, &by).await?;
        self.supervisor.apply_pause(sink, false, CONTROL_TIMEOUT).await;
        Ok(SinkPause { sink: sink.to_owned(), paused_by: pause.paused_by, since: pause.since })
    }

    /// Ends a sink's pause in every process. `false` when it was not paused.
    ///
    /// # Errors
    /// When there is no such sink or the store can't be reached.
    pub async fn resume_sink(&self, sink: &str) -> Result<bool, EngineError> {
        let group = group_base(&self.settings, self.named("sink", sink)?);
        let resumed = self.ready_store().await?.resume(&group).await?;
        self.supervisor.apply_pause(sink, true, CONTROL_TIMEOUT).await;
        Ok(resumed)
    }

    /// Ends this process's drain of a sink cleanly and starts it anew; its last error is kept. `false` when it has
    /// not ended yet because its sink is slow to answer.
    ///
    /// # Errors
    /// When there is no such sink, it is paused, or this process drains nothing.
    pub async fn restart_drain(&self, sink: &str) -> Result<bool, EngineError> {
        self.named("service", sink)?;
        let refused = |problem: &str| EngineError::Invalid { field: "service", problem: problem.to_owned() };
        match self.supervisor.restart(sink, CONTROL_TIMEOUT).await {
            Restart::Restarted => Ok(true),
            Restart::Ending => Ok(false),
            Restart::Paused => Err(refused("is paused, so there is nothing to restart; call resume_sink")),
            Restart::NotHere => Err(refused(
                "is not drained by this process; restart the `sluice worker` that does, or serve without \
                 --without-drains",
            )),
        }
    }

    /// Appends a hand-made event and returns where it stands in the log.
    ///
    /// # Errors
    /// When the event is out of range or the log can't be reached.
    pub async fn inject(&self, event: ManualEvent) -> Result<(Event, Position), EngineError> {
        check_manual(&event).map_err(|(field, problem)| EngineError::Invalid { field, problem })?;
        self.log.ensure_topics().await?;
        let event = Event::manual(event, Utc::now());
        let appended = self.append_events(vec![super::sync::manual_record(&event)]).await?;
        let position = appended.first().copied().ok_or_else(|| {
            Fault::transient("log", "the log told no position of an appended event", "report this")
        })?;
        Ok((event, position))
    }

    /// Appends to the events topic, measured.
    pub(super) async fn append_events(
        &self,
        records: Vec<crate::log::NewRecord>,
    ) -> Result<Vec<Position>, Fault> {
        let (count, begun) = (records.len() as u64, std::time::Instant::now());
        let positions = self.log.append(Topic::Events, records).await?;
        self.appends.passed(count, begun.elapsed());
        Ok(positions)
    }

    /// A sink by its name.
    pub(super) fn named(&self, field: &'static str, name: &str) -> Result<&dyn Sink, EngineError> {
        self.sinks.iter().map(|sink| &**sink).find(|sink| sink.name() == name).ok_or_else(|| {
            let names: Vec<&str> = self.sinks.iter().map(|sink| sink.name()).collect();
            EngineError::Invalid {
                field,
                problem: format!("{name:?} is no sink; give {}", names.join(" or ")),
            }
        })
    }
}

/// The limits a hand-made event must keep.
fn check_manual(event: &ManualEvent) -> Result<(), (&'static str, String)> {
    const MOST_CHARACTERS: usize = 200;
    const MOST_BYTES: usize = 16 * 1024;
    for (field, text) in [("evento", &event.evento), ("usuario", &event.usuario)] {
        let length = text.chars().count();
        if text.trim().is_empty() || length > MOST_CHARACTERS {
            let problem = format!("has {length} characters; give 1 to {MOST_CHARACTERS}, not only blanks");
            return Err((field, problem));
        }
        if text.contains('\0') {
            return Err((field, "holds a NUL character, which Postgres can't store".to_owned()));
        }
    }
    if !can_be_added_up(event.valor) {
        return Err(("valor", "is not a number that can be added up".to_owned()));
    }
    let metadata = event.metadata.as_str();
    if metadata.len() > MOST_BYTES {
        return Err(("metadata", format!("has {} bytes as JSON; give at most {MOST_BYTES}", metadata.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Json;

    fn refused(change: impl FnOnce(&mut ManualEvent)) -> &'static str {
        let mut event = ManualEvent {
            id: None,
            usuario: "ana".into(),
            evento: "teste".into(),
            valor: 1.0,
            metadata: Json::empty_object(),
        };
        assert_eq!(check_manual(&event), Ok(()));
        change(&mut event);
        check_manual(&event).expect_err("refused").0
    }

    #[test]
    fn an_event_that_no_sink_could_take_is_refused_by_the_fields_name() {
        assert_eq!(refused(|event| event.evento = " ".into()), "evento");
        assert_eq!(refused(|event| event.evento = "a\0".into()), "evento");
        assert_eq!(refused(|event| event.usuario = "a".repeat(201)), "usuario");
        assert_eq!(refused(|event| event.valor = f64::NAN), "valor");
        let long = Json::from(&json!({"a": "a".repeat(20_000)}));
        assert_eq!(refused(|event| event.metadata = long), "metadata");
    }
}
