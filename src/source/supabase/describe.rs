//! What a project tells of its tables: its OpenAPI description, and where it refuses to tell, a few rows.

use serde_json::Value;

use super::{
    SupabaseSource,
    columns::hidden,
    http::Refusal,
    query::{name, parameter},
    told,
};
use crate::{
    domain::{ColumnKind, Json, Members, Table, json, parse_instant},
    fault::Fault,
    source::description::{
        Basis, DescribedColumn, Description, Difference, DifferenceKind, KEY_FOR_ALL, differences,
        kind_of_format,
    },
};

/// Rows that are looked at.
const LOOK: u32 = 50;
/// Rows that are looked at for a trigger, the ones changed last.
const LOOK_FOR_TRIGGER: u32 = 200;

impl SupabaseSource {
    pub(super) async fn description(
        &self,
        schema: Option<&str>,
        table: &str,
    ) -> Result<Option<Description>, Fault> {
        let Some(openapi) = self.openapi(schema).await? else {
            return self.seen(schema, table, "*").await;
        };
        let Some(mut description) = described(&openapi, schema, table) else { return Ok(None) };
        // What a type's name does not tell: that its values are objects. Credentials are not looked at.
        let doubtful = description.columns.iter().filter(|column| column.kind == Some(ColumnKind::Text));
        let doubtful: Vec<String> =
            doubtful.filter(|column| column.format.contains('.')).map(|column| name(&column.name)).collect();
        if !doubtful.is_empty()
            && let Ok((_, rows)) = self.look(schema, table, &doubtful.join(",")).await
        {
            description.correct_by(&rows);
        }
        Ok(Some(description))
    }

    /// A guess by rows; nothing where there is no such table.
    async fn seen(
        &self,
        schema: Option<&str>,
        table: &str,
        select: &str,
    ) -> Result<Option<Description>, Fault> {
        match self.look(schema, table, select).await {
            Ok((_, rows)) => {
                Ok(Some(Description::of_rows(schema, table, &rows).unwrap_or_else(|| Description {
                    schema: schema.map(str::to_owned),
                    table: table.to_owned(),
                    comment: None,
                    columns: Vec::new(),
                    basis: Basis::Rows(0),
                })))
            }
            Err(Refusal::Answer { error, .. }) if error.is_missing_table() => Ok(None),
            Err(refusal) => Err(self.http.fault(&format!("looking at {table}"), refusal)),
        }
    }

    async fn look(
        &self,
        schema: Option<&str>,
        table: &str,
        select: &str,
    ) -> Result<(super::Reply, Vec<Json>), Refusal> {
        let query = [parameter("select", select), parameter("limit", LOOK)];
        self.rows(&format!("looking at {table}"), table, schema, &query).await
    }

    /// How a table differs from its definition.
    pub(super) async fn differences_of(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        let definition = table.definition();
        let schema = definition.source.schema.as_deref();
        let description = match self.openapi(schema).await? {
            Some(openapi) => described(&openapi, schema, table.source_name()),
            None if hidden(table, &self.asked_for).is_empty() => {
                self.seen(schema, table.source_name(), "*").await?
            }
            None => return self.differences_by_asking(table).await,
        };
        let Some(description) = description else { return Ok(vec![missing(table, self.http.schema())]) };
        if description.columns.is_empty() {
            let problem =
                "the project does not describe itself to this key, and the table has no row to look at";
            let next_step = "use a secret key in SUPABASE_KEY, or check again when there are rows";
            return Ok(vec![Difference::new(DifferenceKind::Unknown, None, problem, next_step)]);
        }
        let mut found = differences(table, &description);
        let is_there = |name: &str| description.column(definition.source_of(name)).is_some();
        if let (Some(created), Some(modified)) = (&definition.time.created, &definition.time.modified)
            && is_there(created)
            && is_there(modified)
        {
            found.extend(self.trigger(table, created, modified).await);
        }
        Ok(found)
    }

    /// Of a table with columns that must not be read, nothing but the defined ones can be asked for: one by one.
    async fn differences_by_asking(&self, table: Table) -> Result<Vec<Difference>, Fault> {
        let definition = table.definition();
        let schema = definition.source.schema.as_deref();
        let mut selected: Vec<&str> = vec![definition.key_source()];
        selected.extend(definition.columns.iter().map(crate::domain::Column::source));
        let hidden = hidden(table, &self.asked_for);
        selected.retain(|column| !hidden.contains(column));
        loop {
            let select = selected.iter().map(|column| name(column)).collect::<Vec<_>>().join(",");
            match self.look(schema, table.source_name(), &select).await {
                Ok((_, rows)) => {
                    let Some(mut seen) = Description::of_rows(schema, table.source_name(), &rows) else {
                        return Ok(Vec::new());
                    };
                    // What was not asked for is not missing.
                    seen.columns.extend(hidden.iter().map(|column| guessed(column)));
                    return Ok(differences(table, &seen));
                }
                Err(Refusal::Answer { error, .. }) if error.is_missing_table() => {
                    return Ok(vec![missing(table, self.http.schema())]);
                }
                Err(refusal) => {
                    let column = match &refusal {
                        Refusal::Answer { error, .. } => {
                            error.missing_column(table.source_name()).map(str::to_owned)
                        }
                        _ => None,
                    };
                    let before = selected.len();
                    selected.retain(|selected| Some(*selected) != column.as_deref());
                    if selected.len() == before || selected.is_empty() {
                        return Err(self.http.fault(&format!("looking at {table}"), refusal));
                    }
                }
            }
        }
    }

    /// The rows that no event can be made of.
    pub(super) async fn without_key(&self, table: Table) -> Option<Difference> {
        let key = table.definition().key_source();
        let rows = match self.counted(table, Some(format!("{}.is.null", name(key)))).await {
            Ok((_, rows)) => rows,
            Err(refusal) => {
                let fault = self.http.fault(&format!("counting {table}"), refusal);
                tracing::debug!(%table, problem = told(&fault), "no count of rows without a key");
                return None;
            }
        };
        (rows > 0).then(|| {
            Difference::new(
                DifferenceKind::Key,
                Some(key),
                format!("{rows} rows have no {key}: no event can be made of them"),
                KEY_FOR_ALL,
            )
        })
    }

    /// Whether of the rows changed last every one says that it was never changed: then nothing may write that time.
    async fn trigger(&self, table: Table, created: &str, modified: &str) -> Option<Difference> {
        let definition = table.definition();
        let (created, modified) = (definition.source_of(created), definition.source_of(modified));
        let query = [
            parameter("select", format!("{},{}", name(created), name(modified))),
            parameter("order", format!("{}.desc.nullslast", name(modified))),
            parameter("limit", LOOK_FOR_TRIGGER),
        ];
        let what = format!("looking for changes in {table}");
        let asked = self.rows(&what, table.source_name(), definition.source.schema.as_deref(), &query).await;
        let rows = match asked {
            Ok((_, rows)) => rows,
            Err(refusal) => {
                tracing::debug!(%table, problem = told(&self.http.fault(&what, refusal)), "no look at triggers");
                return None;
            }
        };
        let is_unchanged = |row: &Json| {
            let members = row.members()?;
            let instant = |name: &str| parse_instant(&json::text(members.get(name)?)?, table.zone());
            Some(instant(modified)? == instant(created)?)
        };
        // A few rows may well never have been changed.
        let all = rows.len() >= 20 && rows.iter().all(|row| is_unchanged(row) == Some(true));
        all.then(|| {
            Difference::new(
                DifferenceKind::Trigger,
                Some(modified),
                format!("in each of the {} rows changed last {modified} is {created}: no trigger seems to keep it", rows.len()),
                format!(
                    "create a trigger that sets {modified} at every update (extension moddatetime), else changes are found only by syncs of the whole window"
                ),
            )
        })
    }
}

fn missing(table: Table, schema: &str) -> Difference {
    let schema = table.definition().source.schema.as_deref().unwrap_or(schema);
    Difference::new(
        DifferenceKind::MissingTable,
        None,
        format!("the project serves no {} in the schema {schema}", table.source_name()),
        "name the table in source.table of its definition, or its schema in source.schema; see what the project serves with discover",
    )
}

fn guessed(name: &str) -> DescribedColumn {
    DescribedColumn {
        name: name.to_owned(),
        kind: None,
        format: String::new(),
        is_key: false,
        comment: None,
        values: Vec::new(),
        refers_to: None,
    }
}

/// The tables and views of a description.
pub(super) fn tables(openapi: &Json) -> Vec<String> {
    let definitions = openapi.members().and_then(|members| Members::of(members.get("definitions")?));
    definitions.unwrap_or_default().iter().map(|definition| definition.name.clone().into_owned()).collect()
}

/// The columns of a table in a description, in its order.
pub(super) fn properties<'a>(openapi: &'a Json, table: &str) -> Option<Members<'a>> {
    Members::of(Members::of(definition(openapi, table)?)?.get("properties")?)
}

fn definition<'a>(openapi: &'a Json, table: &str) -> Option<&'a str> {
    Members::of(openapi.members()?.get("definitions")?)?.get(table)
}

/// What PostgREST's OpenAPI description tells of a table; nothing where it has none of that name.
fn described(openapi: &Json, schema: Option<&str>, table: &str) -> Option<Description> {
    let definition = json::to_value(definition(openapi, table)?);
    let properties = properties(openapi, table)?;
    let columns = properties.iter().map(|member| {
        let property = json::to_value(member.value);
        let text = |member: &str| property.get(member).and_then(Value::as_str).unwrap_or_default();
        let format = text("format");
        let description = text("description");
        let values = property.get("enum").and_then(Value::as_array);
        DescribedColumn {
            name: member.name.clone().into_owned(),
            kind: Some(kind_of_property(format, text("type"))),
            format: format.to_owned(),
            is_key: description.contains("<pk/>"),
            comment: comment(description),
            values: values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            refers_to: referred(description),
        }
    });
    Some(Description {
        schema: schema.map(str::to_owned),
        table: table.to_owned(),
        comment: definition.get("description").and_then(Value::as_str).and_then(comment),
        columns: columns.collect(),
        basis: Basis::Described,
    })
}

/// By the database's name of the type; where there is none by JSON's.
fn kind_of_property(format: &str, kind: &str) -> ColumnKind {
    match (format, kind) {
        ("", "integer") => ColumnKind::Integer,
        ("", "number") => ColumnKind::Number,
        ("", "boolean") => ColumnKind::Boolean,
        ("", "array") => ColumnKind::List,
        ("", "object") => ColumnKind::Json,
        (format, _) => kind_of_format(format),
    }
}

/// What people wrote, without PostgREST's own notes about keys.
fn comment(description: &str) -> Option<String> {
    let said = description.split("Note:\n").next().unwrap_or_default();
    let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    (!one_line.is_empty()).then_some(one_line)
}

/// The table of `<fk table='leads' column='id'/>`.
fn referred(description: &str) -> Option<String> {
    let (_, after) = description.split_once("<fk table='")?;
    let (table, _) = after.split_once('\'')?;
    Some(table.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_read_as_postgrest_describes_it() {
        let openapi = json!({"swagger": "2.0", "definitions": {"mensagens": {
        "description": "What was said.", "required": ["id"], "type": "object", "properties": {
            "id": {"format": "bigint", "type": "integer", "description": "Note:\nThis is a Primary Key.<pk/>"},
            "lead_id": {"format": "uuid", "type": "string",
                "description": "who\nsaid it\n\nNote:\nThis is a Foreign Key to `leads.id`.<fk table='leads' column='id'/>"},
            "papel": {"format": "public.papel", "type": "string", "enum": ["user", "bot"]},
            "tags": {"format": "text[]", "type": "array", "items": {"type": "string"}},
            "extra": {"format": "jsonb"}, "nota": {"format": "numeric", "type": "number"},
            "quando": {"format": "timestamp without time zone", "type": "string"}
        }}}});
        let openapi = Json::from(&openapi);
        let description = described(&openapi, None, "mensagens").expect("a description");
        assert_eq!(description.comment.as_deref(), Some("What was said."));
        let column = |name: &str| description.column(name).expect("a column");
        assert!(column("id").is_key && !column("lead_id").is_key);
        assert_eq!(column("id").comment, None);
        assert_eq!(column("lead_id").comment.as_deref(), Some("who said it"));
        assert_eq!(column("lead_id").refers_to.as_deref(), Some("leads"));
        assert_eq!(column("papel").values, ["user", "bot"]);
        assert_eq!(column("tags").kind, Some(ColumnKind::List));
        assert_eq!(column("extra").kind, Some(ColumnKind::Json));
        assert_eq!(column("quando").kind, Some(ColumnKind::Timestamp));
        assert_eq!(tables(&openapi), ["mensagens"]);
        assert_eq!(described(&openapi, None, "outra"), None);
    }
}
