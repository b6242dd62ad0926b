//! Builds an index anew beside the one that serves.
//!
//! The new index remembers in its mapping's `_meta` that it is one being rebuilt, so whichever process looks can go
//! on with it, and nothing else is ever taken for one. The alias moves in one step; `_meta` says until the end what
//! the new index replaces, and from then on which rebuild made it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    PART, bulk,
    client::Client,
    erase, faults,
    identity::{self, StandsFor},
    operation::Operation,
    schema,
    templates::Names,
};
use crate::{
    fault::Fault,
    identity::Identity,
    index::{
        Columns, IndexName, REMOVED, Rebuild, claims, differing,
        documents::{self, Planned},
    },
    log::Position,
    next_step::{NextStep, SAME_DEFINITIONS},
    sink::{Applied, ApplyError, Claim, Sink, SinkBatch, SinkEvent, SinkHealth},
};

const REFRESHING: &str = "refreshing the index that is built";
const COUNTING: &str = "counting documents of the index that is built";

/// What a new index remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    id: Uuid,
    started_at: DateTime<Utc>,
    /// The index that served when it was begun, and from when the alias moves, the one that served until then.
    replaces: String,
    #[serde(default)]
    erasures: Uuid,
}

/// What stands behind an alias or beside it, by name.
#[derive(Debug, Deserialize)]
struct IndexState {
    #[serde(default)]
    aliases: BTreeMap<String, Value>,
    mappings: Mappings,
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Mappings {
    #[serde(default, rename = "_meta")]
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
struct Meta {
    #[serde(rename = "sluice_rebuild")]
    rebuild: Option<Mark>,
    #[serde(rename = "sluice_stands_for")]
    stands_for: Option<StandsFor>,
    #[serde(rename = "sluice_log")]
    log: Option<String>,
    #[serde(rename = "sluice_columns")]
    columns: Option<Columns>,
    #[serde(rename = "sluice_unfilled")]
    unfilled: Option<Vec<String>>,
    /// The rebuild that made it, once that is over.
    #[serde(rename = "sluice_rebuilt_by")]
    rebuilt_by: Option<Uuid>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    index: IndexSettings,
}

#[derive(Debug, Deserialize)]
struct IndexSettings {
    uuid: String,
}

impl IndexState {
    fn mark(&self) -> Option<&Mark> {
        self.mappings.meta.rebuild.as_ref()
    }

    fn id(&self) -> String {
        identity::id_of(&self.settings.index.uuid, self.mappings.meta.stands_for.as_ref())
    }

    /// Whether it is what this rebuild builds.
    fn is_of(&self, rebuild: Uuid) -> bool {
        self.mark().is_some_and(|mark| mark.id == rebuild)
    }

    fn serves(&self, alias: &str) -> bool {
        self.aliases.contains_key(alias)
    }

    fn rebuild(&self, index: IndexName, alias: &str) -> Option<Rebuild> {
        let Mark { id, started_at, erasures, .. } = *self.mark()?;
        let differing = differing(self.mappings.meta.columns.as_ref(), &index.columns());
        Some(Rebuild { id, index, started_at, serves: self.serves(alias), erasures, differing })
    }
}

/// The names of what stands behind an alias, whatever it is called, or beside it.
///
/// # Errors
/// Also where there is neither: whoever removes documents must not take that for having removed them.
pub(super) async fn names_of(client: &Client, alias: &str) -> Result<BTreeSet<String>, Fault> {
    // Those beside it first: what takes the alias over meanwhile is one of them.
    let mut names: BTreeSet<String> = states(client, alias).await?.into_keys().collect();
    names.extend(schema::behind(client, alias).await?);
    if names.is_empty() {
        return Err(Fault::misconfigured(
            PART,
            format!(
                "looking for the indices of {alias} on {}: neither an index nor its alias is there",
                client.origin()
            ),
            NextStep::Migrate,
        ));
    }
    Ok(names)
}

async fn states(client: &Client, alias: &str) -> Result<BTreeMap<String, IndexState>, Fault> {
    let doing = format!("looking for the indices of {alias}");
    let path = format!(
        "{alias}-*?filter_path=*.aliases,*.mappings._meta,*.settings.index.uuid&expand_wildcards=open"
    );
    let indices: BTreeMap<String, Value> = client.get(&path, &doing).await?;
    let malformed = |error: serde_json::Error| faults::fault_from_malformed(client.origin(), &doing, &error);
    let prefix = format!("{alias}-");
    indices
        .into_iter()
        // Another prefix's `leads-x-000001` matches too.
        .filter(|(name, _)| number(name.strip_prefix(&prefix).unwrap_or_default()).is_some())
        .map(|(name, mut index)| {
            if index["mappings"].is_null() {
                index["mappings"] = json!({});
            }
            Ok((name, serde_json::from_value(index).map_err(malformed)?))
        })
        .collect()
}

fn number(suffix: &str) -> Option<u32> {
    suffix.parse().ok().filter(|_| suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) async fn under_way(client: &Client, names: &Names) -> Result<Vec<Rebuild>, Fault> {
    let mut rebuilds = Vec::new();
    for index in names.indices().names() {
        let alias = names.alias(index);
        let states = states(client, &alias).await?;
        rebuilds.extend(states.values().filter_map(|state| state.rebuild(index, &alias)));
    }
    Ok(rebuilds)
}

pub(super) async fn begin(
    client: &Client,
    names: &Names,
    index: IndexName,
    erasures: Uuid,
) -> Result<Rebuild, Fault> {
    let alias = &*names.alias(index);
    let layout = names.layout(index);
    let mut indices = states(client, alias).await?;
    // Somebody else may have begun it anew once it is ended.
    while let Some(under_way) = find_rebuild(index, alias, &indices) {
        if under_way.serves || under_way.differing.is_empty() {
            return Ok(under_way);
        }
        // It would make documents as an earlier definition had them.
        end(client, names, &under_way).await?;
        indices = states(client, alias).await?;
    }
    let Some((replaces, serving)) = indices.iter().find(|(_, index)| index.serves(alias)) else {
        return Err(Fault::misconfigured(
            PART,
            format!(
                "rebuilding {alias} on {}: no index named {alias}-000001 or the like serves",
                client.origin()
            ),
            "move the alias to an index of such a name first",
        ));
    };
    let highest =
        indices.keys().filter_map(|name| number(&name[alias.len() + 1..])).max().unwrap_or_default();
    let name = format!("{alias}-{:06}", highest + 1);
    let rebuild = Rebuild {
        id: Uuid::now_v7(),
        index,
        started_at: Utc::now(),
        serves: false,
        erasures,
        differing: Vec::new(),
    };
    let mark = Mark { id: rebuild.id, started_at: rebuild.started_at, replaces: replaces.clone(), erasures };
    let log = &serving.mappings.meta.log;
    let body = layout.rebuilt_index(
        &json!({ "sluice_rebuild": mark, "sluice_log": log, "sluice_columns": layout.columns }),
    );
    let doing = format!("creating the index {name}");
    let answer = client.put(&name, &body, &doing).await?;
    if answer.is_success() {
        return Ok(rebuild);
    }
    // Somebody else began at the same moment.
    if let Some(under_way) = find_rebuild(index, alias, &states(client, alias).await?) {
        refuse_differing(client, index, &under_way.differing)?;
        return Ok(under_way);
    }
    Err(faults::fault_from_response(client.origin(), &doing, &answer, true))
}

fn find_rebuild(index: IndexName, alias: &str, states: &BTreeMap<String, IndexState>) -> Option<Rebuild> {
    states.values().find_map(|state| state.rebuild(index, alias))
}

/// The index of a rebuild, by name; `None` when the rebuild is over.
async fn index_of(client: &Client, alias: &str, id: Uuid) -> Result<Option<(String, IndexState)>, Fault> {
    Ok(states(client, alias).await?.into_iter().find(|(_, index)| index.is_of(id)))
}

pub(super) async fn serve(client: &Client, names: &Names, rebuild: &Rebuild) -> Result<(), Fault> {
    let alias = &*names.alias(rebuild.index);
    let states = states(client, alias).await?;
    let Some((name, index)) = states.iter().find(|(_, index)| index.is_of(rebuild.id)) else {
        return Err(over(rebuild));
    };
    let Some(mut mark) = index.mark().filter(|_| !index.serves(alias)).cloned() else { return Ok(()) };
    check_begun(client, names, rebuild.index).await?;
    let doing = format!("moving the alias {alias} to {name}");
    if let Some((replaces, replaced)) = states.iter().find(|(_, index)| index.serves(alias)) {
        // Another one than when it was begun, where somebody deleted that since.
        mark.replaces.clone_from(replaces);
        // Before it serves: nobody shall take it for an index that was made anew by hand.
        let taken = StandsFor { id: replaced.id(), uuid: index.settings.index.uuid.clone() };
        let log = &replaced.mappings.meta.log;
        let columns = &index.mappings.meta.columns;
        let meta = json!({ "_meta": {
            "sluice_rebuild": mark, "sluice_stands_for": taken, "sluice_log": log, "sluice_columns": columns,
        } });
        let answer = client.put(&format!("{name}/_mapping"), &meta, &doing).await?;
        schema::succeeded(client, &answer, &doing)?;
    }
    let refreshed = client.post::<Value>(&format!("{name}/_refresh"), &doing).await?;
    if refreshed["_shards"]["failed"] != 0 {
        return Err(Fault::transient(PART, format!("{doing}: not all shards answer"), "it is tried again"));
    }
    let mut add = names.layout(rebuild.index).alias_properties();
    add["index"] = json!(name);
    add["alias"] = json!(alias);
    let actions = json!({ "actions": [
        { "remove": { "index": mark.replaces, "alias": alias } },
        { "add": add },
    ]});
    let answer = client.post_body("_aliases", &actions, &doing).await?;
    // Somebody else who goes on with the same rebuild may have been faster.
    if answer.is_success()
        || index_of(client, alias, rebuild.id).await?.is_some_and(|(_, index)| index.serves(alias))
    {
        return Ok(());
    }
    Err(faults::fault_from_response(client.origin(), &doing, &answer, true))
}

pub(super) async fn serves_what_was_built(
    client: &Client,
    names: &Names,
    rebuild: &Rebuild,
) -> Result<bool, Fault> {
    let alias = &*names.alias(rebuild.index);
    let is_built =
        |index: &IndexState| index.is_of(rebuild.id) || index.mappings.meta.rebuilt_by == Some(rebuild.id);
    Ok(states(client, alias).await?.values().any(|index| index.serves(alias) && is_built(index)))
}

pub(super) async fn end(client: &Client, names: &Names, rebuild: &Rebuild) -> Result<(), Fault> {
    let alias = &*names.alias(rebuild.index);
    let Some((name, index)) = index_of(client, alias, rebuild.id).await? else { return Ok(()) };
    let Some(mark) = index.mark() else { return Ok(()) };
    let unused = if index.serves(alias) { &mark.replaces } else { &name };
    let doing = format!("removing the index {unused}");
    let answer = client.delete(unused, &doing).await?;
    if !answer.is_success() && answer.status != 404 {
        return Err(faults::fault_from_response(client.origin(), &doing, &answer, true));
    }
    if *unused == name {
        return Ok(());
    }
    let doing = format!("ending the rebuild of {alias}");
    let actions = json!({ "actions": [{ "remove": { "index": name, "alias": names.layout(rebuild.index).rebuild_alias() } }] });
    let answer = client.post_body("_aliases", &actions, &doing).await?;
    if answer.status != 404 {
        schema::succeeded(client, &answer, &doing)?;
    }
    let Meta { stands_for, log, columns, unfilled, .. } = &index.mappings.meta;
    let meta = json!({
        "sluice_stands_for": stands_for, "sluice_log": log, "sluice_columns": columns, "sluice_unfilled": unfilled,
        "sluice_rebuilt_by": rebuild.id,
    });
    let answer = client.put(&format!("{name}/_mapping"), &json!({ "_meta": meta }), &doing).await?;
    schema::succeeded(client, &answer, &doing)
}

/// Refuses to go on with a rebuild that was begun by another definition: it would serve documents of both.
async fn check_begun(client: &Client, names: &Names, index: IndexName) -> Result<(), Fault> {
    let alias = names.layout(index).rebuild_alias();
    refuse_differing(client, index, &schema::differing_behind(client, names, index, &alias).await?)
}

fn refuse_differing(client: &Client, index: IndexName, differing: &[String]) -> Result<(), Fault> {
    if differing.is_empty() {
        return Ok(());
    }
    Err(Fault::misconfigured(
        PART,
        format!(
            "going on with the rebuild of {index} on {}: it was begun by another definition than this process has; they differ in: {}",
            client.origin(),
            differing.join(", ")
        ),
        SAME_DEFINITIONS,
    ))
}

fn over(rebuild: &Rebuild) -> Fault {
    Fault::new(
        PART,
        crate::fault::FaultKind::Invalid,
        format!("the rebuild {} of {} is over", rebuild.id, rebuild.index),
        "begin another where it is wanted",
    )
}

/// Writes into the index that is being built, through an alias of its own: once the rebuild is over there is none,
/// and nothing is made up.
#[derive(Debug)]
pub(super) struct RebuildSink {
    client: Arc<Client>,
    names: Arc<Names>,
    alias: String,
    index: IndexName,
}

impl RebuildSink {
    pub(super) fn new(client: Arc<Client>, names: Arc<Names>, index: IndexName) -> Self {
        Self { client, alias: names.layout(index).rebuild_alias(), names, index }
    }
}

#[async_trait]
impl Sink for RebuildSink {
    fn name(&self) -> &'static str {
        PART
    }

    async fn identities(&self) -> Result<Vec<Identity>, Fault> {
        // Its group bears the id of the rebuild.
        Ok(Vec::new())
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn claim(&self, _log: &str, partitions: &[i32]) -> Result<Vec<Claim>, Fault> {
        Ok(claims(partitions))
    }

    async fn apply(&self, _log: &str, batch: &SinkBatch) -> Result<Applied, ApplyError> {
        check_begun(&self.client, &self.names, self.index).await?;
        let plan = documents::plan(batch, |index| self.names.indices().fields(index), Utc::now());
        let ours: Vec<_> = plan.documents.iter().filter(|document| document.index == self.index).collect();
        let operation = |planned: &Planned<'_>| Operation::new(&self.alias, plan.document(planned));
        let sent = bulk::send(&self.client, &ours, operation).await.map_err(|error| error.fault)?;
        sent.outcome(plan.refused)
    }

    async fn discard(&self, events: &[SinkEvent]) -> Result<(), Fault> {
        erase::discard(&self.client, events, |index| (index == self.index).then(|| self.alias.clone())).await
    }

    async fn remove_events(&self, ids: &[Uuid]) -> Result<(), Fault> {
        erase::remove_events(&self.client, &self.names, ids).await
    }

    async fn applied(&self, _log: &str) -> Result<Option<Vec<Position>>, Fault> {
        Ok(None)
    }

    async fn make_visible(&self) -> Result<(), Fault> {
        self.client.post::<Value>(&format!("{}/_refresh", self.alias), REFRESHING).await.map(drop)
    }

    async fn health(&self) -> Result<SinkHealth, Fault> {
        Ok(SinkHealth { version: String::new(), clock: None })
    }

    async fn counts(&self) -> Result<Vec<(String, u64)>, Fault> {
        #[derive(Deserialize)]
        struct Counted {
            count: u64,
        }
        let shown = json!({ "query": { "bool": { "must_not": { "term": { REMOVED: true } } } } });
        let answer = self.client.post_body(&format!("{}/_count", self.alias), &shown, COUNTING).await?;
        let counted: Counted = self.client.parse(answer, COUNTING)?;
        Ok(vec![(self.index.to_string(), counted.count)])
    }
}
