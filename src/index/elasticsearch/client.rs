//! Requests to the server: plain content types, a bound on every call.

use std::time::Duration;

use bytes::Bytes;
use elasticsearch::{
    auth::Credentials,
    http::{
        Method,
        headers::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    PART,
    faults::{refused, unanswered},
};
use crate::{config::ElasticsearchSettings, fault::Fault};

/// The versioned types of newer clients get a 406 from OpenSearch and from Elasticsearch before 8.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// An answer of any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

pub(super) struct Client {
    transport: Transport,
    timeout: Duration,
    /// Host and port, for messages.
    pub(super) host: String,
}

impl Client {
    pub(super) fn new(settings: &ElasticsearchSettings) -> Result<Self, Fault> {
        let url = settings.url.clone();
        let host = format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        );
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url)).timeout(settings.timeout);
        if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
            builder = builder.auth(Credentials::Basic(username.clone(), password.expose_secret().to_owned()));
        } else if let Some(key) = &settings.api_key {
            builder = builder.auth(Credentials::EncodedApiKey(key.expose_secret().to_owned()));
        }
        let transport = builder.build().map_err(|error| {
            Fault::misconfigured(
                PART,
                format!("making a client for {host} failed: {error}"),
                "check the ELASTICSEARCH_ settings",
            )
        })?;
        Ok(Self { transport, timeout: settings.timeout, host })
    }

    /// Sends a request; an answer of any status is a success here.
    pub(super) async fn ask(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content_type: HeaderValue,
        body: Option<Bytes>,
    ) -> Result<Answer, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(ACCEPT, JSON);
        let sending = self.transport.send(method, path, headers, None::<&()>, body, Some(self.timeout));
        let response = sending.await.map_err(|error| unanswered(what, &self.host, &error))?;
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(|error| unanswered(what, &self.host, &error))?;
        Ok(Answer { status, body })
    }

    /// Sends JSON and fails unless the answer is a success.
    pub(super) async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Fault> {
        let body = body.map(|value| Bytes::from(value.to_string()));
        let answer = self.ask(what, method, path, JSON, body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        Err(refused(what, &self.host, answer.status, &answer.body))
    }

    /// As [`Client::call`], with the answer read as `T`.
    pub(super) async fn read<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, Fault> {
        let body = self.call(what, Method::Get, path, None).await?;
        serde_json::from_slice(&body).map_err(|_| {
            Fault::misconfigured(
                PART,
                format!("{what} on {} failed: the answer is not what Elasticsearch answers", self.host),
                "check that ELASTICSEARCH_URL leads to Elasticsearch or OpenSearch",
            )
        })
    }

    /// Whether something is there.
    pub(super) async fn exists(&self, what: &str, path: &str) -> Result<bool, Fault> {
        let answer = self.ask(what, Method::Head, path, JSON, None).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            status => Err(refused(what, &self.host, status, &answer.body)),
        }
    }

    pub(super) async fn bulk(&self, what: &str, path: &str, body: Bytes) -> Result<Answer, Fault> {
        self.ask(what, Method::Post, path, NDJSON, Some(body)).await
    }
}
