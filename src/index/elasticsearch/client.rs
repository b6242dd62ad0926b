//! Requests and answers, and nothing about what they mean.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use elasticsearch::{
    Elasticsearch,
    auth::Credentials,
    cert::{Certificate, CertificateValidation},
    http::{
        Method,
        headers::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
        transport::{SingleNodeConnectionPool, TransportBuilder},
    },
};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::{PART, faults};
use crate::{
    authorities, config::ElasticsearchSettings, deadline, fault::Fault, http_client::Lazy,
    redaction::Redaction,
};

// The client's own types name a version (`compatible-with=9`) that every other server refuses with 406.
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// Bulk requests on their way at a time: while one is written, the next is there.
pub(super) const BULKS: usize = 2;

/// The longest pause a server is granted: a drain looks again sooner than a server that names hours, or centuries, and
/// may have been restarted since.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_mins(5);

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The pause it asked for.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The server.
pub(super) struct Client {
    origin: String,
    current: RwLock<Arc<Current>>,
    bulks: Semaphore,
}

/// What is made of the credentials.
struct Current {
    settings: ElasticsearchSettings,
    elasticsearch: Lazy<Elasticsearch>,
    redaction: Redaction,
}

/// The client would print its credentials.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).finish_non_exhaustive()
    }
}

fn origin(settings: &ElasticsearchSettings) -> String {
    settings.url.origin().ascii_serialization()
}

fn unusable(origin: &str, problem: &dyn fmt::Display) -> Fault {
    Fault::misconfigured(PART, format!("no client for {origin}: {problem}"), "check the server's settings")
}

impl Current {
    fn new(settings: ElasticsearchSettings) -> Result<Self, Fault> {
        let mut url = (*settings.url).clone();
        let credentials = credentials(&settings)?;
        // In the URL they would reach error texts; `credentials` has taken them out already.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        let origin = origin(&settings);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable(&origin, &"the URL is neither http nor https"));
        }
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .timeout(settings.timeout)
            .enable_meta_header(false);
        if let Some(path) = &settings.ssl_ca_location {
            let pem = authorities::read(PART, "ELASTICSEARCH_SSL_CA_LOCATION", path)?;
            let authorities = Certificate::from_pem(&pem).map_err(|error| unusable(&origin, &error))?;
            builder = builder.cert_validation(CertificateValidation::Full(authorities));
        }
        let redaction = redaction(credentials.as_ref());
        if let Some(credentials) = credentials {
            builder = builder.auth(credentials);
        }
        let elasticsearch =
            Lazy::new(|| builder.build().map(Elasticsearch::new).map_err(|error| error.to_string()));
        if settings.ssl_ca_location.is_some() {
            // Whether the file is of any use is told at once.
            elasticsearch.get().map_err(|problem| unusable(&origin, &problem))?;
        }
        Ok(Self { settings, elasticsearch, redaction })
    }

    /// The same with what stands now in the place of the credentials; nothing where they are the same.
    async fn renewed(&self) -> Result<Option<Self>, String> {
        let mut settings = self.settings.clone();
        let mut is_another = false;
        for secret in [&mut settings.password, &mut settings.api_key].into_iter().flatten() {
            if let Some(changed) = secret.changed().await? {
                (*secret, is_another) = (changed, true);
            }
        }
        is_another.then(|| Self::new(settings)).transpose().map_err(|fault| fault.to_string())
    }
}

impl Client {
    pub(super) fn new(settings: &ElasticsearchSettings) -> Result<Self, Fault> {
        let current = RwLock::new(Arc::new(Current::new(settings.clone())?));
        Ok(Self { origin: origin(settings), current, bulks: Semaphore::new(BULKS) })
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the credentials anew after they were refused, where they stand elsewhere; whether they are others by now.
    async fn renew(&self, refused: &Arc<Current>) -> bool {
        match refused.renewed().await {
            Ok(Some(renewed)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                info!("Elasticsearch refused the credentials, and others are used that stand in their place");
                true
            }
            // Another request may have renewed them.
            Ok(None) => !Arc::ptr_eq(refused, &self.current()),
            Err(problem) => {
                warn!(
                    problem,
                    "Elasticsearch refuses the credentials, and there are no others in their place"
                );
                false
            }
        }
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks and takes nothing but a success for an answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<T, Fault> {
        self.parse(self.send(Method::Get, path, JSON, None, doing).await?, doing)
    }

    /// Like [`Self::get`], for what changes something.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<T, Fault> {
        self.parse(self.send(Method::Post, path, JSON, None, doing).await?, doing)
    }

    /// Asks; whatever is answered is the caller's to judge.
    pub(super) async fn look(&self, path: &str, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Get, path, JSON, None, doing).await
    }

    /// Puts; whatever is answered is the caller's to judge.
    pub(super) async fn put(&self, path: &str, body: &Value, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Put, path, JSON, Some(Bytes::from(body.to_string())), doing).await
    }

    /// Puts without a body; whatever is answered is the caller's to judge.
    pub(super) async fn put_nothing(&self, path: &str, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Put, path, JSON, None, doing).await
    }

    /// Posts without a body; whatever is answered is the caller's to judge.
    pub(super) async fn post_nothing(&self, path: &str, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Post, path, JSON, None, doing).await
    }

    /// Posts; whatever is answered is the caller's to judge.
    pub(super) async fn post_body(&self, path: &str, body: &Value, doing: &str) -> Result<Answer, Fault> {
        self.post_json(path, Bytes::from(body.to_string()), doing).await
    }

    /// The same with a body that is text already.
    pub(super) async fn post_json(&self, path: &str, body: Bytes, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Post, path, JSON, Some(body), doing).await
    }

    /// Deletes; whatever is answered is the caller's to judge.
    pub(super) async fn delete(&self, path: &str, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Delete, path, JSON, None, doing).await
    }

    /// The same with a body, which says what of the place is deleted.
    pub(super) async fn delete_body(&self, path: &str, body: &Value, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Delete, path, JSON, Some(Bytes::from(body.to_string())), doing).await
    }

    /// Sends a bulk request, which searches see at once or by and by; whatever is answered is the caller's to judge.
    pub(super) async fn bulk(&self, body: Bytes, at_once: bool, doing: &str) -> Result<Answer, Fault> {
        // Without `require_alias` a missing index would be made up on the spot, with a guessed mapping.
        let path = format!(
            "_bulk?require_alias=true&refresh={at_once}&filter_path=errors,items.*.status,items.*.result,\
             items.*.error.type,items.*.error.reason,items.*.error.caused_by,error,status"
        );
        // It is never closed.
        let _permit = self.bulks.acquire().await;
        self.send(Method::Post, &path, NDJSON, Some(body), doing).await
    }

    /// The same into what is no index of events or entities.
    pub(super) async fn bulk_into(&self, path: &str, body: Bytes, doing: &str) -> Result<Answer, Fault> {
        self.send(Method::Post, path, NDJSON, Some(body), doing).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
        doing: &str,
    ) -> Result<Answer, Fault> {
        const REFUSED: u16 = 401;
        let current = self.current();
        let answer = self.send_with(&current, method, path, content_type, body.clone(), doing).await?;
        if answer.status == REFUSED && self.renew(&current).await {
            return self.send_with(&self.current(), method, path, content_type, body, doing).await;
        }
        Ok(answer)
    }

    async fn send_with(
        &self,
        current: &Current,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
        doing: &str,
    ) -> Result<Answer, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        let fault = |error: elasticsearch::Error| {
            faults::fault_from_transport(&self.origin, doing, &error, error.is_timeout())
        };
        let timeout = deadline::cut(current.settings.timeout);
        let elasticsearch =
            current.elasticsearch.get().map_err(|problem| unusable(&self.origin, &problem))?;
        let sending = elasticsearch.send(method, path, headers, None::<&()>, body, Some(timeout));
        // The client's futures are large, and a drain holds several at once.
        let response = Box::pin(sending).await.map_err(fault)?;
        let status = response.status_code().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(MAX_REQUESTED_PAUSE));
        let body = response.bytes().await.map_err(fault)?;
        let mut answer = Answer { status, retry_after, body };
        if !answer.is_success()
            && let Ok(mut told) = serde_json::from_slice(&answer.body)
        {
            current.redaction.value(&mut told);
            answer.body = told.to_string().into();
        }
        Ok(answer)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, answer: Answer, doing: &str) -> Result<T, Fault> {
        if !answer.is_success() {
            return Err(faults::fault_from_response(&self.origin, doing, &answer, true));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| faults::fault_from_malformed(&self.origin, doing, &error))
    }
}

/// An API key before a user name, the settings before the URL.
fn credentials(settings: &ElasticsearchSettings) -> Result<Option<Credentials>, Fault> {
    if let Some(key) = settings.api_key.as_ref().map(|key| key.value().expose_secret()) {
        let key = key.trim();
        // The client panics on a key that no header can carry.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::misconfigured(
                PART,
                "the API key holds characters that no key has",
                "copy the key again, as one word",
            ));
        }
        // Base64 has no colon: this is the `id:key` form.
        return Ok(Some(match key.split_once(':') {
            Some((id, secret)) => Credentials::ApiKey(id.to_owned(), secret.to_owned()),
            None => Credentials::EncodedApiKey(key.to_owned()),
        }));
    }
    let password =
        || settings.password.as_ref().map_or("", |secret| secret.value().expose_secret()).to_owned();
    if let Some(username) = &settings.username {
        return Ok(Some(Credentials::Basic(username.clone(), password())));
    }
    if settings.url.username().is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials::Basic(
        unescaped(settings.url.username()),
        unescaped(settings.url.password().unwrap_or_default()),
    )))
}

/// What an error must not repeat: a gateway may tell what it was sent.
fn redaction(credentials: Option<&Credentials>) -> Redaction {
    match credentials {
        Some(Credentials::Basic(name, secret) | Credentials::ApiKey(name, secret)) => {
            Redaction::of_pair(name, secret)
        }
        Some(Credentials::EncodedApiKey(key)) => Redaction::of_encoded(key),
        _ => Redaction::of_nothing(),
    }
}

/// In a URL a password's own `@` and `:` are escaped.
fn unescaped(text: &str) -> String {
    // A form's only other rule turns `+` into a space, which must not happen here.
    let text = format!("v={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::fault::FaultKind;

    fn settings(url: &str) -> ElasticsearchSettings {
        ElasticsearchSettings {
            url: Url::parse(url).expect("a URL").into(),
            username: None,
            password: None,
            api_key: None,
            ssl_ca_location: None,
            index_prefix: String::new(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn credentials_in_the_url_are_used_and_never_shown() {
        let settings = settings("http://ana:seg%40re+do@es:9200/base?x=1");
        let client = Client::new(&settings).expect("a client");
        assert_eq!(client.origin(), "http://es:9200");
        let Some(Credentials::Basic(user, password)) = credentials(&settings).expect("credentials") else {
            panic!("no basic credentials");
        };
        assert_eq!((user.as_str(), password.as_str()), ("ana", "seg@re+do"));
    }

    #[test]
    fn both_forms_of_an_api_key_are_understood() {
        let mut settings = settings("http://es:9200");
        settings.api_key = Some("id:segredo".into());
        assert!(matches!(credentials(&settings), Ok(Some(Credentials::ApiKey(..)))));
        settings.api_key = Some("aWQ6c2VncmVkbw==\n".into());
        assert!(matches!(credentials(&settings), Ok(Some(Credentials::EncodedApiKey(..)))));
        settings.api_key = Some("a\nb".into());
        assert_eq!(credentials(&settings).expect_err("no key").kind, FaultKind::Misconfigured);
    }

    #[test]
    fn a_url_of_another_kind_is_a_matter_of_settings() {
        let fault = Client::new(&settings("ftp://es")).expect_err("no client");
        assert_eq!(fault.kind, FaultKind::Misconfigured);
    }
}
