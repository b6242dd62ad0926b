//! Completions: what an argument of a prompt or of a resource's address may be.

use rmcp::model::{CompleteRequestParams, CompletionInfo, Reference};

use super::{SluiceServer, tools::GROUPS};
use crate::{
    domain::TipoEvento,
    engine::{Letter, LetterFilter},
    store::{EventFilter, EventOrder, tables::TABLES},
};

/// Events looked through for leads to offer.
const LATEST_LEADS: u32 = 100;

/// Dead letters to offer.
const LATEST_LETTERS: usize = 50;

impl SluiceServer {
    /// The values that begin with what was typed. A part that does not answer has none to offer: completing is a
    /// courtesy and no place for errors.
    pub(super) async fn completions(&self, request: &CompleteRequestParams) -> CompletionInfo {
        let known = match (&request.r#ref, request.argument.name.as_str()) {
            (Reference::Prompt(_), "hours") => ["24", "48", "168", "720"].map(str::to_owned).into(),
            (Reference::Prompt(_), "status") => self.counted(|overview| overview.by_status).await,
            (Reference::Prompt(_), "origin") => self.counted(|overview| overview.by_origin).await,
            (_, "sync_id") => {
                let syncs = self.engine.recent_syncs(20).await.unwrap_or_default();
                syncs.iter().map(|sync| sync.sync_id.to_string()).collect()
            }
            (_, "lead_id") => self.lead_ids().await,
            (Reference::Resource(lead), "id") if lead.uri.starts_with("sluice://leads/") => {
                self.lead_ids().await
            }
            (Reference::Resource(letter), "id") if letter.uri.starts_with("sluice://dead-letters/") => {
                let page = self.engine.dead_letters(&LetterFilter::default(), None, LATEST_LETTERS).await;
                page.map(|page| page.letters).unwrap_or_default().iter().map(Letter::id).collect()
            }
            (Reference::Resource(_), "table") => TABLES.iter().map(|table| table.table.to_owned()).collect(),
            (Reference::Resource(_), "group") => GROUPS.iter().map(|group| group.name.to_owned()).collect(),
            _ => Vec::new(),
        };
        matching(known, &request.argument.value)
    }

    /// The leads stored last.
    async fn lead_ids(&self) -> Vec<String> {
        let filter =
            EventFilter { tipo_evento: Some(TipoEvento::Lead.as_str().to_owned()), ..EventFilter::default() };
        let latest = self.engine.events(&filter, EventOrder::LatestStored, None, LATEST_LEADS).await;
        let mut ids = Vec::new();
        for event in latest.map(|page| page.events).unwrap_or_default() {
            let id = event.entidade_id.to_string();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    async fn counted(&self, which: fn(crate::source::Overview) -> Vec<(String, u64)>) -> Vec<String> {
        let overview = self.engine.overview().await;
        let counts = overview.map(|(_, overview)| which(overview)).unwrap_or_default();
        counts
            .into_iter()
            .map(|(mut name, _)| {
                self.outgoing.text(&mut name);
                name
            })
            .collect()
    }
}

fn matching(known: Vec<String>, typed: &str) -> CompletionInfo {
    let typed = typed.trim().to_lowercase();
    let mut values: Vec<String> =
        known.into_iter().filter(|value| value.to_lowercase().starts_with(&typed)).collect();
    let total = values.len();
    values.truncate(CompletionInfo::MAX_VALUES);
    let more = total > values.len();
    let mut info = CompletionInfo::default();
    info.values = values;
    info.total = u32::try_from(total).ok();
    info.has_more = Some(more);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_beginning_and_never_more_than_the_protocol_allows() {
        let known = |n: usize| (0..n).map(|i| format!("Valor {i}")).collect::<Vec<_>>();
        assert_eq!(matching(known(12), "valor 1").values, ["Valor 1", "Valor 10", "Valor 11"]);
        let many = matching(known(250), "");
        assert_eq!((many.values.len(), many.total, many.has_more), (100, Some(250), Some(true)));
    }
}
