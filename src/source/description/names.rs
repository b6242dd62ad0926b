//! What a column's name suggests. Names are read word by word, so that `hash` is found in `password_hash` and not in
//! `hashtags`, and `ip` not in `tipo`.

use crate::domain::ColumnKind;
use tantivy::tokenizer::{AsciiFoldingFilter, LowerCaser, RawTokenizer, TextAnalyzer, TokenStream as _};

/// Credentials: what opens something must not leave the project.
const SECRET: [&str; 13] = [
    "token",
    "tokens",
    "password",
    "passwd",
    "senha",
    "secret",
    "secrets",
    "segredo",
    "hash",
    "salt",
    "apikey",
    "credential",
    "credentials",
];

/// Credentials that may be numbers.
const SECRET_NUMBERS: [&str; 2] = ["otp", "pin"];

/// Pairs of words that mean one.
const SECRET_PAIRS: [(&str, &str); 4] =
    [("api", "key"), ("private", "key"), ("access", "key"), ("signing", "key")];

/// What tells who somebody is or how to reach them.
const PERSONAL: [&str; 24] = [
    "email",
    "mail",
    "telefone",
    "telefones",
    "fone",
    "phone",
    "phones",
    "celular",
    "mobile",
    "whatsapp",
    "cpf",
    "cnpj",
    "rg",
    "cnh",
    "ssn",
    "passport",
    "passaporte",
    "documento",
    "document",
    "ip",
    "endereco",
    "address",
    "nascimento",
    "birthdate",
];

/// A name as a table or column may bear it downstream; empty where nothing of it can stay.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in folded(name).chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !slug.ends_with('_') {
            slug.push(c);
        }
    }
    let slug = slug.trim_matches('_');
    let slug =
        if slug.starts_with(|c: char| c.is_ascii_digit()) { format!("c_{slug}") } else { slug.to_owned() };
    slug.chars().take(60).collect()
}

/// The words of a name: `userEmail` and `user_email` have the same.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(name.len() + 8);
    let mut after_small = false;
    for c in name.chars() {
        if c.is_uppercase() && after_small {
            spaced.push(' ');
        }
        after_small = c.is_lowercase() || c.is_ascii_digit();
        spaced.push(if c.is_alphanumeric() { c } else { ' ' });
    }
    folded(&spaced).split_whitespace().map(str::to_owned).collect()
}

/// Whether a column looks like a credential: a text does, a number of tokens or an instant at which one ends does not.
pub(super) fn is_secret(name: &str, kind: Option<ColumnKind>) -> bool {
    let words = words(name);
    let has = |word: &&str| words.iter().any(|of| of == word);
    let pair = |(a, b): &(&str, &str)| words.windows(2).any(|pair| pair[0] == *a && pair[1] == *b);
    match kind {
        None | Some(ColumnKind::Text | ColumnKind::List | ColumnKind::Json) => {
            SECRET.iter().chain(&SECRET_NUMBERS).any(has) || SECRET_PAIRS.iter().any(pair)
        }
        Some(ColumnKind::Integer | ColumnKind::Number) => SECRET_NUMBERS.iter().any(has),
        Some(_) => false,
    }
}

pub(super) fn is_personal(name: &str) -> bool {
    words(name).iter().any(|word| PERSONAL.contains(&word.as_str()))
}

/// What one row of a table is called, as far as its plural tells.
pub(super) fn singular(table: &str) -> String {
    const ENDINGS: [(&str, &str); 10] = [
        ("oes", "ao"),
        ("aes", "ao"),
        ("ens", "em"),
        ("ies", "y"),
        ("ores", "or"),
        ("eis", "el"),
        ("ais", "al"),
        ("ss", "ss"),
        ("us", "us"),
        ("s", ""),
    ];
    let ending = ENDINGS.iter().find_map(|(plural, one)| Some((table.strip_suffix(plural)?, one)));
    match ending {
        Some((stem, one)) if stem.len() + one.len() > 2 => format!("{stem}{one}"),
        _ => table.to_owned(),
    }
}

/// Lower case and without accents.
fn folded(text: &str) -> String {
    let mut analyzer =
        TextAnalyzer::builder(RawTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build();
    let mut stream = analyzer.token_stream(text);
    if stream.advance() { stream.token().text.clone() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_name_that_needs_no_quotes() {
        for (name, expected) in [
            ("Nome Completo", "nome_completo"),
            ("Código", "codigo"),
            ("createdAt", "createdat"),
            ("2fa", "c_2fa"),
            ("__x--y__", "x_y"),
            ("日本", ""),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
        assert_eq!(slug(&"a".repeat(100)).len(), 60);
    }

    #[test]
    fn secrets_and_personal_data_are_known_by_their_words() {
        for name in ["session_token", "passwordHash", "senha", "api_key", "refreshToken", "otp"] {
            assert!(is_secret(name, Some(ColumnKind::Text)), "{name}");
        }
        for name in ["hashtags", "tokenizer", "keyword", "chave", "pinterest"] {
            assert!(!is_secret(name, Some(ColumnKind::Text)), "{name}");
        }
        assert!(!is_secret("tokens", Some(ColumnKind::Integer)), "a number of tokens");
        assert!(!is_secret("token_expires_at", Some(ColumnKind::Timestamp)));
        assert!(is_secret("pin", Some(ColumnKind::Integer)));
        for name in ["email", "userEmail", "telefone_2", "CPF", "ip_address", "data_nascimento", "Endereço"]
        {
            assert!(is_personal(name), "{name}");
        }
        for name in ["tipo", "zip", "emailing", "nome"] {
            assert!(!is_personal(name), "{name}");
        }
    }

    #[test]
    fn a_row_is_called_as_one_of_its_table() {
        for (table, one) in [
            ("chat_messages", "chat_message"),
            ("mensagens", "mensagem"),
            ("conversoes", "conversao"),
            ("companies", "company"),
            ("vendedores", "vendedor"),
            ("status", "status"),
            ("access", "access"),
            ("profiles", "profile"),
            ("as", "as"),
            ("agenda", "agenda"),
        ] {
            assert_eq!(singular(table), one, "{table}");
        }
    }
}
