//! API keys: what kind one is, and which headers it goes in.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The kinds of keys a Supabase project has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Secret,
    Publishable,
    ServiceRole,
    Anon,
    Authenticated,
    Unknown,
}

impl KeyKind {
    pub(super) fn of(key: &SecretString) -> Self {
        let key = key.expose_secret();
        if key.starts_with("sb_secret_") {
            return Self::Secret;
        }
        if key.starts_with("sb_publishable_") {
            return Self::Publishable;
        }
        match role_of(key).as_deref() {
            Some("service_role") => Self::ServiceRole,
            Some("anon") => Self::Anon,
            Some("authenticated") => Self::Authenticated,
            _ => Self::Unknown,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Publishable => "publishable",
            Self::ServiceRole => "service_role",
            Self::Anon => "anon",
            Self::Authenticated => "authenticated",
            Self::Unknown => "unknown",
        }
    }

    /// Row-level security does not apply to it.
    pub(super) fn sees_everything(self) -> bool {
        matches!(self, Self::Secret | Self::ServiceRole)
    }
}

/// The headers a key goes in: new keys in `apikey` alone, legacy JWTs in `Authorization`, too.
pub(super) fn headers(key: &SecretString) -> Result<HeaderMap, reqwest::header::InvalidHeaderValue> {
    let exposed = key.expose_secret();
    let sensitive = |text: &str| {
        HeaderValue::from_str(text).map(|mut value| {
            value.set_sensitive(true);
            value
        })
    };
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("apikey"), sensitive(exposed)?);
    if !exposed.starts_with("sb_") {
        headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {exposed}"))?);
    }
    Ok(headers)
}

fn role_of(jwt: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        role: String,
    }
    let payload = jwt.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice::<Claims>(&bytes).ok().map(|claims| claims.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(role: &str) -> SecretString {
        let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"role":"{role}"}}"#));
        SecretString::from(format!("eyJhbGciOiJIUzI1NiJ9.{payload}.x"))
    }

    #[test]
    fn a_key_tells_its_kind() {
        assert_eq!(KeyKind::of(&"sb_secret_x".into()), KeyKind::Secret);
        assert_eq!(KeyKind::of(&"sb_publishable_x".into()), KeyKind::Publishable);
        assert_eq!(KeyKind::of(&jwt("service_role")), KeyKind::ServiceRole);
        assert_eq!(KeyKind::of(&jwt("anon")), KeyKind::Anon);
        assert_eq!(KeyKind::of(&"qualquer.coisa".into()), KeyKind::Unknown);
    }

    #[test]
    fn only_legacy_keys_go_in_authorization_and_none_can_be_printed() {
        let new = headers(&"sb_secret_x".into()).expect("headers");
        assert!(new.contains_key("apikey") && !new.contains_key(AUTHORIZATION));
        let old = headers(&jwt("anon")).expect("headers");
        assert!(old.contains_key("apikey") && old.contains_key(AUTHORIZATION));
        assert!(!format!("{old:?}").contains("eyJ"));
    }
}
