//! Requests to PostgREST: bounded in time and size, repeated where the answer allows it.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use reqwest::{
    Certificate, Client, Response,
    header::{DATE, HeaderMap, RETRY_AFTER},
    redirect,
};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use url::Url;

use super::{
    PART,
    errors::{ErrorBody, Verdict, refused, verdict},
    key::{self, KeyKind},
};
use crate::{
    authorities,
    backoff::{Backoff, retry_after},
    config::{Secret, SupabaseSettings},
    deadline,
    domain::Table,
    fault::{Fault, FaultKind},
    http_client::Lazy,
    redaction::Redaction,
    traces,
};

/// The largest answer that is read. A page of a thousand rows is far below.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Names the authorities to trust.
const CA_SETTING: &str = "SUPABASE_SSL_CA_LOCATION";

/// First and longest pause between two attempts; `Retry-After` may ask for more.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long is tried again while somebody waits who is to be told why.
const RETRY_FOR_IN_A_HURRY: Duration = Duration::from_secs(2);

/// A successful answer.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The server's time when it answered, as far as it told.
    pub(super) clock: Option<DateTime<Utc>>,
    /// The server's time when it was asked: what it shows was committed before.
    pub(super) asked_at: DateTime<Utc>,
}

/// Why a request came to nothing.
pub(super) enum Refusal {
    /// PostgREST's answer, which the caller may know what to do about.
    Answer {
        status: u16,
        error: ErrorBody,
    },
    /// The answer is larger than what is read.
    TooLarge,
    Fault(Fault),
}

impl Refusal {
    /// Whether the table has no such column.
    pub(super) fn is_without(&self, table: Table, column: &str) -> bool {
        matches!(self, Self::Answer { error, .. } if error.missing_column(table.source_name()) == Some(column))
    }
}

/// Why an answer of the right status is none.
pub(super) enum Unreadable {
    /// It begins as it should and breaks off, or goes on as something else, after so many bytes.
    CutOff(usize),
    /// A page for people: a proxy's or a gateway's.
    WebPage,
    /// Something else than this.
    Not(&'static str),
}

/// What is asked for.
pub(super) struct Request<'a> {
    /// Names what is attempted, for messages: `reading leads`.
    pub(super) what: &'a str,
    /// What is served below `/rest/v1/` under that name, as the project spells it; empty for the root.
    pub(super) path: &'a str,
    /// The schema that serves it, where it is not the settings' own.
    pub(super) schema: Option<&'a str>,
    pub(super) query: &'a [(String, String)],
    pub(super) prefer: &'a str,
    pub(super) accept: &'a str,
}

pub(super) struct Http {
    settings: SupabaseSettings,
    keyed: RwLock<Arc<Keyed>>,
    base: Url,
    pub(super) host: String,
}

/// What is made of a key.
struct Keyed {
    key: Secret,
    client: Lazy<Client>,
    redaction: Redaction,
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn unmade(problem: &str) -> Fault {
    Fault::misconfigured(PART, problem, "report this")
}

impl Keyed {
    fn new(settings: &SupabaseSettings, key: Secret) -> Result<Self, Fault> {
        let refused = |problem: String, advice: &str| Fault::misconfigured(PART, problem, advice);
        let headers = key::headers(key.value()).map_err(|_| {
            refused("the key holds characters no header can carry".to_owned(), "copy SUPABASE_KEY anew")
        })?;
        let mut builder = Client::builder();
        if is_loopback(&settings.url) {
            // A proxy could not reach this machine's own loopback.
            builder = builder.no_proxy();
        }
        if let Some(path) = &settings.ssl_ca_location {
            let pem = authorities::read(PART, CA_SETTING, path)?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| {
                refused(
                    format!("{CA_SETTING}: {} is unusable: {error}", path.display()),
                    "write it anew as PEM",
                )
            })?;
            builder = builder.tls_certs_merge(authorities);
        }
        let builder = builder
            // Supabase refuses secret keys to anything that looks like a browser.
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(settings.timeout.min(Duration::from_secs(10)))
            .timeout(settings.timeout)
            // A key must not follow a redirect to another host.
            .redirect(redirect::Policy::none())
            .gzip(true);
        let client = Lazy::from(builder);
        if settings.ssl_ca_location.is_some() {
            // Whether the file is of any use is told at once.
            client.get().map_err(unmade)?;
        }
        let redaction = Redaction::of(key.value().expose_secret());
        Ok(Self { key, client, redaction })
    }
}

impl Http {
    pub(super) fn new(settings: &SupabaseSettings) -> Result<Self, Fault> {
        let keyed = Keyed::new(settings, settings.key.clone())?;
        let mut base = (*settings.url).clone();
        base.set_path(&format!("{}/rest/v1/", settings.url.path().trim_end_matches('/')));
        let host = match base.port() {
            Some(port) => format!("{}:{port}", base.host_str().unwrap_or_default()),
            None => base.host_str().unwrap_or_default().to_owned(),
        };
        Ok(Self { settings: settings.clone(), keyed: RwLock::new(Arc::new(keyed)), base, host })
    }

    pub(super) fn project(&self) -> &str {
        self.base.as_str()
    }

    /// Where what a schema serves is asked for; the settings' own where it names none.
    pub(super) fn place(&self, schema: Option<&str>) -> String {
        format!("{} {}", self.base, schema.unwrap_or(&self.settings.schema))
    }

    /// Has the client made while somebody does something else.
    pub(super) fn get_ready(&self) {
        let keyed = self.keyed();
        tokio::task::spawn_blocking(move || keyed.client.get().is_ok());
    }

    /// What kind of key is in use.
    pub(super) fn key(&self) -> KeyKind {
        KeyKind::of(self.keyed().key.value())
    }

    fn keyed(&self) -> Arc<Keyed> {
        self.keyed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the key anew after it was refused, where it stands elsewhere; whether it is another by now.
    async fn renew(&self, refused: &Arc<Keyed>) -> bool {
        let renewed = match refused.key.changed().await {
            Ok(Some(key)) => Keyed::new(&self.settings, key),
            // Another request may have renewed it.
            Ok(None) => return !Arc::ptr_eq(refused, &self.keyed()),
            Err(problem) => {
                warn!(problem, "SUPABASE_KEY is refused and can't be had anew from where it stands");
                return false;
            }
        };
        match renewed {
            Ok(keyed) => {
                *self.keyed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyed);
                info!("SUPABASE_KEY was refused, and another one is used that stands in its place");
                true
            }
            Err(fault) => {
                warn!(error = %fault, "SUPABASE_KEY is refused, and what stands in its place is none");
                false
            }
        }
    }

    /// The schema of tables whose definition names none.
    pub(super) fn schema(&self) -> &str {
        &self.settings.schema
    }

    /// Sends a GET and reads the answer, and again while the answer allows it and the time for retries lasts. Under a
    /// deadline that is short, so that the last refusal is told.
    pub(super) async fn get<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(&Reply) -> Result<T, Unreadable>,
    ) -> Result<(Reply, T), Refusal> {
        let retry_for = self.settings.retry_for;
        let retry_for =
            if deadline::current().is_some() { retry_for.min(RETRY_FOR_IN_A_HURRY) } else { retry_for };
        let until = Instant::now() + retry_for;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut may_renew = true;
        loop {
            let keyed = self.keyed();
            let (refusal, asked) = match self.try_get(&keyed, request).await {
                Ok(reply) => match read(&reply) {
                    Ok(found) => return Ok((reply, found)),
                    Err(unreadable) => (Refusal::Fault(self.unreadable(request.what, &unreadable)), None),
                },
                Err(failed) => failed,
            };
            let is_key = matches!(refusal, Refusal::Answer { status: 401, .. });
            if is_key && std::mem::take(&mut may_renew) && self.renew(&keyed).await {
                continue;
            }
            let again = match &refusal {
                Refusal::Answer { status, error } => verdict(*status, error.code()) == Verdict::Retry,
                Refusal::TooLarge => false,
                Refusal::Fault(fault) => fault.kind == FaultKind::Transient,
            };
            let pause = backoff.next_pause(asked);
            if !again || pause > until.saturating_duration_since(Instant::now()) {
                return Err(match refusal {
                    Refusal::Answer { status, error } if again => {
                        let fault = refused(request.what, &self.host, status, &error);
                        Refusal::Fault(match asked {
                            Some(asked) if again => not_before(fault, asked, self.settings.retry_for),
                            _ => fault,
                        })
                    }
                    other => other,
                });
            }
            traces::answered(|| [traces::HTTP_RESENDS.counts(backoff.failures())]);
            debug!(what = request.what, ?pause, "supabase refused in passing, asking again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_get(
        &self,
        keyed: &Keyed,
        request: &Request<'_>,
    ) -> Result<Reply, (Refusal, Option<Duration>)> {
        let unanswered =
            |error: reqwest::Error| (Refusal::Fault(self.unanswered(request.what, &error)), None);
        let address = address(&self.base, request.path).ok_or_else(|| {
            let problem =
                format!("{} failed: the name {:?} can't stand in an address", request.what, request.path);
            let advice = "rename the table, or make a view of it in the project with another name";
            (Refusal::Fault(Fault::misconfigured(PART, problem, advice)), None)
        })?;
        let begun = Instant::now();
        let client = keyed.client.get().map_err(|problem| (Refusal::Fault(unmade(problem)), None))?;
        let response = client
            .get(address)
            .timeout(deadline::cut(self.settings.timeout))
            .query(request.query)
            .header("Accept", request.accept)
            .header("Accept-Profile", request.schema.unwrap_or(self.schema()))
            .header("Prefer", request.prefer)
            .send()
            .await
            .map_err(unanswered)?;
        let status = response.status();
        let headers = response.headers().clone();
        let clock = clock(&headers);
        // An answer begins after what it shows was read, so the way there counts, too.
        let elapsed = TimeDelta::from_std(begun.elapsed()).unwrap_or_default();
        let asked_at = clock.unwrap_or_else(Utc::now) - elapsed;
        let body = match read_body(response).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err((Refusal::TooLarge, None)),
            Err(error) => return Err(unanswered(error)),
        };
        traces::answered(|| {
            [traces::HTTP_STATUS.counts(status.as_u16()), traces::HTTP_BYTES.counts(body.len())]
        });
        if status.is_success() {
            return Ok(Reply { headers, body, clock, asked_at });
        }
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, Utc::now()));
        Err((
            Refusal::Answer {
                status: status.as_u16(),
                error: ErrorBody::read(&body).redacted(&keyed.redaction),
            },
            asked,
        ))
    }

    /// A refusal that nothing more can be done about.
    pub(super) fn fault(&self, what: &str, refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Answer { status, error } => refused(what, &self.host, status, &error),
            Refusal::TooLarge => Fault::misconfigured(
                PART,
                format!("{what} from {} failed: a single row is larger than {MAX_BYTES} bytes", self.host),
                "name the column that holds so much in never_read of the table's definition",
            ),
            Refusal::Fault(fault) => fault,
        }
    }

    fn unreadable(&self, what: &str, unreadable: &Unreadable) -> Fault {
        let told = |problem: &str| format!("{what} from {} failed: {problem}", self.host);
        match unreadable {
            Unreadable::CutOff(bytes) => Fault::transient(
                PART,
                told(&format!("the answer is cut off after {bytes} bytes")),
                "it is tried again; if it lasts, lower SUPABASE_PAGE_SIZE, and look at proxies between here and the project",
            ),
            Unreadable::WebPage => Fault::transient(
                PART,
                told("the answer is a web page where data should be"),
                "it is tried again; if it lasts, check that SUPABASE_URL is the project's API and not a page or a proxy before it",
            ),
            Unreadable::Not(expected) => Fault::misconfigured(
                PART,
                told(&format!("the answer is not {expected}")),
                "check that SUPABASE_URL leads to a Supabase project",
            ),
        }
    }

    /// reqwest's own text holds the URL with its query, which may hold filters: only the kind is repeated.
    fn unanswered(&self, what: &str, error: &reqwest::Error) -> Fault {
        if is_untrusted(error) {
            return Fault::misconfigured(
                PART,
                format!(
                    "{what} from {} failed: its certificate is not trusted, or is another server's",
                    self.host
                ),
                "if SUPABASE_URL is right, name the file of the authority that signed it in SUPABASE_SSL_CA_LOCATION",
            );
        }
        let reason = if error.is_timeout() {
            "no answer within the timeout"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke, or the answer is cut off"
        };
        Fault::transient(
            PART,
            format!("{what} from {} failed: {reason}", self.host),
            "check SUPABASE_URL and the network, and that the project is not paused",
        )
    }
}

/// Whether it ended at the server's certificate.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.into_iter().any(|cause| cause.to_string().contains("certificate"))
}

/// The address of a table below the base. A name is one segment, whatever it holds; `None` where none can be made of it.
fn address(base: &Url, name: &str) -> Option<Url> {
    let mut address = base.clone();
    if !name.is_empty() {
        address.path_segments_mut().ok()?.pop_if_empty().push(name);
        // A URL has no segment of one or two dots.
        if address.path() == base.path().trim_end_matches('/') {
            return None;
        }
    }
    Some(address)
}

/// A refusal that asks for a longer pause than is waited out: names it, and when to come again.
fn not_before(fault: Fault, asked: Duration, waits: Duration) -> Fault {
    let at = Utc::now() + TimeDelta::from_std(asked).unwrap_or_default();
    let message = format!(
        "{}; it asks to be left alone for {} s, until {}",
        fault.message,
        asked.as_secs(),
        at.format("%Y-%m-%dT%H:%M:%SZ")
    );
    let advice = format!(
        "start it again after that; a sync waits {} s at most, which SUPABASE_RETRY_SECONDS sets",
        waits.as_secs()
    );
    Fault { message, advice: advice.into(), ..fault }.with_retry_after(Some(asked))
}

/// What a body that is not the expected JSON is.
pub(super) fn unreadable(body: &[u8], error: &serde_json::Error, expected: &'static str) -> Unreadable {
    let begins_with = |sign: u8| body.trim_ascii_start().first() == Some(&sign);
    if begins_with(b'<') {
        Unreadable::WebPage
    } else if error.is_eof() {
        Unreadable::CutOff(body.len())
    } else if error.is_syntax() && (begins_with(b'[') || begins_with(b'{')) {
        let lines = body.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        Unreadable::CutOff(lines.map(<[u8]>::len).sum::<usize>() + error.column())
    } else {
        Unreadable::Not(expected)
    }
}

/// The `Date` of an answer. One of another age is no clock of a server's.
fn clock(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?.to_utc();
    (2020..=2200).contains(&date.year()).then_some(date)
}

/// `None` when the body is too large.
async fn read_body(mut response: Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(body: &str) -> Unreadable {
        let error = serde_json::from_str::<Vec<serde_json::Value>>(body).expect_err("no list");
        unreadable(body.as_bytes(), &error, "a list of rows")
    }

    #[test]
    fn half_an_answer_and_a_web_page_are_told_from_something_else() {
        for cut in ["", "[", "[{\"id\": 1}, {\"na", "[1,"] {
            assert!(matches!(why(cut), Unreadable::CutOff(bytes) if bytes == cut.len()), "{cut}");
        }
        assert!(matches!(why("[{\"id\": 1},\n{\"na<html>oops"), Unreadable::CutOff(_)));
        assert!(matches!(why("[{\"id\": 1}}"), Unreadable::CutOff(11)), "where it goes wrong");
        assert!(matches!(why("  <html>maintenance</html>"), Unreadable::WebPage));
        for other in ["{\"rows\": []}", "nothing", "42"] {
            assert!(matches!(why(other), Unreadable::Not("a list of rows")), "{other}");
        }
    }

    #[test]
    fn a_table_s_name_is_one_segment_of_its_address_whatever_it_holds() {
        let base = Url::parse("https://abc.supabase.co/rest/v1/").expect("a URL");
        let told =
            |name: &str| address(&base, name).map(|address| address[url::Position::BeforePath..].to_owned());
        for (name, path) in [
            ("", "/rest/v1/"),
            ("leads", "/rest/v1/leads"),
            ("a/b?c#d", "/rest/v1/a%2Fb%3Fc%23d"),
            ("100% ação", "/rest/v1/100%25%20a%C3%A7%C3%A3o"),
            ("//evil.example/x", "/rest/v1/%2F%2Fevil.example%2Fx"),
            ("https://evil.example", "/rest/v1/https:%2F%2Fevil.example"),
            ("../auth", "/rest/v1/..%2Fauth"),
        ] {
            assert_eq!(told(name).as_deref(), Some(path), "{name}");
        }
        assert_eq!((told(".."), told(".")), (None, None));
    }

    #[test]
    fn a_date_is_the_servers_clock_where_it_can_be() {
        let dated = |date: &'static str| {
            clock(&HeaderMap::from_iter([(DATE, reqwest::header::HeaderValue::from_static(date))]))
        };
        assert_eq!(dated("Wed, 25 Nov 2026 10:20:30 GMT").map(|at| at.timestamp()), Some(1_795_602_030));
        assert_eq!(dated("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        assert_eq!(dated("amanha"), None);
        assert_eq!(clock(&HeaderMap::new()), None);
    }
}
