//! `sluice dashboards`: what Kibana and Grafana import, from the examples, which are in the program.
//!
//! Guarantee: whatever the prefix of the indices, the objects name the indices that are written, two prefixes' objects don't
//! replace each other, and a field that a table's definition does not have is told.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Failure, output};
use crate::{
    config::Settings,
    domain::Catalog,
    index::{IndexName, Indices},
};

const KIBANA: &str = include_str!("../../examples/dashboards/kibana.ndjson");
const GRAFANA: &str = include_str!("../../examples/dashboards/grafana.json");

/// What every object's id begins with.
const OURS: &str = "sluice-";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// For whom
    #[arg(value_enum)]
    of: Viewer,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Viewer {
    /// Saved objects over the indices, one a line, for Kibana or OpenSearch Dashboards
    Kibana,
    /// A dashboard for operators over the metrics of `serve --http`
    Grafana,
}

/// Prints a file to import.
pub(super) fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    match options.of {
        Viewer::Grafana => output::lines(GRAFANA)?,
        Viewer::Kibana => {
            let prefix = settings.elasticsearch.as_ref().map_or("", |index| index.index_prefix.as_str());
            let objects = objects(prefix)?;
            for lack in lacking(&objects, prefix, settings.catalog) {
                output::note(format_args!("warning: {lack}"));
            }
            for object in &objects {
                output::json(object)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The saved objects over the indices of that prefix.
fn objects(prefix: &str) -> Result<Vec<Value>, serde_json::Error> {
    let renamed = |id: &Value| {
        let name = id.as_str().and_then(|id| id.strip_prefix(OURS)).unwrap_or_default();
        Value::from(format!("{OURS}{prefix}{name}"))
    };
    let mut objects: Vec<Value> = KIBANA.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for object in &mut objects {
        object["id"] = renamed(&object["id"]);
        for reference in object["references"].as_array_mut().into_iter().flatten() {
            reference["id"] = renamed(&reference["id"]);
        }
        let is_view = object["type"] == "index-pattern";
        let title = &mut object["attributes"]["title"];
        let name = title.as_str().unwrap_or_default();
        *title = match prefix.trim_end_matches(['-', '_', '.']) {
            _ if is_view => format!("{prefix}{name}"),
            "" => continue,
            whose => format!("{name} ({whose})"),
        }
        .into();
    }
    Ok(objects)
}

/// What objects ask for and no index of these definitions has.
fn lacking(objects: &[Value], prefix: &str, catalog: Catalog) -> Vec<String> {
    let indices = Indices::of(catalog);
    let mut lacks = Vec::new();
    for object in objects {
        let title = &object["attributes"]["title"];
        let of =
            if object["type"] == "index-pattern" { &object["id"] } else { &object["references"][0]["id"] };
        let index = of.as_str().and_then(|id| id.strip_prefix(OURS)?.strip_prefix(prefix));
        // A dashboard refers to panels, which are looked at themselves.
        let Some(index) = index.and_then(|index| IndexName::from_name(catalog, index)) else { continue };
        let fields = indices.fields(index);
        let unknown = fields_of(object).into_iter().filter(|field| fields.get(field).is_none());
        lacks.extend(unknown.map(|field| format!("{index} has no field {field}, which {title} asks for")));
    }
    lacks
}

/// Every field that an object names.
fn fields_of(object: &Value) -> Vec<String> {
    let attributes = &object["attributes"];
    // Kibana keeps these parts of an object as text.
    let parsed = |text: &Value| serde_json::from_str(text.as_str().unwrap_or("null")).unwrap_or(Value::Null);
    let shown = parsed(&attributes["visState"]);
    let asked = parsed(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut fields = vec![attributes["timeFieldName"].clone()];
    fields.extend(list(&shown["aggs"]).iter().map(|aggregation| aggregation["params"]["field"].clone()));
    fields.extend(list(&attributes["columns"]));
    fields.extend(list(&attributes["sort"]).iter().map(|by| by[0].clone()));
    // A question of ours compares one field.
    fields
        .extend(asked["query"]["query"].as_str().and_then(|query| query.split(' ').next()).map(Value::from));
    fields.iter().filter_map(Value::as_str).filter(|field| !field.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono_tz::Tz;

    use super::*;
    use crate::domain::Definition;

    fn ids(objects: &[Value]) -> BTreeSet<&str> {
        objects.iter().map(|object| object["id"].as_str().expect("an id")).collect()
    }

    #[test]
    fn objects_of_two_prefixes_share_nothing_and_name_the_indices_that_are_written() {
        let (plain, prefixed) = (objects("").expect("objects"), objects("acme-").expect("objects"));
        assert_eq!(
            plain,
            KIBANA.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
        );
        assert!(ids(&plain).is_disjoint(&ids(&prefixed)));
        for objects in [&plain, &prefixed] {
            let known = ids(objects);
            assert_eq!(known.len(), objects.len(), "an id is there twice");
            let references =
                objects.iter().flat_map(|object| object["references"].as_array().expect("references"));
            for reference in references {
                assert!(
                    known.contains(reference["id"].as_str().expect("an id")),
                    "{reference} leads nowhere"
                );
            }
        }
        let views = prefixed.iter().filter(|object| object["type"] == "index-pattern");
        let titles: BTreeSet<&str> =
            views.map(|view| view["attributes"]["title"].as_str().expect("a title")).collect();
        assert_eq!(
            titles,
            BTreeSet::from(["acme-chat_sessions", "acme-eventos", "acme-leads", "acme-sluice-logs"])
        );
        let is_there = |title: &str| prefixed.iter().any(|object| object["attributes"]["title"] == title);
        assert!(is_there("sluice: leads e conversas (acme)"));
    }

    #[test]
    fn a_field_that_no_definition_has_is_told_with_the_panel_that_asks_for_it() {
        let objects = objects("acme-").expect("objects");
        for object in objects.iter().filter(|object| object["type"] != "dashboard") {
            assert!(!fields_of(object).is_empty(), "{object}");
        }
        assert_eq!(lacking(&objects, "acme-", Catalog::built_in()), Vec::<String>::new());

        let leads = "name = \"leads\"\nabout = \"x\"\nentity = \"lead\"\nkey = { column = \"id\", type = \"uuid\" }\n\
             columns = [{ name = \"origem\", type = \"text\" }]\n[event]\ncategoria = \"c\"\nevento = \"e\"\n";
        let leads = Definition::parse(leads).expect("a definition");
        let told = lacking(&objects, "acme-", Catalog::of(vec![leads], Tz::UTC));
        let expected = "leads has no field utm_campaign.keyword, which \"Leads por campanha, com o score médio (acme)\" asks for";
        assert!(told.iter().any(|told| told == expected), "{told:?}");
        assert!(!told.iter().any(|told| told.contains("origem.keyword")), "{told:?}");
    }
}
