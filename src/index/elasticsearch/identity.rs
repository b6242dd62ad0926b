//! Which indices stand behind the aliases: one that was deleted and made anew, or restored from a snapshot, is another.
//!
//! The server gives every index a uuid. An index that a rebuild made holds all that the one before it held, so it stands
//! for that one: its mapping's `_meta` says so, together with its own uuid, because a snapshot restores `_meta` too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PART, client::Client, schema, templates::Names};
use crate::{fault::Fault, identity::Identity, next_step::NextStep};

/// The member of a mapping's `_meta` that says from which log's place an index is filled.
const LOG: &str = "sluice_log";

/// Aliases asked for in one request: a server takes 4 KiB of address.
const ALIASES: usize = 20;

/// What an index remembers that took another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StandsFor {
    /// The identity that it took over.
    pub(super) id: String,
    /// The uuid of the index that took it over.
    pub(super) uuid: String,
}

/// The identity of an index with this uuid.
pub(super) fn id_of(uuid: &str, stands_for: Option<&StandsFor>) -> String {
    stands_for.filter(|taken| taken.uuid == uuid).map_or(uuid, |taken| &taken.id).to_owned()
}

#[derive(Debug, Deserialize)]
struct Behind {
    #[serde(default)]
    aliases: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    mappings: Mappings,
    settings: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Mappings {
    #[serde(default, rename = "_meta")]
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
struct Meta {
    sluice_stands_for: Option<StandsFor>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    index: IndexSettings,
}

#[derive(Debug, Deserialize)]
struct IndexSettings {
    uuid: String,
}

/// The identity of what stands behind each alias; `None` where one leads nowhere.
pub(super) async fn of(client: &Client, names: &Names) -> Result<Option<Vec<Identity>>, Fault> {
    const DOING: &str = "asking which indices these are";
    let mut identities = Vec::new();
    for aliases in names.all().chunks(ALIASES) {
        let path = format!(
            "{}?filter_path=*.aliases,*.mappings._meta,*.settings.index.uuid&ignore_unavailable=true",
            aliases.join(",")
        );
        let answer = client.look(&path, DOING).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let indices: BTreeMap<String, Behind> = client.parse(answer, DOING)?;
        for alias in aliases {
            let behind = || indices.iter().filter(|(_, index)| index.aliases.contains_key(*alias));
            let Some((_, index)) = behind().next() else { return Ok(None) };
            if behind().count() > 1 {
                let names = behind().map(|(name, _)| name.as_str());
                return Err(schema::leads_to_several(client.origin(), alias, names));
            }
            let id = id_of(&index.settings.index.uuid, index.mappings.meta.sluice_stands_for.as_ref());
            identities.push(Identity { place: format!("{}/{alias}", client.origin()), id });
        }
    }
    Ok(Some(identities))
}

/// Sees that these indices are filled from this log and from none at another place: two that wrote into one index would each
/// take the other's documents for surplus. An index that nobody has claimed yet is claimed.
pub(super) async fn claim(client: &Client, names: &Names, log: &str) -> Result<(), Fault> {
    // A topic that was made anew is at its old place.
    let place = log.rsplit_once('/').map_or(log, |(place, _)| place);
    for index in names.indices().names() {
        let alias = names.alias(index);
        let (name, mut meta) = schema::look_at(client, names, index).await?.into_meta();
        match meta[LOG].as_str() {
            Some(known) if known == place => {}
            Some(known) => {
                return Err(Fault::misconfigured(
                    PART,
                    format!(
                        "the index {alias} on {} is filled from the log {known}, and not from {place}: nothing is written into it",
                        client.origin()
                    ),
                    "give this setup an ELASTICSEARCH_INDEX_PREFIX of its own; where the other log is gone for good, delete the \
                     index instead, and it is made anew and filled from this one",
                ));
            }
            None => {
                let doing = format!("claiming the index {alias}");
                meta[LOG] = place.into();
                let body = serde_json::json!({ "_meta": meta });
                let path = format!("{name}/_mapping");
                schema::succeeded(client, &client.put(&path, &body, &doing).await?, &doing)?;
            }
        }
    }
    Ok(())
}

pub(super) fn missing(origin: &str) -> Fault {
    Fault::misconfigured(
        PART,
        format!("asking which indices these are on {origin}: an index or its alias is missing"),
        NextStep::Migrate,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stands_for_another_only_under_its_own_uuid() {
        let taken = StandsFor { id: "first".to_owned(), uuid: "second".to_owned() };
        assert_eq!(id_of("second", Some(&taken)), "first", "a rebuild took over");
        assert_eq!(id_of("third", Some(&taken)), "third", "a snapshot of it was restored");
        assert_eq!(id_of("first", None), "first");
    }
}
