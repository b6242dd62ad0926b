//! Two readers of an answer that come to the same facts: one of its text, as a model reads it, and one of its structured
//! content. The integration tests read answers by them, too.

use std::{collections::BTreeMap, iter::Peekable, str::Lines};

use serde_json::Value;

/// Every value by its path: `events[3].usuario`.
pub type Facts = BTreeMap<String, String>;

/// What a program reads in structured content.
pub fn structured(facts: &mut Facts, path: &str, value: &Value) {
    match value {
        Value::Object(members) if path.is_empty() && members.get("rows").is_some_and(Value::is_array) => {
            let columns: Vec<String> =
                members["columns"].as_array().expect("columns").iter().map(heading).collect();
            for (n, row) in members["rows"].as_array().expect("rows").iter().enumerate() {
                for (column, cell) in row.as_array().expect("a row").iter().enumerate() {
                    structured(facts, &format!("rows[{n}].{}", columns[column]), cell);
                }
            }
            for (name, member) in
                members.iter().filter(|(name, _)| !["rows", "columns"].contains(&name.as_str()))
            {
                structured(facts, name, member);
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                structured(facts, &below(path, name), member);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(is_row) => {
            for (n, item) in items.iter().enumerate() {
                structured(facts, &format!("{path}[{n}]"), item);
            }
        }
        Value::Array(items) if items.iter().all(is_word) && !items.is_empty() => {
            let words: Vec<String> = items.iter().map(spelled).collect();
            facts.insert(path.to_owned(), words.join(", "));
        }
        Value::Array(items) if items.iter().any(Value::is_string) && !path.contains(['.', '[']) => {
            for (n, item) in items.iter().enumerate() {
                structured(facts, &format!("{path}[{n}]"), item);
            }
        }
        // JSON is the same with or without its quotes.
        Value::String(text) if text.starts_with(['{', '[']) => match serde_json::from_str(text) {
            Ok(inner) => structured(facts, path, &inner),
            Err(_) => drop(facts.insert(path.to_owned(), spelled(value))),
        },
        other => drop(facts.insert(path.to_owned(), spelled(other))),
    }
}

fn is_row(value: &Value) -> bool {
    value.as_object().is_some_and(|members| !members.is_empty())
}

fn heading(column: &Value) -> String {
    format!("{} ({})", column["name"].as_str().expect("a name"), column["type"].as_str().expect("a type"))
}

fn below(path: &str, name: &str) -> String {
    let name = name.replace('«', "‹").replace('»', "›");
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn is_word(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            !text.is_empty()
                && text != "none"
                && serde_json::from_str::<Value>(text).is_err()
                && text.chars().all(|c| c.is_alphanumeric() || "_-.:/@+*#%=&?~$".contains(c))
        }
        other => other.is_number() || other.is_boolean(),
    }
}

/// A value as a fact: marks inside a text are others.
fn spelled(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace('«', "‹").replace('»', "›")
}

/// What a model reads in the text.
pub fn read(text: &str) -> Facts {
    let mut facts = Facts::new();
    members(&mut facts, "", &mut text.lines().peekable(), 0);
    facts
}

/// The line's own text, where it is no less deep.
fn at_depth<'a>(lines: &mut Peekable<Lines<'a>>, depth: usize) -> Option<&'a str> {
    lines.peek()?.strip_prefix("  ".repeat(depth).as_str()).filter(|line| !line.starts_with(' '))
}

fn members(facts: &mut Facts, path: &str, lines: &mut Peekable<Lines<'_>>, depth: usize) {
    while let Some(line) = at_depth(lines, depth) {
        if line.starts_with("- ") {
            return;
        }
        lines.next();
        member(facts, path, line, lines, depth);
    }
}

fn member(facts: &mut Facts, path: &str, line: &str, lines: &mut Peekable<Lines<'_>>, depth: usize) {
    let (name, rest) = match line.strip_prefix('«') {
        Some(name) => name.split_once('»').expect("a closed mark"),
        None => line.split_at(line.find([':', ' ']).unwrap_or_else(|| panic!("no member: {line:?}"))),
    };
    let path = below(path, &unescaped(name));
    if let Some(value) = rest.strip_prefix(": ") {
        return on_a_line(facts, &path, value);
    }
    if rest != ":" {
        assert!(rest.starts_with(" ("), "{line:?}");
        return list(facts, &path, rest.contains("one a column"), lines, depth);
    }
    if at_depth(lines, depth).is_some_and(|line| line.starts_with("- ")) {
        bullets(facts, &path, 0, lines, depth);
    } else {
        members(facts, &path, lines, depth + 1);
    }
}

fn bullets(facts: &mut Facts, path: &str, from: usize, lines: &mut Peekable<Lines<'_>>, depth: usize) {
    let mut n = from;
    while let Some(item) = at_depth(lines, depth).and_then(|line| line.strip_prefix("- ")) {
        lines.next();
        on_a_line(facts, &format!("{path}[{n}]"), item);
        n += 1;
    }
}

fn list(facts: &mut Facts, path: &str, is_turned: bool, lines: &mut Peekable<Lines<'_>>, depth: usize) {
    let mut n = 0;
    if at_depth(lines, depth).is_some_and(|line| line.starts_with("- ")) {
        while let Some(first) = at_depth(lines, depth).and_then(|line| line.strip_prefix("- ")) {
            let is_object =
                lines.clone().nth(1).is_some_and(|next| next.starts_with(&"  ".repeat(depth + 1)))
                    || first.split_once(": ").is_some_and(|(name, _)| !name.contains(' '));
            if !is_object {
                break;
            }
            lines.next();
            let item = format!("{path}[{n}]");
            member(facts, &item, first, lines, depth + 1);
            members(facts, &item, lines, depth + 1);
            n += 1;
        }
        return bullets(facts, path, n, lines, depth);
    }
    let mut common = Facts::new();
    while let Some(line) = at_depth(lines, depth + 1) {
        lines.next();
        member(&mut common, "", line, lines, depth + 1);
    }
    let header = cells(at_depth(lines, depth).expect("a header"));
    lines.next();
    assert!(lines.next().is_some_and(|line| line.trim_start().starts_with("|---|")), "no table at {path}");
    while let Some(line) = at_depth(lines, depth).filter(|line| line.starts_with('|')) {
        lines.next();
        let row = cells(line);
        assert_eq!(row.len(), header.len(), "{line}");
        for (column, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            let (row, name) =
                if is_turned { (column.wrapping_sub(1), &row[0]) } else { (n, &header[column]) };
            if !is_turned || column > 0 {
                fact(facts, &format!("{path}[{row}].{}", name_of(name)), cell);
            }
        }
        n += 1;
    }
    let rows = if is_turned { header.len() - 1 } else { n };
    for (name, value) in common {
        for row in 0..rows {
            facts.insert(format!("{path}[{row}].{name}"), value.clone());
        }
    }
    bullets(facts, path, rows, lines, depth);
}

fn name_of(cell: &str) -> String {
    serde_json::from_str(cell).unwrap_or_else(|_| unescaped(cell))
}

/// The cells between the signs that no backslash stands before.
fn cells(line: &str) -> Vec<String> {
    let inner =
        line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).unwrap_or_else(|| panic!("{line:?}"));
    let mut cells = vec![String::new()];
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '|' {
            cells.push(String::new());
            continue;
        }
        let cell = cells.last_mut().expect("a cell");
        cell.push(c);
        if c == '\\' {
            cell.extend(chars.next());
        }
    }
    cells
}

fn on_a_line(facts: &mut Facts, path: &str, told: &str) {
    if told == "none" {
        facts.insert(path.to_owned(), "[]".to_owned());
    } else {
        fact(facts, path, told.strip_prefix('«').and_then(|told| told.strip_suffix('»')).unwrap_or(told));
    }
}

fn fact(facts: &mut Facts, path: &str, told: &str) {
    match serde_json::from_str::<Value>(told) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            structured(facts, path, &value);
        }
        Ok(Value::String(text)) => {
            facts.insert(path.to_owned(), text.replace('«', "‹").replace('»', "›"));
        }
        _ => {
            facts.insert(path.to_owned(), unescaped(told));
        }
    }
}

fn unescaped(told: &str) -> String {
    let mut out = String::new();
    let mut chars = told.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (c, false) => out.push(c),
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
        }
    }
    out
}
