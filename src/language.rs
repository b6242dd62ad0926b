//! The language of what people read as it is: titles and sentences of reports, and the App. Tool texts, errors and the
//! names of fields stay English, whatever is set: assistants translate.

use serde::Serialize;

/// A language that titles are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Language {
    #[default]
    #[serde(rename = "en")]
    English,
    /// Of Brazil.
    #[serde(rename = "pt-BR")]
    Portuguese,
}

impl Language {
    /// The tags that a setting may have.
    pub const TAGS: &str = "en or pt-BR";

    /// The language of a tag or a locale's name: `pt-BR`, `pt_BR.UTF-8`, `en`.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let language = tag.trim().split(['-', '_', '.', '@']).next().unwrap_or_default();
        match language.to_ascii_lowercase().as_str() {
            "pt" => Some(Self::Portuguese),
            "en" => Some(Self::English),
            _ => None,
        }
    }

    /// The language's tag, as pages and clients name it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Portuguese => "pt-BR",
        }
    }

    /// One of two texts.
    pub fn choose<T>(self, english: T, portuguese: T) -> T {
        match self {
            Self::English => english,
            Self::Portuguese => portuguese,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_locales_name_a_language() {
        for (tag, language) in [
            ("pt-BR", Some(Language::Portuguese)),
            ("pt_BR.UTF-8", Some(Language::Portuguese)),
            ("PT", Some(Language::Portuguese)),
            ("pt_PT@euro", Some(Language::Portuguese)),
            ("en_US.UTF-8", Some(Language::English)),
            ("C.UTF-8", None),
            ("ptx", None),
            ("", None),
        ] {
            assert_eq!(Language::from_tag(tag), language, "{tag}");
        }
    }
}
