//! Completions: what an argument of a prompt or of a resource's address may be.

use std::time::Duration;

use rmcp::{
    ErrorData,
    model::{CompleteRequestParams, CompletionInfo, Reference},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    SluiceServer,
    bounded::LARGEST_ANSWER,
    prompts,
    resources::{Uri, templates},
    tools::GROUPS,
};
use crate::{
    domain::{KeyKind, Table},
    engine::{Letter, LetterFilter},
    store::{EventFilter, EventOrder, QueryLimits, readable},
};

/// Events looked through for leads to offer.
const LATEST_LEADS: u32 = 100;

/// Keys or values looked at for those that begin with what was typed.
const MOST_LOOKED_AT: usize = 1_000;

/// How long the store may look for them, while somebody types.
const PATIENCE: Duration = Duration::from_secs(2);

/// Dead letters to offer.
const LATEST_LETTERS: usize = 50;

impl SluiceServer {
    /// The values that begin with what was typed. A part that does not answer has none to offer: completing is a
    /// courtesy and no place for its errors.
    ///
    /// # Errors
    /// When there is no such prompt, or argument of it, or resource.
    pub(super) async fn completions(
        &self,
        request: &CompleteRequestParams,
    ) -> Result<CompletionInfo, ErrorData> {
        match &request.r#ref {
            Reference::Prompt(prompt) => prompts::check_argument(&prompt.name, &request.argument.name)?,
            Reference::Resource(resource) => {
                let catalog = self.engine.catalog;
                if !templates(catalog).iter().any(|template| template.uri_template == resource.uri) {
                    Uri::parse(catalog, &resource.uri)?;
                }
            }
            _ => {}
        }
        let known = match (&request.r#ref, request.argument.name.as_str()) {
            (Reference::Prompt(_), "hours") => ["24", "48", "168", "720"].map(str::to_owned).into(),
            (Reference::Prompt(_), "status") => self.values_of("leads", "status_lead").await,
            (Reference::Prompt(_), "origin") => self.values_of("leads", "origem").await,
            (Reference::Prompt(_), "sync_id") => {
                let syncs = self.engine.syncs.recent(20).await.unwrap_or_default();
                syncs.iter().map(|sync| sync.sync_id.to_string()).collect()
            }
            (Reference::Prompt(_), "lead_id") => self.keys("leads", &request.argument.value).await,
            (Reference::Resource(letter), "id") if letter.uri.starts_with("sluice://dead-letters/") => {
                let page = self.engine.letters.page(&LetterFilter::default(), None, LATEST_LETTERS).await;
                page.map(|page| page.letters).unwrap_or_default().iter().map(Letter::id).collect()
            }
            (Reference::Resource(entity), "id") => {
                let table = entity.uri.strip_prefix("sluice://").and_then(|uri| uri.split('/').next());
                self.keys(table.unwrap_or_default(), &request.argument.value).await
            }
            (Reference::Resource(_), "table") => {
                readable(self.engine.catalog).into_iter().map(str::to_owned).collect()
            }
            (Reference::Resource(_), "group") => GROUPS.iter().map(|group| group.name.to_owned()).collect(),
            _ => Vec::new(),
        };
        // What is masked or cleaned would be looked for as it is offered, and not be found.
        let may_leave = |value: &String| {
            let mut shown = value.clone();
            self.outgoing.text(&mut shown);
            shown == *value
        };
        Ok(matching(known.into_iter().filter(may_leave).collect(), &request.argument.value))
    }

    /// The keys of a table's entities that begin so; those stored last, where nothing was typed yet.
    async fn keys(&self, table: &str, typed: &str) -> Vec<String> {
        let Some(table) = self.engine.catalog.get(table) else { return Vec::new() };
        if typed.trim().is_empty() || table.key.kind != KeyKind::Uuid {
            return self.latest_keys(table).await;
        }
        let Some((lowest, highest)) = ids_that_begin_with(typed) else { return Vec::new() };
        let key = &table.key.column;
        // Bounds, not a pattern: those an index can find.
        let statement = format!(
            "SELECT {key} FROM {table} WHERE {key} BETWEEN '{lowest}' AND '{highest}' ORDER BY {key} LIMIT {MOST_LOOKED_AT}"
        );
        let mut keys = self.first_column(&statement).await;
        self.retain_shown(key, &mut keys);
        keys
    }

    async fn latest_keys(&self, table: Table) -> Vec<String> {
        let filter = EventFilter { tipo_evento: Some(table.entity.clone()), ..EventFilter::default() };
        let latest =
            self.engine.questions.events(&filter, EventOrder::LatestStored, None, LATEST_LEADS).await;
        let mut keys = Vec::new();
        for event in latest.map(|page| page.events).unwrap_or_default() {
            if !keys.contains(&event.entidade_id) {
                keys.push(event.entidade_id);
            }
        }
        self.retain_shown(&table.key.column, &mut keys);
        keys
    }

    /// The values of a column, the most frequent first.
    async fn values_of(&self, table: &str, column: &str) -> Vec<String> {
        let statement = format!(
            "SELECT {column} FROM {table} WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY count(*) DESC, {column} LIMIT {MOST_LOOKED_AT}"
        );
        let mut values = self.first_column(&statement).await;
        self.retain_shown(column, &mut values);
        values
    }

    /// Leaves the values of a column that a client may see as they are.
    fn retain_shown(&self, column: &str, values: &mut Vec<String>) {
        values.retain(|value| {
            let mut shown = Value::from(value.as_str());
            self.outgoing.field(column, &mut shown);
            shown == *value
        });
    }

    async fn first_column(&self, statement: &str) -> Vec<String> {
        let limits =
            QueryLimits { rows: MOST_LOOKED_AT, bytes: LARGEST_ANSWER, timeout: PATIENCE, verbatim: false };
        let answer = self.engine.questions.sql(statement, limits).await;
        let rows = answer.map(|(_, answer)| answer.rows).unwrap_or_default();
        rows.iter().filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect()
    }
}

/// The lowest and the highest id that begins with what was typed; `None` where no id does.
fn ids_that_begin_with(typed: &str) -> Option<(Uuid, Uuid)> {
    let typed = typed.trim();
    let filled = |digit: &str| {
        let whole = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".replace('x', digit);
        let rest = whole.get(typed.len()..)?;
        Uuid::try_parse(&format!("{typed}{rest}")).ok()
    };
    Some((filled("0")?, filled("f")?))
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
    // More may match than were looked at.
    info.total = u32::try_from(total).ok().filter(|_| total < MOST_LOOKED_AT);
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
        assert_eq!(matching(known(1_000), "").total, None, "nobody counted them all");
    }

    #[test]
    fn the_beginning_of_an_id_bounds_the_ids() {
        let bounds =
            |typed| ids_that_begin_with(typed).map(|(low, high)| (low.to_string(), high.to_string()));
        let expected = |low: &str, high: &str| Some((low.to_owned(), high.to_owned()));
        assert_eq!(
            bounds("048D38bf-a"),
            expected("048d38bf-a000-0000-0000-000000000000", "048d38bf-afff-ffff-ffff-ffffffffffff")
        );
        let whole = "01a20fb4-72ff-7785-8adf-2d35fc925ee9";
        assert_eq!(bounds(whole), expected(whole, whole));
        for none in ["maria", "048d38bfa", "0' OR '1", "01a20fb4-72ff-7785-8adf-2d35fc925ee9a", "ã"] {
            assert_eq!(bounds(none), None, "{none}");
        }
    }
}
