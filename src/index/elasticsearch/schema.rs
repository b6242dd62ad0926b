//! Brings templates, indices and aliases up to date; any number of processes may do so at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    PART,
    client::{Answer, Client},
    faults,
    templates::{COLUMNS, Layout, Names, kind_of},
};
use crate::{
    fault::Fault,
    index::{Columns, IndexName, another_definition, differing, made_otherwise},
    next_step::{NextStep, SAME_DEFINITIONS},
};

/// The member of a mapping's `_meta` that names the columns which documents lack, or have as an earlier definition made them.
const UNFILLED: &str = "sluice_unfilled";

pub(super) async fn prepare(client: &Client, names: &Names) -> Result<(), Fault> {
    for index in names.indices().names() {
        prepare_index(client, names, index).await?;
    }
    Ok(())
}

pub(super) async fn prepare_index(client: &Client, names: &Names, index: IndexName) -> Result<(), Fault> {
    if let Some(shows_all) = ensure(client, &names.layout(index)).await? {
        filter_alias(client, &names.layout(index), index, &shows_all).await?;
    }
    let made = look_at(client, names, index).await?;
    let mut layout = names.serving_layout(index);
    let mut unfilled: BTreeSet<String> = made.lacks(&layout.mappings["properties"]).into_iter().collect();
    unfilled.extend(made_otherwise(made.columns().as_ref(), &layout.columns));
    unfilled.extend(made.kept.iter().cloned());
    let mut meta = made.meta.clone();
    meta[COLUMNS] = json!(layout.columns);
    if !unfilled.is_empty() && holds_documents(client, &layout.alias).await? {
        let advice = NextStep::FillIndex { index: index.to_string() };
        let columns = unfilled.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        tracing::warn!(%index, columns, %advice, "the documents there are have no value, or an earlier one, in columns that were defined since");
        unfilled.extend(made.stays_unfilled());
        meta[UNFILLED] = json!(unfilled);
    }
    // It is replaced as a whole, and others write theirs.
    if meta != made.meta {
        layout.mappings["_meta"] = meta;
    }
    put_mapping(client, &layout, index, &made.name).await
}

/// Refuses where documents behind an alias are made by another definition than this process has.
pub(super) async fn check_columns(
    client: &Client,
    names: &Names,
    index: IndexName,
    alias: &str,
) -> Result<(), Fault> {
    let differing = differing_behind(client, names, index, alias).await?;
    if differing.is_empty() {
        return Ok(());
    }
    Err(Fault::misconfigured(
        PART,
        format!("writing into {alias} on {}: {}", client.origin(), another_definition(index, &differing)),
        SAME_DEFINITIONS,
    ))
}

/// The columns in which the definition that documents behind an alias are made by differs from this process's; none where
/// nothing is behind it: whatever is written there tells.
pub(super) async fn differing_behind(
    client: &Client,
    names: &Names,
    index: IndexName,
    alias: &str,
) -> Result<Vec<String>, Fault> {
    let own = names.layout(index).columns;
    if own.is_empty() {
        return Ok(Vec::new());
    }
    let doing = format!("asking what the documents of {alias} are made of");
    let path = format!("{alias}/_mapping?filter_path=*.mappings._meta.{COLUMNS}");
    let answer = client.look(&path, &doing).await?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let found: BTreeMap<String, Value> = client.parse(answer, &doing)?;
    let columns = found.into_values().map(|made| columns_in(&made["mappings"]["_meta"]));
    Ok(columns.flat_map(|made| differing(made.as_ref(), &own)).collect())
}

/// What the columns of documents are made of; `None` where an earlier build made them.
fn columns_in(meta: &Value) -> Option<Columns> {
    serde_json::from_value(meta[COLUMNS].clone()).unwrap_or_default()
}

async fn holds_documents(client: &Client, alias: &str) -> Result<bool, Fault> {
    #[derive(Deserialize)]
    struct Counted {
        count: u64,
    }
    // What was written last is not counted before.
    client.post::<Value>(&format!("{alias}/_refresh"), "making documents visible").await?;
    let counted: Counted = client.get(&format!("{alias}/_count"), "counting documents").await?;
    Ok(counted.count > 0)
}

/// What an index was made with.
pub(super) struct Made {
    /// What the index itself is called: the alias may lead to another meanwhile.
    name: String,
    properties: Value,
    meta: Value,
    /// The fields that it has as they are defined only once it is rebuilt.
    kept: Vec<String>,
}

impl Made {
    /// The index's name and its `_meta`.
    pub(super) fn into_meta(self) -> (String, Value) {
        (self.name, self.meta)
    }

    /// What the columns of its documents are made of; `None` where an earlier build made them.
    fn columns(&self) -> Option<Columns> {
        columns_in(&self.meta)
    }

    fn stays_unfilled(&self) -> BTreeSet<String> {
        let columns = self.meta[UNFILLED].as_array().into_iter().flatten();
        columns.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The columns that documents lack, or have as an earlier definition made them, whether anybody has prepared the index
    /// since or not.
    pub(super) fn unfilled(&self, wanted: &Columns) -> Vec<String> {
        let mut unfilled = self.stays_unfilled();
        unfilled.extend(made_otherwise(self.columns().as_ref(), wanted));
        unfilled.extend(self.kept.iter().cloned());
        unfilled.into_iter().collect()
    }

    /// The columns, and members of `metadata`, that these properties have and the index has not.
    fn lacks(&self, properties: &Value) -> Vec<String> {
        let missing = |there: &Value, wanted: &Value, prefix: &str| -> Vec<String> {
            let wanted = wanted.as_object().into_iter().flat_map(Map::keys);
            let missing = wanted.filter(|name| there[name.as_str()].is_null() && !name.starts_with('_'));
            missing.map(|name| format!("{prefix}{name}")).collect()
        };
        let members = |of: &Value| of["metadata"]["properties"].clone();
        let mut lacks = missing(&self.properties, properties, "");
        lacks.extend(missing(&members(&self.properties), &members(properties), "metadata."));
        lacks
    }
}

/// Learns in what kind the index that serves keeps its fields: it can't be given another, and tables that are defined later
/// may have other members of `metadata`, or a table another key. Returns what it was made with.
pub(super) async fn look_at(client: &Client, names: &Names, index: IndexName) -> Result<Made, Fault> {
    let alias = names.alias(index);
    let doing = format!("looking at the mapping of {alias}");
    let path = format!("{alias}/_mapping?filter_path=*.mappings.properties,*.mappings._meta");
    let made: BTreeMap<String, Value> = client.get(&path, &doing).await?;
    if made.len() > 1 {
        return Err(leads_to_several(client.origin(), &alias, made.keys().map(String::as_str)));
    }
    // One that has neither is left out.
    let (name, mut made) = made.into_iter().next().unwrap_or_else(|| (alias.into_owned(), Value::Null));
    let mappings = &mut made["mappings"];
    let (properties, meta) = (mappings["properties"].take(), mappings["_meta"].take());
    let members = &properties["metadata"]["properties"];
    names.found(index, |path| match path.strip_prefix("metadata.") {
        Some(member) => kind_of(&members[member]),
        // One that somebody else made without its whole values can be neither counted nor sorted by.
        None => kind_of(&properties[path]).filter(|_| !properties[path]["fields"]["keyword"].is_null()),
    });
    let kept = names.kept(index);
    let meta = if meta.is_object() { meta } else { json!({}) };
    Ok(Made { name, properties, meta, kept })
}

/// Template, index and alias, whatever the columns of an index that is there. The index, where its alias shows what was
/// removed.
pub(super) async fn ensure(client: &Client, layout: &Layout) -> Result<Option<String>, Fault> {
    put_template(client, layout).await?;
    match alias_state(client, layout).await? {
        AliasState::Missing => create_index(client, layout).await.map(|()| None),
        AliasState::Unfiltered(index) => Ok(Some(index)),
        AliasState::Ready => Ok(None),
    }
}

async fn put_template(client: &Client, layout: &Layout) -> Result<(), Fault> {
    let doing = format!("putting the index template sluice-{}", layout.alias);
    let path = format!("_index_template/sluice-{}", layout.alias);
    let answer = client.put(&path, &layout.template(), &doing).await?;
    succeeded(client, &answer, &doing)
}

/// An index that is there learns the columns that were defined since; those it has stay as they are.
async fn put_mapping(client: &Client, layout: &Layout, of: IndexName, index: &str) -> Result<(), Fault> {
    let doing = format!("updating the mapping of {}", layout.alias);
    if let Some(limit) = layout.field_limit {
        let settings = json!({ "index.mapping.total_fields.limit": limit });
        let answer = client.put(&format!("{index}/_settings"), &settings, &doing).await?;
        succeeded(client, &answer, &doing)?;
    }
    let answer = client.put(&format!("{index}/_mapping"), &layout.mappings, &doing).await?;
    if answer.status != 400 {
        return succeeded(client, &answer, &doing);
    }
    let mut fault = faults::fault_from_response(client.origin(), &doing, &answer, true);
    fault.message.push_str("; a column's type has changed since the index was made");
    fault.advice = NextStep::RebuildIndex { index: of.to_string() };
    Err(fault)
}

#[derive(Deserialize)]
struct AliasedIndex {
    aliases: HashMap<String, AliasProperties>,
}

#[derive(Deserialize)]
struct AliasProperties {
    is_write_index: Option<bool>,
    filter: Option<serde::de::IgnoredAny>,
}

/// How an alias is.
enum AliasState {
    Missing,
    /// It shows what was removed; behind it is this index.
    Unfiltered(String),
    Ready,
}

/// An alias that was made by hand, or before entities could be removed, shows what it must not.
async fn filter_alias(client: &Client, layout: &Layout, of: IndexName, index: &str) -> Result<(), Fault> {
    let doing = format!("letting the alias {} show what is there and nothing else", layout.alias);
    let mut add = layout.alias_properties();
    add["index"] = json!(index);
    add["alias"] = json!(layout.alias);
    // The mapping first: a filter by a field that is not there lets everything pass.
    put_mapping(client, layout, of, index).await?;
    let answer = client.post_body("_aliases", &json!({ "actions": [{ "add": add }] }), &doing).await?;
    succeeded(client, &answer, &doing)
}

/// The names of the indices behind an alias; none where it is missing.
pub(super) async fn behind(client: &Client, alias: &str) -> Result<Vec<String>, Fault> {
    Ok(aliased(client, alias, &looking_for(alias)).await?.into_keys().collect())
}

async fn aliased(client: &Client, alias: &str, doing: &str) -> Result<HashMap<String, AliasedIndex>, Fault> {
    let answer = client.look(&format!("_alias/{alias}"), doing).await?;
    if answer.status == 404 {
        return Ok(HashMap::new());
    }
    succeeded(client, &answer, doing)?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| faults::fault_from_malformed(client.origin(), doing, &error))
}

fn looking_for(alias: &str) -> String {
    format!("looking for the alias {alias}")
}

async fn alias_state(client: &Client, layout: &Layout) -> Result<AliasState, Fault> {
    let doing = looking_for(&layout.alias);
    let indices = aliased(client, &layout.alias, &doing).await?;
    if indices.len() > 1 {
        return Err(leads_to_several(client.origin(), &layout.alias, indices.keys().map(String::as_str)));
    }
    let Some((name, index)) = indices.into_iter().next() else { return Ok(AliasState::Missing) };
    let alias = index.aliases.get(&layout.alias);
    // An alias of a single index is written through unless it says otherwise.
    if alias.is_some_and(|alias| alias.is_write_index == Some(false)) {
        return Err(Fault::misconfigured(
            PART,
            format!("{doing} on {}: {name} is not its write index", client.origin()),
            "make the index of the alias its write index (is_write_index)",
        ));
    }
    let is_filtered = alias.is_some_and(|alias| alias.filter.is_some());
    Ok(if is_filtered || !layout.is_filtered() { AliasState::Ready } else { AliasState::Unfiltered(name) })
}

/// An alias before several indices: what is written through it is in one of them, and what is read is in all.
pub(super) fn leads_to_several<'a>(
    origin: &str,
    alias: &str,
    indices: impl Iterator<Item = &'a str>,
) -> Fault {
    let mut indices: Vec<&str> = indices.collect();
    indices.sort_unstable();
    Fault::misconfigured(
        PART,
        format!(
            "the alias {alias} on {origin} leads to {} indices, {}: what several of them have counts several times, and nothing is \
             written",
            indices.len(),
            indices.join(", ")
        ),
        format!(
            "take the alias from all but the one that sluice fills: POST _aliases {{\"actions\":[{{\"remove\":{{\"index\":\"THE OTHER\",\
             \"alias\":\"{alias}\"}}}}]}}"
        ),
    )
}

async fn create_index(client: &Client, layout: &Layout) -> Result<(), Fault> {
    let index = layout.first_index();
    let doing = format!("creating the index {index} with the alias {}", layout.alias);
    let answer = client.put(&index, &layout.index(), &doing).await?;
    let exists =
        answer.status == 400 && faults::cause_of(&answer.body).kind == "resource_already_exists_exception";
    // Index and alias come to be in one step: whoever was faster has made both.
    if !exists || !matches!(alias_state(client, layout).await?, AliasState::Missing) {
        return if exists { Ok(()) } else { succeeded(client, &answer, &doing) };
    }
    Err(Fault::misconfigured(
        PART,
        format!("{doing} on {}: the index is there and the alias is not", client.origin()),
        "add the alias to the index that holds the newest documents, or delete the index to start anew",
    ))
}

pub(super) fn succeeded(client: &Client, answer: &Answer, doing: &str) -> Result<(), Fault> {
    if answer.is_success() {
        return Ok(());
    }
    Err(faults::fault_from_response(client.origin(), doing, answer, true))
}
