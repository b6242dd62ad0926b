//! Fills an index that is being built with what the store has and the log no longer holds.
//!
//! A document is made from the event that the store keeps, by the same rules as from the log's record, and bears the same
//! id and version: so it does not matter which of the two writes it first, and filling again changes nothing. What the
//! ledger of erasures forbids is not written; where somebody was erased since the rebuild began, a process that is gone
//! may have written of them just then, so the rebuild begins anew.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use chrono::Utc;
use tracing::info;
use uuid::Uuid;

use crate::{
    domain::{Entidade, Event, Table},
    engine::{reading::Reading, shared::Shared, trim},
    fault::Fault,
    identity::Identity,
    index::{Hit, IndexName, Rebuild},
    log::{Extent, Log, Position, StartAt},
    next_step::NextStep,
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
    store::{EventFilter, EventName, EventOrder, StoredEvent},
};

/// So many lost documents are counted.
const MAX_NAMED: usize = 10_000;

/// Events read and written at a time.
const PAGE: u32 = 200;

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Whole,
    /// Somebody was erased since the rebuild began.
    Overtaken,
}

/// Rows of the store that are documents of an index.
pub(super) async fn stored(shared: &Shared, index: IndexName) -> Result<u64, Fault> {
    match index {
        IndexName::Entities(table) => shared.store.entity_count(table).await,
        IndexName::Eventos => Ok(count_of(shared.store.counts().await?, "eventos_raw")),
    }
}

/// Documents of the index that is being built.
pub(super) async fn built(sink: &dyn Sink, index: IndexName) -> Result<u64, Fault> {
    sink.make_visible().await?;
    Ok(count_of(sink.counts().await?, index.as_str()))
}

fn count_of(counts: Vec<(String, u64)>, name: &str) -> u64 {
    counts.into_iter().find(|(counted, _)| counted == name).map(|(_, count)| count).unwrap_or_default()
}

/// The documents of the index that serves which the one that is built has not, but for those of the erased and of what went
/// for its age; not many more than [`MAX_NAMED`].
pub(super) async fn lacking(
    shared: &Shared,
    rebuild: &Rebuild,
    sink: &dyn Sink,
) -> Result<HashSet<String>, Fault> {
    shared.index.make_visible().await?;
    sink.make_visible().await?;
    let ledger = shared.erased.ledger().await?;
    let is_erased = |document: &Hit| match rebuild.index {
        IndexName::Entities(table) => ledger.holds(table, &document.id),
        IndexName::Eventos => event_of(document).is_some_and(|event| {
            let table = shared.catalog.of_entity(&event.tipo_evento);
            table.is_some_and(|table| ledger.holds(table, &event.entidade))
        }),
    };
    let (mut lacking, mut after) = (HashSet::new(), None);
    loop {
        let page = shared.index.lacking_in(rebuild, after.as_deref()).await?;
        let mut left = page.documents;
        left.retain(|document| !is_erased(document));
        if rebuild.index == IndexName::Eventos {
            // An index that was restored holds events that went for their age.
            let names: Vec<EventName> = left.iter().filter_map(event_of).collect();
            let trimmed = shared.store.trimmed(&names).await?;
            left.retain(|document| event_of(document).is_none_or(|event| !trimmed.contains_key(&event.id)));
        }
        lacking.extend(left.into_iter().map(|document| document.id));
        after = page.next;
        if after.is_none() || lacking.len() >= MAX_NAMED {
            return Ok(lacking);
        }
    }
}

/// Which event a document of the index of events is.
fn event_of(document: &Hit) -> Option<EventName> {
    Some(EventName {
        tipo_evento: document.source.get("tipo_evento")?.as_str()?.to_owned(),
        entidade: document.source.get("entidade")?.get("id")?.as_str()?.to_owned(),
        id: document.id.parse().ok()?,
    })
}

/// Why an index is not made anew, and what to do.
pub(super) async fn refusal(shared: &Shared, index: IndexName, lost: usize) -> Result<Fault, Fault> {
    let store = shared.store.name();
    let mut parked = 0;
    if let IndexName::Entities(table) = index {
        let (log, letters) = tokio::try_join!(shared.log.identity(), shared.log.dead_letters_identity())?;
        let sinks = shared.sink_names();
        parked = shared
            .store
            .tally(&log.to_string(), &letters.to_string(), table, sinks, Utc::now())
            .await?
            .parked;
    }
    let more = if lost >= MAX_NAMED { " or more" } else { "" };
    let mut problem = format!(
        "{lost}{more} documents of {index} would be lost: neither the log nor {store} holds what they were made of any more; \
         the index stays as it is"
    );
    let advice = match index {
        IndexName::Entities(_) if parked > 0 => {
            problem += "; rows that the store refused wait as dead letters: ";
            problem += &parked.to_string();
            NextStep::SettleLetters
        }
        IndexName::Entities(table) => NextStep::Reconcile { table: table.name().to_owned() },
        IndexName::Eventos => format!(
            "bring what {store} had back from a backup, or delete the index if what it alone holds is to go"
        )
        .into(),
    };
    Ok(Fault::misconfigured(shared.index.name(), problem, advice))
}

/// Whether the log no longer holds its beginning.
pub(super) fn is_cut(extents: &[Extent]) -> bool {
    extents.iter().any(|extent| extent.low > 0)
}

/// Writes all that the store has of an index, and sees that it is there. `told` hears how many rows are left.
pub(super) async fn fill(
    shared: &Shared,
    rebuild: &Rebuild,
    sink: &dyn Sink,
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<Filled, Fault> {
    let index = rebuild.index;
    let before = stored(shared, index).await?;
    let mut fill = Fill { shared, rebuild, sink, read: 0, written: 0 };
    let told = |read| told(before.saturating_sub(read));
    let filled = match index {
        IndexName::Eventos => fill.events(&told).await?,
        IndexName::Entities(table) => fill.entities(table, &told).await?,
    };
    if filled == Filled::Overtaken {
        return Ok(filled);
    }
    let counted = before.min(stored(shared, index).await?);
    if fill.read < counted {
        return Err(Fault::misconfigured(
            shared.store.name(),
            format!(
                "filling the index {index} from the store: it counts {counted} and {} could be read, so {} have no event in \
                 eventos_raw any more",
                fill.read,
                counted - fill.read
            ),
            match index {
                IndexName::Entities(table) => NextStep::Reconcile { table: table.name().to_owned() },
                IndexName::Eventos => "it is tried again".into(),
            },
        ));
    }
    let there = built(sink, index).await?;
    if there < fill.written {
        return Err(Fault::transient(
            shared.index.name(),
            format!(
                "filling the index {index} from the store: {} were written and {there} are there",
                fill.written
            ),
            "it is tried again, and does not serve before all are there",
        ));
    }
    info!(%index, rebuild = %rebuild.id, rows = fill.read, documents = fill.written, "filled from the store");
    Ok(filled)
}

struct Fill<'a> {
    shared: &'a Shared,
    rebuild: &'a Rebuild,
    sink: &'a dyn Sink,
    /// Rows that the store showed.
    read: u64,
    /// Documents that the index took, and shows.
    written: u64,
}

impl Fill<'_> {
    async fn events(&mut self, told: &(dyn Fn(u64) + Send + Sync)) -> Result<Filled, Fault> {
        let mut after = None;
        loop {
            let page =
                self.shared.store.events(&EventFilter::default(), EventOrder::Oldest, after, PAGE).await?;
            self.read += page.events.len() as u64;
            let events = page.events.into_iter().map(|stored| self.event(stored)).collect();
            let Some(written) = self.write(events).await? else { return Ok(Filled::Overtaken) };
            self.written += written;
            told(self.read);
            if page.next.is_none() {
                return Ok(Filled::Whole);
            }
            after = page.next;
        }
    }

    async fn entities(&mut self, table: Table, told: &(dyn Fn(u64) + Send + Sync)) -> Result<Filled, Fault> {
        let mut after: Option<String> = None;
        loop {
            let page = self.shared.store.entity_events(table, after.as_deref(), PAGE).await?;
            self.read += page.events.len() as u64;
            let events = page.events.into_iter().map(|stored| self.event(stored)).collect();
            let Some(written) = self.write(events).await? else { return Ok(Filled::Overtaken) };
            self.written += written;
            told(self.read);
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        // The places of removed ones keep older versions from coming back.
        let removals = EventFilter {
            tipo_evento: Some(table.entity.clone()),
            evento: Some(table.removed_event()),
            ..EventFilter::default()
        };
        let mut after = None;
        loop {
            let page = self.shared.store.events(&removals, EventOrder::Oldest, after, PAGE).await?;
            let events = page.events.into_iter().map(|stored| self.event(stored));
            let removals = events.filter(|event| event.entidade.removida).collect();
            if self.write(removals).await?.is_none() {
                return Ok(Filled::Overtaken);
            }
            if page.next.is_none() {
                return Ok(Filled::Whole);
            }
            after = page.next;
        }
    }

    /// What the log had.
    fn event(&self, stored: StoredEvent) -> Event {
        let table = self.shared.catalog.of_entity(&stored.tipo_evento);
        // No row is without its key, whatever its event is called.
        let removida = stored.dados.as_str() == "{}"
            && table.is_some_and(|table| stored.evento == table.removed_event());
        Event {
            id: stored.id,
            tipo_evento: stored.tipo_evento,
            usuario: stored.usuario,
            evento: stored.evento,
            valor: stored.valor,
            timestamp: stored.timestamp,
            categoria: stored.categoria,
            metadata: stored.metadata,
            entidade: Entidade { id: stored.entidade_id, versao: stored.versao, removida },
            dados: stored.dados,
        }
    }

    /// Writes events' documents, passing over those that the index refuses, as the log's drain did. How many it took;
    /// `None` where somebody was erased since the rebuild began: then nothing of them stays of this page.
    async fn write(&self, events: Vec<Event>) -> Result<Option<u64>, Fault> {
        let (shared, begun_with) = (self.shared, self.rebuild.erasures);
        if shared.erased.ledger().await?.version() != begun_with {
            return Ok(None);
        }
        let known = events.into_iter().filter_map(|event| {
            let table = event.table(shared.catalog).ok()?;
            Some(SinkEvent {
                position: Position { partition: 0, offset: 0 },
                raw: event.encode(),
                event,
                table,
            })
        });
        let mut events: Vec<SinkEvent> = known.collect();
        for (offset, event) in (0..).zip(&mut events) {
            event.position.offset = offset;
        }
        let mut batch = SinkBatch { events, spans: Vec::new() };
        loop {
            match self.sink.apply("", &batch).await {
                Ok(_) => break,
                Err(ApplyError::Fault(fault)) => return Err(fault),
                Err(ApplyError::Rejected(refused)) => {
                    batch.events.retain(|event| refused.iter().all(|one| one.position != event.position));
                }
            }
        }
        let trimmed = trim::leave_out(&*shared.store, self.sink, &batch.events).await?;
        batch.events.retain(|sink| !trimmed.contains(&sink.event.id));
        let ledger = shared.erased.ledger().await?;
        if ledger.version() != begun_with {
            batch.events.retain(|event| event.is_erased(&ledger));
            self.sink.discard(&batch.events).await?;
            return Ok(None);
        }
        Ok(Some(batch.events.len() as u64))
    }
}

/// Writes into the index that is being built; reading begins where the log does. What the log holds no more is not missed:
/// it comes from the store.
pub(super) struct FromTheFirst {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) log: Arc<dyn Log>,
    /// What the name of the rebuild's consumer group begins with.
    pub(super) group: String,
}

#[async_trait]
impl Sink for FromTheFirst {
    fn name(&self) -> &'static str {
        self.sink.name()
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        self.sink.identities().await
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.sink.prepare().await
    }

    async fn claim(&self, log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        let mut claims = self.sink.claim(log, partitions).await?;
        let group = Reading::of(&*self.log, &*self.sink, &self.group).await?.group;
        let (extents, committed) = tokio::try_join!(self.log.extents(), self.log.committed(&group))?;
        for claim in &mut claims {
            let extent = extents.iter().find(|extent| extent.partition == claim.partition);
            let is_new = committed.iter().all(|at| at.partition != claim.partition);
            if let Some(extent) = extent.filter(|_| is_new) {
                claim.start = StartAt::Offset(extent.low);
            }
        }
        Ok(claims)
    }

    async fn apply(&self, log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        self.sink.apply(log, batch).await
    }

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        self.sink.discard(events).await
    }

    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.sink.remove_events(ids).await
    }

    async fn applied(&self, log: &str) -> Result<Option<Vec<Position>>, Fault> {
        self.sink.applied(log).await
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        self.sink.make_visible().await
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        self.sink.health().await
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        self.sink.counts().await
    }
}
