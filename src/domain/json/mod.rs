//! JSON as text, the way a server sent it: read without turning numbers into doubles, escapes into characters or
//! nesting into recursion.
//!
//! Guarantee: nothing here changes a text unless its name says so, and no depth or size of a value overflows a stack.

mod escapes;
mod jsonb;
mod shown;
#[cfg(test)]
mod tests;
mod tokens;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

pub use jsonb::{fits_numeric, for_jsonb};
pub use shown::to_value;
pub(crate) use shown::with_exact_numbers;
pub(crate) use tokens::{Token, tokens};

use escapes::replace_lone_surrogates;

/// One JSON value as text, byte for byte as it was sent. Cheap to clone; its `Debug` shows no content.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

impl Json {
    /// An object without members.
    pub const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// A value that shares the memory of the text it stands in.
    ///
    /// # Panics
    /// Never: a value that does not stand in `text` is copied.
    pub(crate) fn within(text: &Bytes, value: &RawValue) -> Self {
        let value = value.get().as_bytes();
        let range = text.as_ptr() as usize..=text.as_ptr() as usize + text.len();
        let start = value.as_ptr() as usize;
        if range.contains(&start) && range.contains(&(start + value.len())) {
            return Self(text.slice_ref(value));
        }
        Self(Bytes::copy_from_slice(value))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Every way to make one checks the text.
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// How many bytes the text has.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The members of the object this is, in its order; `None` where it is no object.
    pub fn members(&self) -> Option<Members<'_>> {
        Members::of(self.as_str())
    }
}

impl From<&RawValue> for Json {
    fn from(value: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(value.get().as_bytes()))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }
}

impl From<&serde_json::Map<String, Value>> for Json {
    fn from(object: &serde_json::Map<String, Value>) -> Self {
        // Every key is a string and no member can fail to serialize.
        Self(Bytes::from(serde_json::to_vec(object).unwrap_or_default()))
    }
}

impl TryFrom<Bytes> for Json {
    type Error = serde_json::Error;

    fn try_from(text: Bytes) -> Result<Self, Self::Error> {
        let value: &RawValue = serde_json::from_slice(&text)?;
        Ok(Self::within(&text, value))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*Box::<RawValue>::deserialize(deserializer)?))
    }
}

/// The members of an object, in its order. Of a name that stands twice the last member counts, as in Postgres.
#[derive(Debug, Clone, Default)]
pub struct Members<'a>(Vec<Member<'a>>);

/// A member of an object.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name as JSON text, quotes included.
    pub raw_name: &'a str,
    /// The name; lone surrogates in it are replaced.
    pub name: Cow<'a, str>,
    /// The value as JSON text.
    pub value: &'a str,
}

impl<'a> Members<'a> {
    /// Takes an object apart; `None` where the text is no object.
    pub fn of(object: &'a str) -> Option<Self> {
        let mut members = Self(Vec::with_capacity(24));
        let mut text = serde_json::Deserializer::from_str(object);
        text.deserialize_map(&mut members).and_then(|()| text.end()).ok()?;
        Some(members)
    }

    /// The members that stand whole in the beginning of an object.
    pub fn of_beginning(beginning: &'a str) -> Self {
        let mut members = Self::default();
        let mut text = serde_json::Deserializer::from_str(beginning);
        let is_cut = text.deserialize_map(&mut members).is_err();
        // More digits may have followed.
        members.0.pop_if(|last| {
            let end = last.value.as_ptr() as usize + last.value.len();
            is_cut
                && end == beginning.as_ptr() as usize + beginning.len()
                && !last.value.ends_with(['"', '}', ']'])
        });
        members
    }

    /// The value of that name as JSON text; null counts as missing.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let member = self.0.iter().rev().find(|member| member.name == name)?;
        (member.value != "null").then_some(member.value)
    }

    /// The members in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Member<'a>> {
        self.0.iter()
    }
}

impl<'m, 'a> IntoIterator for &'m Members<'a> {
    type Item = &'m Member<'a>;
    type IntoIter = std::slice::Iter<'m, Member<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Takes names and values as they stand in the text: a name is read as raw text, too, since one with a lone surrogate is
/// no Rust string.
impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            let name = name.get();
            let member = Member { raw_name: name, name: text(name).unwrap_or_default(), value: value.get() };
            self.0.push(member);
        }
        Ok(())
    }
}

/// The characters of a JSON string, lone surrogates replaced; `None` where the text is no string.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return Some(Cow::Owned(text));
    }
    serde_json::from_str(&replace_lone_surrogates(json).0).ok().map(Cow::Owned)
}

/// A value's text without white space between its parts and with one spelling of every string; numbers keep every
/// digit.
pub(super) fn write_canonical(json: &str, out: &mut Vec<u8>) {
    for token in tokens(json) {
        match token {
            Token::Text(string) if string.contains('\\') => match serde_json::from_str::<String>(string) {
                // A string always serializes.
                Ok(plain) => out.extend(serde_json::to_vec(&plain).unwrap_or_default()),
                Err(_) => out.extend_from_slice(string.as_bytes()),
            },
            Token::Text(part) | Token::Number(part) | Token::Other(part) => {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}
