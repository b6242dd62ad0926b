//! What a field's name says of its value: the one place that knows the names contacts have.

use super::{Masking, Rule};

/// The fields that are masked in any table: names that contacts commonly have.
pub(super) const FIELDS: &[(&str, Rule)] = &[
    ("email", Rule::Always),
    ("emails", Rule::Always),
    ("mail", Rule::Always),
    ("telefone", Rule::Always),
    ("telefones", Rule::Always),
    ("phone", Rule::Always),
    ("phones", Rule::Always),
    ("celular", Rule::Always),
    ("celulares", Rule::Always),
    ("whatsapp", Rule::Always),
    ("zap", Rule::Always),
    ("fone", Rule::Always),
    ("tel", Rule::Always),
    ("ip", Rule::Always),
    ("ip_address", Rule::Always),
    ("ipv", Rule::Always),
    ("whats", Rule::Always),
    // An e-mail address or a number where there is one, else a name, an id, or a kind of device.
    ("usuario", Rule::IfPersonal),
    ("contato", Rule::IfPersonal),
    ("contact", Rule::IfPersonal),
    ("mobile", Rule::IfPersonal),
];

/// Words of a name that say something about a contact, such as that there is one: `tem_email`, `telefone_tipo`.
const ABOUT: &[&str] = &[
    "tem",
    "has",
    "is",
    "sem",
    "com",
    "aceita",
    "accepts",
    "recebe",
    "permite",
    "allow",
    "opt",
    "optin",
    "tipo",
    "type",
    "kind",
    "status",
    "valido",
    "valid",
    "verificado",
    "verified",
    "confirmado",
    "confirmed",
];

/// Last words of a name that add nothing to the one before: `phoneNumber`, `emailAddress`, `usuario.keyword`.
const ADDED: &[&str] = &["keyword", "number", "numero", "address", "endereco"];

/// Members that say which field the member beside them holds a value of, as in `{"field": "telefone", "value": …}`.
const NAMING: [&str; 15] = [
    "field", "column", "key", "name", "label", "title", "type", "id", "question", "campo", "coluna", "chave",
    "nome", "tipo", "pergunta",
];
pub(super) const NAMED: [&str; 7] = ["value", "values", "val", "valor", "valores", "answer", "resposta"];

/// Of the members that say which field another holds, those that no table has for a column of its own.
pub(super) const KEYS: [&str; 8] =
    ["key", "field", "column", "campo", "coluna", "chave", "question", "pergunta"];

/// Longer texts name no field.
const MAX_NAME: usize = 100;

/// Words of a text that is a name; of one with more the field is a part, as in a form's question.
const MAX_WORDS: usize = 4;

/// Whether the member of this name says which field its neighbour is.
pub(super) fn names_another(name: &str) -> bool {
    NAMING.contains(&name)
}

/// Whether a column of this name holds the names of fields and nothing else.
pub(super) fn is_key(name: &str) -> bool {
    KEYS.contains(&name)
}

/// Whether the member of this name is the one its neighbour names.
pub(super) fn is_named_by_another(name: &str) -> bool {
    NAMED.contains(&name)
}

/// Whether a name says something about a contact instead of holding it.
pub(super) fn is_about(name: &str) -> bool {
    words(name).iter().any(|word| ABOUT.contains(&word.as_str()))
}

impl Masking {
    /// How a field of this name is masked.
    pub(super) fn rule(&self, name: &str) -> Option<Rule> {
        if name.len() > MAX_NAME {
            return None;
        }
        // Behind its object, as `cliente.data de nascimento`, and before what an index adds to it.
        let small = name.to_lowercase();
        let inner = small.strip_suffix(".keyword").unwrap_or(&small);
        let behind_a_dot = inner.match_indices('.').map(|(at, _)| &inner[at + 1..]);
        let spelled = [small.as_str(), inner].into_iter().chain(behind_a_dot);
        if let Some(rule) = spelled.filter_map(|name| self.fields.get(name)).max() {
            return Some(*rule);
        }
        let words = words(name);
        let is_known = |word: &String| self.fields.contains_key(word);
        let is_sentence = words.len() > MAX_WORDS && name.contains(' ');
        if is_sentence || words.iter().any(|word| ABOUT.contains(&word.as_str())) {
            return words.iter().any(is_known).then_some(Rule::IfPersonal);
        }
        let last = words.iter().rev().find(|word| !ADDED.contains(&word.as_str()));
        let last = self.fields.get(&words.join("_")).or_else(|| self.fields.get(last?));
        // `cliente_endereco` holds what `endereco` does, where that is a field itself.
        if let Some(rule) = last.or_else(|| self.fields.get(words.last()?)) {
            return Some(*rule);
        }
        // `email_enviado` is no address, but `email_2` may be one.
        words.iter().any(is_known).then_some(Rule::IfPersonal)
    }
}

/// The words of a name: `contatoEmail`, `contato_email` and `contato.e-mail2` have the same last one, near enough.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        let begins = c.is_uppercase() && was_small;
        was_small = c.is_lowercase();
        if begins || !c.is_alphabetic() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphabetic(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
