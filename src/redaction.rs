//! Keeps a client's own secrets out of what it repeats of an answer: a gateway that refuses a request may quote the
//! key it was sent, and an error text goes to logs, tools and tables.

use std::sync::{PoisonError, RwLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// A shorter secret is found in words that hold none.
const MIN_SECRET: usize = 4;

/// Bytes from which a secret is known, although the rest of it was cut off.
const MIN_BEGINNING: usize = 16;

/// What stands in a secret's place.
const REDACTED: &str = "***";

/// The secrets of clients whose errors are translated where no client is at hand.
static KNOWN: RwLock<Redaction> = RwLock::new(Redaction(Vec::new()));

/// Has [`words`] leave a secret out from now on.
pub(crate) fn keep(secret: &str) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).add(secret);
}

/// A server's or a library's own words, without the secrets that are kept.
pub(crate) fn words(text: &str) -> String {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).text(text)
}

/// Secrets, in every form they are sent in.
pub(crate) struct Redaction(Vec<SecretString>);

impl Redaction {
    /// For a secret that is sent as it is.
    pub(crate) fn of(secret: &str) -> Self {
        let mut redaction = Self(Vec::new());
        redaction.add(secret);
        redaction
    }

    /// For a name and a secret that are sent together, in Base64 with a colon between them.
    pub(crate) fn of_pair(name: &str, secret: &str) -> Self {
        let mut redaction = Self::of(secret);
        redaction.add(&BASE64_STANDARD.encode(format!("{name}:{secret}")));
        redaction
    }

    /// For what is sent in Base64, a name and a secret as likely as not.
    pub(crate) fn of_encoded(encoded: &str) -> Self {
        let mut redaction = Self::of(encoded);
        let pair = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, secret)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
            redaction.add(secret);
        }
        redaction
    }

    /// For a client that sends no secret.
    pub(crate) fn of_nothing() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, secret: &str) {
        // Whoever repeats Base64 may leave its end away.
        let secret = secret.trim().trim_end_matches('=');
        let escaped = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        for form in [secret, &escaped] {
            if form.len() >= MIN_SECRET && self.0.iter().all(|known| known.expose_secret() != form) {
                self.0.push(form.into());
            }
        }
    }

    /// The text without the secrets and without beginnings of them.
    pub(crate) fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, form| without(&text, form.expose_secret()))
    }

    /// Takes the secrets out of every text of a value.
    pub(crate) fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.value(member)),
            _ => {}
        }
    }
}

fn without(text: &str, secret: &str) -> String {
    let beginning = secret.char_indices().map(|(at, _)| at).find(|at| *at >= MIN_BEGINNING);
    let beginning = &secret[..beginning.unwrap_or(secret.len())];
    let mut kept = String::with_capacity(text.len());
    let mut left = text;
    while let Some(at) = left.find(beginning) {
        kept.push_str(&left[..at]);
        kept.push_str(REDACTED);
        left = &left[at..];
        let same = left.chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        let end: usize = same.map(|(c, _)| c.len_utf8()).sum();
        left = &left[end..];
    }
    kept + left
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_taken_out_whole_cut_off_and_in_each_form_it_is_sent_in() {
        let key = Redaction::of("sb_secret_abcdefghijklmnop");
        for (text, expected) in [
            ("bad key sb_secret_abcdefghijklmnop!", "bad key ***!"),
            ("bad key sb_secret_abcdefgh…", "bad key ***…"),
            ("Bearer sb_secret_abcdefghijklmnop, sb_secret_abcdefghijklmnop", "Bearer ***, ***"),
            ("bad key sb_secret_zyxwvutsrqponmlk", "bad key sb_secret_zyxwvutsrqponmlk"),
        ] {
            assert_eq!(key.text(text), expected);
        }
        let pair = Redaction::of_pair("ana", "sênha@1");
        let sent = BASE64_STANDARD.encode("ana:sênha@1");
        let text = format!("Basic {sent}, sênha@1, s%C3%AAnha%401");
        assert_eq!(pair.text(&text), "Basic ***, ***, ***");
        let encoded = Redaction::of_encoded("aWQ6c2VncmVkbw==");
        assert_eq!(encoded.text("ApiKey aWQ6c2VncmVkbw, segredo"), "ApiKey ***, ***");
    }

    #[test]
    fn secrets_are_taken_out_of_a_value_at_any_depth_and_short_ones_leave_texts_alone() {
        let mut value = json!({"a": [{"b": "x segredo y"}], "n": 7});
        Redaction::of("segredo").value(&mut value);
        assert_eq!(value, json!({"a": [{"b": "x *** y"}], "n": 7}));
        assert_eq!(Redaction::of("a").text("a manhã"), "a manhã");
        assert_eq!(Redaction::of_nothing().text("a manhã"), "a manhã");
    }
}
