//! What a webhook is sent: a sentence for people, which Slack and what takes Slack's format show, and the same for programs.

use serde_json::{Map, Value, json};

use crate::{
    domain::{Catalog, Cell, Row, Table, json::to_value},
    mcp::output::{Outgoing as Leaving, fence::quoted},
    store::{AlertRule, Outgoing},
};

/// The longest text of a row that is sent, in characters; the row has all of it.
const MAX_TEXT: usize = 500;

/// Columns that a sentence tells of.
const MAX_TOLD: usize = 6;

/// Words that, after an @, call everybody in a chat.
const EVERYBODY: [&str; 4] = ["channel", "here", "everyone", "all"];

pub(super) fn of(outgoing: &Outgoing, catalog: Catalog, leaving: &Leaving) -> Value {
    let state = if outgoing.is_over { "resolved" } else { "fired" };
    let table = outgoing.table.as_ref().and_then(|table| catalog.get(&table.0));
    let row = table.zip(outgoing.row.as_ref()).and_then(|(table, row)| Row::of(table, row.as_str()));
    let columns = row.as_ref().map(|row| columns(row, leaving)).unwrap_or_default();
    let key = key(outgoing, table, leaving);
    let mut condition = outgoing.rule.to_string();
    leaving.text(&mut condition);
    let mut body = json!({
        "text": "",
        // Text of strangers makes no previews of pages of theirs.
        "unfurl_links": false,
        "unfurl_media": false,
        "id": outgoing.id,
        "alert": outgoing.alert,
        "condition": condition,
        "state": state,
        "at": outgoing.fired_at,
    });
    let mut text = format!("{}: {}", outgoing.alert, if outgoing.is_over { "over. " } else { "" });
    if let Some(table) = &outgoing.table {
        text.push_str(&sentence(outgoing, row.as_ref().map(|row| row.table), &key, &columns));
        body["table"] = table.0.clone().into();
        body["key"] = key.into();
        body["row"] = columns.into();
    } else {
        let mut detail = outgoing.detail.clone().unwrap_or_default();
        leaving.text(&mut detail);
        text.push_str(&detail);
        body["detail"] = detail.into();
    }
    body["text"] = escaped(&text).into();
    body
}

/// The row's key, as it may leave.
fn key(outgoing: &Outgoing, table: Option<Table>, leaving: &Leaving) -> String {
    let mut key = Value::from(outgoing.subject.as_str());
    match table {
        Some(table) => leaving.field(&table.key.column, &mut key),
        None => leaving.value(&mut key),
    }
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

/// The columns that have a value, as they may leave.
fn columns(row: &Row<'_>, leaving: &Leaving) -> Map<String, Value> {
    let told = row.cells().filter_map(|(column, cell)| {
        let mut value = match cell {
            Cell::Null => return None,
            Cell::Json(json) => to_value(&json),
            Cell::Number(digits) => to_value(digits),
            Cell::Integer(number) => number.into(),
            Cell::Boolean(value) => value.into(),
            Cell::List(items) => items.into(),
            text => text.to_text()?.into(),
        };
        // What is to be masked is found only where it is whole.
        leaving.field(&column.name, &mut value);
        match &mut value {
            Value::String(text) => cut(text),
            Value::Array(items) => items.iter_mut().for_each(|item| {
                if let Value::String(text) = item {
                    cut(text);
                }
            }),
            _ => {}
        }
        (value.to_string().len() <= 4 * MAX_TEXT).then(|| (column.name.clone(), value))
    });
    told.collect()
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
}

/// Whom it is about, and what of it was asked for.
fn sentence(outgoing: &Outgoing, table: Option<Table>, key: &str, columns: &Map<String, Value>) -> String {
    let shown = |name: &String| {
        let value = columns.get(name)?;
        Some(quoted(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str()))
    };
    let definition = table.map(Table::definition);
    let names = definition.map(|definition| definition.event.usuario.as_slice()).unwrap_or_default();
    // A name says more than what is left of a contact.
    let is_plain = |name: &&String| {
        definition.and_then(|definition| definition.column(name)).is_some_and(|column| !column.masked)
    };
    let plain = names.iter().filter(is_plain).find_map(shown);
    let mut told: Vec<String> = plain.or_else(|| names.iter().find_map(shown)).into_iter().collect();
    if let AlertRule::Row { conditions, .. } = &outgoing.rule {
        let of = |name: &String| Some(format!("{name} {}", shown(name)?));
        told.extend(conditions.iter().take(MAX_TOLD).filter_map(|condition| of(&condition.column)));
    }
    let name = outgoing.table.as_ref().map(|table| table.0.as_str()).unwrap_or_default();
    told.push(format!("{name} {}", quoted(key)));
    told.join(", ")
}

/// Text in which nothing is a link, a mention or markup of Slack's: it has a meaning for `&`, `<` and `>` alone. Chats that
/// read more into it must not be made to call everybody.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut parts = text.split('@');
    let mut escaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let lower = part.to_lowercase();
        escaped.push('@');
        if EVERYBODY.iter().any(|word| lower.starts_with(word)) {
            escaped.push('\u{2060}');
        }
        escaped.push_str(part);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{Compare, Definition, Json, TableName},
        mcp::output::Masking,
        source::Condition,
    };

    fn fired(row: Option<&Value>) -> Outgoing {
        let condition = Condition {
            column: "score_qualificacao".to_owned(),
            compare: Compare::Gte,
            value: "80".to_owned(),
        };
        Outgoing {
            id: Uuid::nil(),
            alert: "quentes".to_owned(),
            rule: AlertRule::Row { table: TableName("leads".to_owned()), conditions: vec![condition] },
            target: "vendas".to_owned(),
            is_over: false,
            table: Some(TableName("leads".to_owned())),
            subject: "7".to_owned(),
            row: row.map(|row| Json::try_from(Bytes::from(row.to_string())).expect("JSON")),
            detail: None,
            fired_at: Utc::now(),
            attempts: 1,
        }
    }

    fn body(row: Option<&Value>, masking: Option<Masking>) -> Value {
        let catalog = Catalog::built_in();
        of(&fired(row), catalog, &Leaving::new(masking, catalog))
    }

    #[test]
    fn a_hostile_name_makes_no_link_no_mention_and_no_second_line() {
        let name = "<!channel> <https://evil.example|Ana> & @Channel\n@here\u{202e} »";
        let row = json!({"nome": name, "score_qualificacao": 91, "interesse": [name]});
        let body = body(Some(&row), Some(Masking::of(Catalog::built_in())));
        let text = body["text"].as_str().expect("text");
        assert!(
            text.starts_with(
                "quentes: «&lt;!channel&gt; &lt;https://evil.example|Ana&gt; &amp; @\u{2060}Channel"
            ),
            "{text}"
        );
        for part in ["<", ">", "\n", "\u{202e}", "@here", "@Channel"] {
            assert!(!text.contains(part), "{part:?} in {text}");
        }
        assert!(text.contains("score_qualificacao «91»") && text.contains("leads «7»"), "{text}");
    }

    #[test]
    fn contacts_are_masked_unless_they_are_revealed() {
        let row = json!({"nome": "Ana", "email": "ana@exemplo.com.br", "telefone": "(11) 98765-4321", "score_qualificacao": 91.50});
        let masked = body(Some(&row), Some(Masking::of(Catalog::built_in())));
        assert!(!masked.to_string().contains("ana@") && !masked.to_string().contains("98765"), "{masked}");
        let revealed = body(Some(&row), None);
        assert_eq!(revealed["row"]["email"], "ana@exemplo.com.br");
        assert_eq!(revealed["row"]["telefone"], "(11) 98765-4321");
    }

    #[test]
    fn a_key_that_is_a_contact_is_masked_wherever_it_is_told() {
        let toml = "name = \"assinantes\"\nabout = \"x\"\nentity = \"assinante\"\n\
                    key = { column = \"email\", type = \"text\" }\nevent = { categoria = \"c\", evento = \"e\" }\n";
        let definition = Definition::parse(toml).expect("a definition");
        let catalog = Catalog::of(vec![definition], chrono_tz::Tz::UTC);
        let outgoing = |table: &str, subject: &str| Outgoing {
            table: Some(TableName(table.to_owned())),
            subject: subject.to_owned(),
            ..fired(None)
        };
        let masked = Leaving::new(Some(Masking::of(catalog)), catalog);
        for (table, subject, key) in [
            ("assinantes", "ana@exemplo.com.br", "a***@***"),
            ("assinantes", "sem arroba", "***"),
            ("desconhecida", "ana@exemplo.com.br", "a***@***"),
        ] {
            let body = of(&outgoing(table, subject), catalog, &masked);
            assert_eq!(body["key"], key, "{body}");
            assert_eq!(body["text"], format!("quentes: {table} «{key}»"), "{body}");
        }
        let body = of(&outgoing("assinantes", "ana@exemplo.com.br"), catalog, &Leaving::new(None, catalog));
        assert_eq!(body["key"], "ana@exemplo.com.br");
    }

    #[test]
    fn a_contact_is_masked_before_a_text_is_cut_amid_it() {
        let text = format!("{} ana@exemplo.com.br", "x".repeat(MAX_TEXT - 8));
        let row = json!({"nome": text, "interesse": [text]});
        let body = body(Some(&row), Some(Masking::of(Catalog::built_in())));
        assert!(!body.to_string().contains("ana@"), "{body}");
        for told in [&body["row"]["nome"], &body["row"]["interesse"][0]] {
            assert!(told.as_str().is_some_and(|told| told.ends_with('…')), "{body}");
        }
    }

    #[test]
    fn a_row_that_is_not_there_any_more_is_told_by_its_key_and_a_long_one_is_cut() {
        assert_eq!(body(None, None)["text"], "quentes: leads «7»");
        let body = body(Some(&json!({"nome": "a".repeat(1 << 20), "origem": "b".repeat(1 << 20)})), None);
        assert!(body.to_string().len() < 4_000, "{}", body.to_string().len());
    }

    #[test]
    fn what_is_no_row_is_told_in_a_sentence() {
        let over = Outgoing {
            rule: AlertRule::Lag { records: 1000, minutes: 5 },
            is_over: true,
            table: None,
            detail: Some("all is well again".to_owned()),
            ..fired(None)
        };
        let catalog = Catalog::built_in();
        let body = of(&over, catalog, &Leaving::new(None, catalog));
        assert_eq!(
            (&body["state"], &body["text"]),
            (&json!("resolved"), &json!("quentes: over. all is well again"))
        );
        assert_eq!(body["condition"], "a sink more than 1000 records behind for 5 minutes");
    }
}
