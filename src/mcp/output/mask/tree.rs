//! A structured value, or a text of JSON, as the list of its parts in their order: names stand beside values in both, and
//! which parts are masked is decided once for both.
//!
//! A text is changed only where a string or a number is masked. One that was cut off is read as far as it goes, and no
//! depth overflows a stack.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use serde_json::Value;

use super::{MASK, Masking, Rule, fields, masked, phone};
use crate::{
    domain::json::{self, Token, tokens},
    mcp::output::rename_keys,
};

#[derive(Debug, Clone, PartialEq)]
enum Kind<'a> {
    Object,
    List,
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    Bool,
    Null,
}

#[derive(Debug)]
struct Node<'a> {
    parent: Option<usize>,
    /// Of a member of an object.
    name: Option<Cow<'a, str>>,
    /// Which item of its parent it is.
    place: usize,
    kind: Kind<'a>,
    /// Where in the text it stands; what stands for a mask there closes a string as the text did.
    at: Range<usize>,
    is_closed: bool,
}

/// The parts of a value, each behind the one it is in.
#[derive(Debug, Default)]
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    /// The names of members as they stand in the text.
    names: Vec<(Range<usize>, Cow<'a, str>)>,
}

impl<'a> Tree<'a> {
    fn of(value: &'a Value) -> Self {
        let mut tree = Self::default();
        tree.add_value(None, 0, None, value);
        tree
    }

    fn add_value(&mut self, parent: Option<usize>, place: usize, name: Option<&'a str>, value: &'a Value) {
        let kind = match value {
            Value::Object(_) => Kind::Object,
            Value::Array(_) => Kind::List,
            Value::String(text) => Kind::Text(text.into()),
            Value::Number(number) => Kind::Number(number.to_string().into()),
            Value::Bool(_) => Kind::Bool,
            Value::Null => Kind::Null,
        };
        let own = Some(self.nodes.len());
        self.nodes.push(Node { parent, name: name.map(Cow::from), place, kind, at: 0..0, is_closed: true });
        match value {
            Value::Object(members) => {
                for (place, (name, member)) in members.iter().enumerate() {
                    self.add_value(own, place, Some(name), member);
                }
            }
            Value::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    self.add_value(own, place, None, item);
                }
            }
            _ => {}
        }
    }

    /// A text that is a JSON object or list, or the beginning of one; `None` where it is anything else.
    pub(super) fn read(given: &'a str) -> Option<Self> {
        if !given.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let mut tree = Self::default();
        // The containers that are open, and how many items each has.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut name: Option<Cow<'a, str>> = None;
        let mut next = Next::Value;
        let mut end = 0;
        for token in tokens(given) {
            let (Token::Text(text) | Token::Number(text) | Token::Other(text)) = token;
            let at = text.as_ptr() as usize - given.as_ptr() as usize;
            end = at + text.len();
            let is_in_object =
                open.last().is_some_and(|(container, _)| tree.nodes[*container].kind == Kind::Object);
            if tree.nodes.is_empty() != open.is_empty() {
                return None;
            }
            let kind = match (next, token) {
                (Next::Name | Next::NameOrEnd, Token::Text(raw)) => {
                    let (text, _) = string(raw);
                    tree.names.push((at..end, text.clone()));
                    name = Some(text);
                    next = Next::Colon;
                    continue;
                }
                (Next::Colon, Token::Other(":")) => {
                    next = Next::Value;
                    continue;
                }
                (Next::CommaOrEnd, Token::Other(",")) => {
                    next = if is_in_object { Next::Name } else { Next::Value };
                    continue;
                }
                (Next::CommaOrEnd | Next::NameOrEnd, Token::Other("}")) if is_in_object => {
                    open.pop();
                    next = Next::CommaOrEnd;
                    continue;
                }
                (Next::CommaOrEnd | Next::ValueOrEnd, Token::Other("]")) if !is_in_object => {
                    open.pop();
                    next = Next::CommaOrEnd;
                    continue;
                }
                (Next::Value | Next::ValueOrEnd, Token::Other("{")) => Kind::Object,
                (Next::Value | Next::ValueOrEnd, Token::Other("[")) => Kind::List,
                (Next::Value | Next::ValueOrEnd, Token::Text(raw)) => Kind::Text(string(raw).0),
                (Next::Value | Next::ValueOrEnd, Token::Number(number)) if is_number(number) => {
                    Kind::Number(number.into())
                }
                (Next::Value | Next::ValueOrEnd, Token::Other("null")) => Kind::Null,
                (Next::Value | Next::ValueOrEnd, Token::Other("true" | "false")) => Kind::Bool,
                _ => return None,
            };
            next = match kind {
                Kind::Object => Next::NameOrEnd,
                Kind::List => Next::ValueOrEnd,
                _ => Next::CommaOrEnd,
            };
            let is_container = matches!(kind, Kind::Object | Kind::List);
            let is_closed = !matches!(kind, Kind::Text(_)) || string(text).1;
            let (parent, place) = match open.last_mut() {
                Some((parent, items)) => {
                    *items += 1;
                    (Some(*parent), *items - 1)
                }
                None => (None, 0),
            };
            if is_container {
                open.push((tree.nodes.len(), 0));
            }
            tree.nodes.push(Node { parent, name: name.take(), place, kind, at: at..end, is_closed });
        }
        given[end..].trim_end().is_empty().then_some(tree)
    }

    /// Whether a text is a JSON object or list.
    pub(super) fn is_json(given: &'a str) -> bool {
        Self::read(given).is_some()
    }

    fn parent(&self, node: &Node<'_>) -> Option<(usize, &Node<'a>)> {
        node.parent.map(|at| (at, &self.nodes[at]))
    }

    /// The object whose member of this name the node is an item of.
    fn listed_as(&self, node: &Node<'_>, name: &str) -> Option<usize> {
        let (_, list) = self.parent(node)?;
        (list.kind == Kind::List && list.name.as_deref() == Some(name)).then_some(list.parent)?
    }

    /// The names that objects give their `columns`, by object and place: a table keeps them apart from the values.
    fn columns(&self) -> HashMap<(usize, usize), &str> {
        let mut columns = HashMap::new();
        for node in &self.nodes {
            let Kind::Text(text) = &node.kind else { continue };
            let named = self.parent(node).filter(|_| node.name.as_deref() == Some("name"));
            let column = named.map_or(node, |(_, column)| column);
            if let Some(object) = self.listed_as(column, "columns") {
                columns.insert((object, column.place), &**text);
            }
        }
        columns
    }
}

#[derive(Clone, Copy)]
enum Next {
    Name,
    NameOrEnd,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
}

/// A string's characters, and whether its end was there.
fn string(raw: &str) -> (Cow<'_, str>, bool) {
    let rest = &raw[1..];
    let is_escaped = |text: &str| (text.len() - text.trim_end_matches('\\').len()) % 2 == 1;
    let whole = rest.strip_suffix('"').filter(|inner| !is_escaped(inner));
    let inner = whole.unwrap_or(rest);
    if !inner.contains('\\') {
        return (inner.into(), whole.is_some());
    }
    // Half an escape may be left of one that was cut off.
    let read = |inner: &str| json::text(&format!("\"{inner}\"")).map(|text| Cow::Owned(text.into_owned()));
    let read = (0..6).filter_map(|cut| inner.get(..inner.len().checked_sub(cut)?)).find_map(read);
    (read.unwrap_or(inner.into()), whole.is_some())
}

fn is_number(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number).as_bytes();
    !matches!(digits, [b'0', b'0'..=b'9', ..]) && number.parse::<f64>().is_ok()
}

impl Masking {
    /// Masks a value in place, whose name says so much of it.
    pub(super) fn by_rule(&self, value: &mut Value, rule: Option<Rule>) {
        self.names(value);
        let masks = self.masks(&Tree::of(value), rule);
        if !masks.is_empty() {
            put(value, &mut 0, &mut masks.into_iter().peekable());
        }
    }

    fn names(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.names(item)),
            Value::Object(members) => {
                rename_keys(members, |name| self.text(name));
                members.values_mut().for_each(|member| self.names(member));
            }
            _ => {}
        }
    }

    /// A text of JSON with what is masked in its place, and nothing else changed.
    pub(super) fn json(&self, given: &str, tree: &Tree<'_>) -> Option<String> {
        let names = tree.names.iter().filter_map(|(at, name)| Some((at.clone(), self.text(name)?, true)));
        let values = self.masks(tree, None).into_iter().map(|(node, mask)| {
            let node = &tree.nodes[node];
            (node.at.clone(), mask, node.is_closed)
        });
        let mut edits: Vec<(Range<usize>, String, bool)> = names.chain(values).collect();
        edits.sort_by_key(|(at, ..)| at.start);
        if edits.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(given.len());
        let mut copied = 0;
        for (at, mask, is_closed) in edits {
            out.push_str(&given[copied..at.start]);
            let quoted = Value::from(mask).to_string();
            out.push_str(if is_closed { &quoted } else { &quoted[..quoted.len() - 1] });
            copied = at.end;
        }
        out.push_str(&given[copied..]);
        Some(out)
    }

    /// What stands for the parts that are masked, by where they are in the tree.
    fn masks(&self, tree: &Tree<'_>, root: Option<Rule>) -> Vec<(usize, String)> {
        let columns = tree.columns();
        let names: Vec<Option<&str>> = tree
            .nodes
            .iter()
            .map(|node| {
                let cell = || {
                    let row = tree.parent(node).filter(|(_, row)| row.kind == Kind::List)?.1;
                    columns.get(&(tree.listed_as(row, "rows")?, node.place)).copied()
                };
                node.name.as_deref().or_else(cell)
            })
            .collect();
        // What a member or a cell says of the one beside it.
        let mut told: HashMap<usize, Rule> = HashMap::new();
        for (node, name) in tree.nodes.iter().zip(&names) {
            if let (Some(parent), Kind::Text(text), Some(name)) = (node.parent, &node.kind, name)
                && fields::names_another(name)
                && let Some(rule) = self.rule(text)
            {
                let known = told.entry(parent).or_insert(rule);
                *known = rule.max(*known);
            }
        }
        let mut rules: Vec<Option<Rule>> = Vec::with_capacity(tree.nodes.len());
        let mut masks = Vec::new();
        for (at, (node, name)) in tree.nodes.iter().zip(&names).enumerate() {
            let around = node.parent.map_or(root, |parent| rules[parent]);
            let rule = match name {
                None => around,
                Some(name) => {
                    let is_number = matches!(node.kind, Kind::Number(_));
                    // A number of values is none of them.
                    let around = around.filter(|_| !(is_number && *name == "count"));
                    let is_told = fields::is_named_by_another(name) && !(is_number && *name == "values");
                    let told = node.parent.filter(|_| is_told).and_then(|parent| told.get(&parent).copied());
                    let about = |rule: Rule| match rule {
                        Rule::Always if fields::is_about(name) => Rule::IfPersonal,
                        rule => rule,
                    };
                    around.map(about).max(self.rule(name)).max(told)
                }
            };
            rules.push(rule);
            masks.extend(self.mask(&node.kind, rule).map(|mask| (at, mask)));
        }
        masks
    }

    /// What stands for a value that has such a rule; `None` where it stays as it is.
    fn mask(&self, kind: &Kind<'_>, rule: Option<Rule>) -> Option<String> {
        match (kind, rule) {
            (Kind::Text(text), Some(rule)) if rule.applies_to(text) => {
                Some(masked(text)).filter(|mask| mask != text)
            }
            (Kind::Text(text), _) => self.text(text),
            (Kind::Number(_) | Kind::Bool, Some(Rule::Hidden)) => Some(MASK.to_owned()),
            // A phone number kept as a number. Others count something: `"phones": 3` is none.
            (Kind::Number(number), Some(rule)) => {
                phone::is_number(number, rule >= Rule::Always).then(|| masked(number))
            }
            _ => None,
        }
    }
}

/// Puts masks into a value, whose parts are counted in the order of its tree.
fn put(
    value: &mut Value,
    at: &mut usize,
    masks: &mut std::iter::Peekable<impl Iterator<Item = (usize, String)>>,
) {
    let own = *at;
    *at += 1;
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| put(member, at, masks)),
        Value::Array(items) => items.iter_mut().for_each(|item| put(item, at, masks)),
        leaf => {
            if let Some((_, mask)) = masks.next_if(|(masked, _)| *masked == own) {
                *leaf = Value::String(mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str) -> String {
        Masking::default().text(given).unwrap_or_else(|| given.to_owned())
    }

    #[test]
    fn a_text_of_json_is_changed_where_it_is_masked_and_nowhere_else() {
        for (given, told) in [
            (
                r#"{"n":1234567890123456789012, "z": 0.1000,"a":1e400,"email":"ana@b.co","id":1,"id":2 }"#,
                r#"{"n":1234567890123456789012, "z": 0.1000,"a":1e400,"email":"a***@***","id":1,"id":2 }"#,
            ),
            ("[ \"\\u00e3\", \"ana@b.co\" ]", "[ \"\\u00e3\", \"a***@***\" ]"),
            (r#"{"ana@b.co":1,"ana@b.co":2}"#, r#"{"a***@***":1,"a***@***":2}"#),
            (r#"{"telefone":31235678,"x":1e400}"#, r#"{"telefone":"***78","x":1e400}"#),
            (r#"{"a":"{\"fone\":\"312-5678\",\"n\":0.10}"}"#, r#"{"a":"{\"fone\":\"***\",\"n\":0.10}"}"#),
        ] {
            assert_eq!(of(given), told, "{given}");
        }
    }

    #[test]
    fn json_of_any_depth_and_json_that_was_cut_off_are_masked_by_its_names() {
        let (before, after) = ("[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(
            of(&format!(r#"{before}{{"fone":"312-5678"}}{after}"#)),
            format!(r#"{before}{{"fone":"***"}}{after}"#)
        );
        for (given, told) in [
            (r#"{"email":"ana em ca"#, r#"{"email":"***"#),
            (r#"{"email":"ana@b.co\u00"#, r#"{"email":"a***@***"#),
            (r#"{"fone":"312-5678","n":[1,"#, r#"{"fone":"***","n":[1,"#),
            (r#"[{"campo":"zap","valor":"sem número"},{"#, r#"[{"campo":"zap","valor":"***"},{"#),
        ] {
            assert_eq!(of(given), told, "{given}");
        }
    }

    #[test]
    fn what_only_begins_like_json_is_read_as_a_sentence() {
        for (given, told) in [
            ("[ligue 11 91234-5678]", "[ligue ***78]"),
            ("[11 91234-5678]", "[***78]"),
            ("[011912345678]", "[011912345678]"),
            ("[sim] ana@b.co", "[sim] a***@***"),
            ("{} {} ana@b.co", "{} {} a***@***"),
            ("{a: ana@b.co}", "{a: a***@***}"),
        ] {
            assert_eq!(of(given), told, "{given}");
        }
    }

    #[test]
    fn the_name_of_a_pair_is_known_by_whatever_word_forms_use() {
        for pair in [
            r#"{"nome":"telefone","valor":"312-5678"}"#,
            r#"{"label":"Telefone","value":"312-5678"}"#,
            r#"{"id":"phone","val":"312-5678"}"#,
            r#"{"question":"Qual seu telefone?","answer":"312-5678"}"#,
            r#"{"mobile":"312-5678"}"#,
            r#"{"zap":"312-5678"}"#,
            r#"{"phoneNumber":"312-5678"}"#,
            r#"{"emailAddress":"312-5678"}"#,
        ] {
            assert_eq!(of(pair), pair.replace("312-5678", "***"));
        }
    }

    #[test]
    fn what_is_said_about_a_contact_is_seen() {
        for kept in [
            r#"{"tem_email":"sem","aceita_whatsapp":"sim","tipo_ip":"IPv4","status_email":"ativo"}"#,
            r#"{"contato_telefone":{"tipo":"fixo"},"has_phone":true,"mobile":"Android"}"#,
            r#"{"pergunta":"Por que mudou de telefone?","resposta":"quebrou"}"#,
        ] {
            assert_eq!(of(kept), kept);
        }
        assert_eq!(of(r#"{"tem_email":"ana@b.co"}"#), r#"{"tem_email":"a***@***"}"#);
    }
}
