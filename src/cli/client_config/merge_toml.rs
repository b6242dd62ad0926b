//! As [`super::merge`], for clients whose file is TOML: comments, order and layout stay.

use serde_json::{Value, json};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::{
    clients::Configuration,
    merge::{MergeError, Merged},
};

/// The file as it would be with nothing else in it.
///
/// # Errors
/// Never, as there is nothing to collide with.
pub(super) fn whole(configuration: &Configuration, name: &str) -> Result<String, MergeError> {
    match merge("", configuration, name, false)? {
        Merged::Changed(text) => Ok(text),
        Merged::Unchanged => Ok(String::new()),
    }
}

/// The text with the server in it; an empty text is a file to be made.
///
/// # Errors
/// When the text can't be understood, or has another server of that name and `force` is not set.
pub(super) fn merge(
    text: &str,
    configuration: &Configuration,
    name: &str,
    force: bool,
) -> Result<Merged, MergeError> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    // What it quotes of the file may be a secret.
    let mut file: DocumentMut = body.parse().map_err(|error: toml_edit::TomlError| {
        let before = &body[..error.span().map_or(0, |span| span.start).min(body.len())];
        let line = before.rsplit('\n').next().unwrap_or_default();
        MergeError::Toml { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    })?;
    let there = toml::from_str::<Value>(body).ok().and_then(|file| {
        let server = file.get(configuration.section)?.get(name)?;
        Some(server.clone())
    });
    if there.as_ref().is_some_and(|there| filled(there) == filled(&configuration.entry)) {
        return Ok(Merged::Unchanged);
    }
    if there.is_some() && !force {
        return Err(MergeError::Taken(name.to_owned()));
    }
    let mut section = Table::new();
    section.set_implicit(true);
    let servers = file.entry(configuration.section).or_insert(Item::Table(section));
    let servers = servers.as_table_like_mut().ok_or(MergeError::Shape(configuration.section, "object"))?;
    servers.insert(name, item(&configuration.entry));
    let mut text = file.to_string();
    if body.contains("\r\n") {
        text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    Ok(Merged::Changed(format!("{mark}{text}")))
}

/// The members that are written: a table with nothing in it says what none says.
fn filled(entry: &Value) -> Vec<(&String, &Value)> {
    let members = entry.as_object().into_iter().flatten();
    members.filter(|(_, member)| **member != json!({})).collect()
}

fn item(entry: &Value) -> Item {
    match entry {
        Value::Object(_) => {
            let mut table = Table::new();
            for (name, member) in filled(entry) {
                table.insert(name, item(member));
            }
            Item::Table(table)
        }
        Value::Array(items) => {
            value(items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Array>())
        }
        Value::String(text) => value(text.as_str()),
        other => value(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sluice() -> Configuration {
        Configuration {
            section: "mcp_servers",
            entry: json!({
                "command": "C:\\Program Files\\sluice.exe", "args": ["serve"], "env": {"A": "x \"y\"\n"},
                "env_vars": ["SUPABASE_KEY"],
            }),
            inputs: Vec::new(),
            unfilled: Vec::new(),
        }
    }

    fn merged(text: &str, force: bool) -> String {
        match merge(text, &sluice(), "sluice", force).expect("a merge") {
            Merged::Changed(text) => text,
            Merged::Unchanged => panic!("nothing was changed"),
        }
    }

    fn server(text: &str) -> Value {
        toml::from_str::<Value>(text).expect("TOML")["mcp_servers"]["sluice"].clone()
    }

    #[test]
    fn an_empty_file_becomes_one_with_the_server() {
        let text = whole(&sluice(), "sluice").expect("TOML");
        assert!(
            text.starts_with("[mcp_servers.sluice]\n") && text.contains("\n[mcp_servers.sluice.env]\n"),
            "{text}"
        );
        assert_eq!(server(&text), sluice().entry);
    }

    #[test]
    fn a_server_without_variables_is_known_again() {
        let mut sluice = sluice();
        sluice.entry["env"] = json!({});
        let text = whole(&sluice, "sluice").expect("TOML");
        assert_eq!(merge(&text, &sluice, "sluice", false), Ok(Merged::Unchanged));
        let text = format!("{text}\n[mcp_servers.sluice.env]\n");
        assert_eq!(merge(&text, &sluice, "sluice", false), Ok(Merged::Unchanged));
        let text = format!("{text}A = 'x'\n");
        assert_eq!(merge(&text, &sluice, "sluice", false), Err(MergeError::Taken("sluice".to_owned())));
    }

    #[test]
    fn comments_order_and_other_servers_stay() {
        let text = "# mine\nmodel = \"o5\"  # fast\n\n[mcp_servers.other] # keep\ncommand = \"x\"\n\n[tui]\ntheme = 'dark'\n";
        let after = merged(text, false);
        for line in text.lines() {
            assert!(after.lines().any(|kept| kept == line), "{line} in {after}");
        }
        assert_eq!(server(&after), sluice().entry);
        assert_eq!(merge(&after, &sluice(), "sluice", false), Ok(Merged::Unchanged));
        for text in [
            "mcp_servers = { other = { command = 'x' } } # in one line\n",
            "mcp_servers.other.command = 'x'\n",
        ] {
            let after = merged(text, false);
            assert_eq!(server(&after), sluice().entry, "{after}");
            assert!(after.contains("'x'"), "{after}");
        }
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_stay() {
        let after = merged("\u{feff}model = \"o5\"\r\n", false);
        assert!(after.starts_with("\u{feff}model") && !after.replace("\r\n", "").contains('\n'), "{after:?}");
    }

    #[test]
    fn another_server_of_that_name_is_replaced_only_by_force() {
        let text = "[mcp_servers.sluice]\ncommand = \"mine\"\n\n[mcp_servers.b]\ncommand = \"b\"\n";
        assert_eq!(merge(text, &sluice(), "sluice", false), Err(MergeError::Taken("sluice".into())));
        let after = merged(text, true);
        assert!(server(&after) == sluice().entry && after.contains("[mcp_servers.b]"), "{after}");
    }

    #[test]
    fn what_is_not_understood_is_refused_without_being_quoted() {
        let error = merge("model = 1\nkey = segredo\n", &sluice(), "sluice", true).expect_err("no TOML");
        assert!(matches!(error, MergeError::Toml { line: 2, .. }), "{error:?}");
        assert!(!error.to_string().contains("segredo"), "{error}");
        let shape = merge("mcp_servers = 5\n", &sluice(), "sluice", true);
        assert_eq!(shape, Err(MergeError::Shape("mcp_servers", "object")));
    }
}
