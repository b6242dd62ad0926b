//! Templates, indices and aliases.
//!
//! Everybody reads and writes the alias (`leads`); the documents are in a numbered index behind it
//! (`leads-000001`), so that an index can be built anew and the alias moved without a gap.

use elasticsearch::http::Method;
use serde_json::{Value, json};

use super::{PART, client::Client};
use crate::fault::Fault;

/// An index, and the mapping of its documents.
pub(super) const INDICES: [(&str, &str); 3] = [
    ("eventos", include_str!("templates/eventos.json")),
    ("leads", include_str!("templates/leads.json")),
    ("chat_sessions", include_str!("templates/chat_sessions.json")),
];

/// Brings everything up to date; safe to repeat, and for several processes at once.
pub(super) async fn prepare(client: &Client, prefix: &str) -> Result<(), Fault> {
    for (name, mapping) in INDICES {
        let alias = format!("{prefix}{name}");
        let what = format!("creating the template of {alias}");
        client
            .call(
                &what,
                Method::Put,
                &format!("/_index_template/sluice-{alias}"),
                Some(&template(&alias, mapping)?),
            )
            .await?;
        create_index(client, &alias).await?;
    }
    Ok(())
}

async fn create_index(client: &Client, alias: &str) -> Result<(), Fault> {
    let what = format!("creating the index of {alias}");
    if client.exists(&what, &format!("/_alias/{alias}")).await? {
        return Ok(());
    }
    if client.exists(&what, &format!("/{alias}")).await? {
        return Err(Fault::misconfigured(
            PART,
            format!("{alias} on {} is an index, where sluice needs an alias", client.host),
            format!(
                "reindex it under another name and delete it, or set ELASTICSEARCH_INDEX_PREFIX to keep both (it was: {alias})"
            ),
        ));
    }
    let body = json!({"aliases": {alias: {"is_write_index": true}}});
    let outcome = client.call(&what, Method::Put, &format!("/{alias}-000001"), Some(&body)).await;
    match outcome {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(_) if client.exists(&what, &format!("/_alias/{alias}")).await? => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn template(alias: &str, mapping: &str) -> Result<Value, Fault> {
    let mapping: Value = serde_json::from_str(mapping).map_err(|error| {
        Fault::misconfigured(
            PART,
            format!("the mapping of {alias} is no JSON: {error}"),
            "report this: it is a defect",
        )
    })?;
    Ok(json!({
        "index_patterns": [format!("{alias}-*")],
        "priority": 200,
        "template": {
            "settings": {
                // Whoever waits for a sync refreshes on demand; for everybody else this is soon enough, and bulks
                // are not slowed down by a refresh a second.
                "index.refresh_interval": "5s"
            },
            "mappings": mapping
        },
        "_meta": {"managed_by": "sluice"}
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mapping_grows_by_itself() {
        for (name, mapping) in INDICES {
            let template = template(name, mapping).expect("a template");
            assert_eq!(template["template"]["mappings"]["dynamic"], false, "{name}");
        }
        let eventos = template("eventos", INDICES[0].1).expect("a template");
        let properties = &eventos["template"]["mappings"]["properties"];
        assert_eq!(properties["metadata"]["dynamic"], false);
        assert_eq!(properties["evento"]["fields"]["keyword"]["type"], "keyword");
    }
}
