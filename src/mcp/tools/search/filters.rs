//! Structured conditions, put into Lucene's syntax: there is one language that the indices answer.

use chrono::Utc;
use chrono_tz::Tz;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{
    index::{
        Fields,
        query::{self, quoted},
    },
    mcp::answer::ToolError,
};

/// One condition.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Like `valor`, `metadata.origem`, `status_lead.keyword`.
    field: String,
    op: Op,
    /// Left out for exists and missing; a list for in.
    #[serde(default)]
    #[schemars(schema_with = "value_schema")]
    value: Option<Given>,
}

/// Said in full: an untagged choice of scalars would come out as "anything", which strict clients dislike.
fn value_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string"}, {"type": "number"}, {"type": "boolean"},
        {"type": "array", "items": {"type": "string"}}
    ]})
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Prefix,
    Contains,
    Exists,
    Missing,
    /// Older, or never: `last_interaction_at` missing_or_before `now-7d`.
    MissingOrBefore,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Boolean(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Whole(whole) => whole.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The query with every filter added; `None` where there is neither.
pub(super) fn combined(
    fields: &'static Fields,
    query: Option<&str>,
    filters: &[Filter],
    zone: Tz,
) -> Result<Option<String>, ToolError> {
    let query = query.filter(|query| !query.trim().is_empty());
    if filters.is_empty() {
        return Ok(query.map(str::to_owned));
    }
    let now = Utc::now().with_timezone(&zone);
    let mut clauses = Vec::new();
    if let Some(query) = query {
        // By itself first: what is wrong with it stands where its writer put it.
        query::parse(query, fields, now).map_err(crate::index::SearchError::from)?;
        clauses.push(format!("+({query})"));
    }
    for (i, filter) in filters.iter().enumerate() {
        let refused = |problem: String| ToolError::argument(&format!("filters[{i}]"), problem);
        let clause = clause(filter).map_err(|problem| refused(problem.to_owned()))?;
        query::parse(&clause, fields, now)
            .map_err(|error| refused(format!("{}; {}", error.problem, error.instead)))?;
        clauses.push(clause);
    }
    Ok(Some(clauses.join(" ")))
}

fn clause(filter: &Filter) -> Result<String, &'static str> {
    let field = escaped(&filter.field);
    let one = || match &filter.value {
        Some(Given::One(value)) => Ok(value.text()),
        Some(Given::Many(_)) => Err("one value is wanted; use the op `in` for a list"),
        None => Err("value is missing"),
    };
    Ok(match filter.op {
        Op::Eq => format!("+{field}:{}", quoted(&one()?)),
        Op::Ne => format!("-{field}:{}", quoted(&one()?)),
        Op::Gt => format!("+{field}:>{}", quoted(&one()?)),
        Op::Gte => format!("+{field}:>={}", quoted(&one()?)),
        Op::Lt => format!("+{field}:<{}", quoted(&one()?)),
        Op::Lte => format!("+{field}:<={}", quoted(&one()?)),
        Op::Prefix => format!("+{field}:{}*", escaped(&one()?)),
        Op::Contains => format!("+{field}:*{}*", escaped(&one()?)),
        Op::Exists => format!("+_exists_:{field}"),
        Op::Missing => format!("-_exists_:{field}"),
        Op::MissingOrBefore => format!("+({field}:<{} OR (*:* AND NOT _exists_:{field}))", quoted(&one()?)),
        Op::In => match &filter.value {
            Some(Given::Many(values)) if !values.is_empty() => {
                let values: Vec<String> = values.iter().map(|value| quoted(&value.text())).collect();
                format!("+{field}:({})", values.join(" OR "))
            }
            _ => return Err("`in` wants a list of at least one value"),
        },
    })
}

/// Every sign stands for itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && !matches!(c, '.' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        domain::Catalog,
        index::{IndexName, Indices},
    };

    fn combine(query: Option<&str>, filters: Value) -> Result<Option<String>, String> {
        let filters: Vec<Filter> = serde_json::from_value(filters).expect("filters");
        let catalog = Catalog::built_in();
        let indices = Indices::of(catalog);
        let leads = IndexName::from_name(catalog, "leads").expect("leads");
        combined(indices.fields(leads), query, &filters, Tz::UTC).map_err(|error| error.to_string())
    }

    #[test]
    fn filters_become_clauses_whose_values_are_only_values() {
        let filters = json!([
            {"field": "score_qualificacao", "op": "gte", "value": 50},
            {"field": "status_lead.keyword", "op": "in", "value": ["novo", "em \"contato\""]},
            {"field": "email", "op": "exists"},
            {"field": "origem", "op": "ne", "value": "site OR nome:x"},
            {"field": "nome.keyword", "op": "prefix", "value": "Jo (*"},
            {"field": "last_interaction_at", "op": "missing_or_before", "value": "now-7d"},
        ]);
        let expected = "+(nome:ana OR nome:bia) +score_qualificacao:>=\"50\" \
                        +status_lead.keyword:(\"novo\" OR \"em \\\"contato\\\"\") +_exists_:email \
                        -origem:\"site OR nome:x\" +nome.keyword:Jo\\ \\(\\** \
                        +(last_interaction_at:<\"now-7d\" OR (*:* AND NOT _exists_:last_interaction_at))";
        assert_eq!(combine(Some("nome:ana OR nome:bia"), filters), Ok(Some(expected.to_owned())));
        assert_eq!(combine(Some(" "), json!([])), Ok(None));
    }

    #[test]
    fn a_wrong_filter_is_named_by_its_place() {
        for (filter, problem) in [
            (json!({"field": "nada", "op": "eq", "value": 1}), "no field `nada`"),
            (json!({"field": "score_qualificacao", "op": "gt", "value": "muito"}), "which is a number"),
            (json!({"field": "nome", "op": "eq"}), "value is missing"),
            (json!({"field": "nome", "op": "eq", "value": ["a"]}), "`in`"),
            (json!({"field": "nome", "op": "in", "value": "a"}), "list"),
        ] {
            let fine = json!({"field": "nome", "op": "exists"});
            let told = combine(None, json!([fine, filter])).expect_err("refused");
            assert!(told.starts_with("filters[1]: ") && told.contains(problem), "{told}");
        }
    }
}
