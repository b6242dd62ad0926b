//! PostgREST's error answers.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode},
};
use serde_json::json;

/// An answer that refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Failure {
    /// PostgREST's own form.
    pub fn new(status: u16, code: &str, message: &str, hint: Option<&str>) -> Self {
        let body = json!({"code": code, "message": message, "details": null, "hint": hint});
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())],
            body: body.to_string(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn unparsable(text: &str) -> Self {
        Self::new(400, "PGRST100", &format!("\"failed to parse filter ({text})\" (line 1, column 1)"), None)
    }

    pub(super) fn unknown_column(table: &str, column: &str) -> Self {
        Self::new(400, "42703", &format!("column {table}.{column} does not exist"), None)
    }

    pub(super) fn unknown_table(schema: &str, table: &str) -> Self {
        Self::new(
            404,
            "PGRST205",
            &format!("Could not find the table '{schema}.{table}' in the schema cache"),
            Some("Perhaps you meant the table 'public.leads'"),
        )
    }

    pub(super) fn wrong_key() -> Self {
        Self {
            status: 401,
            headers: Vec::new(),
            body: json!({"message": "Invalid API key", "hint": "Double check your Supabase `anon` or `service_role` API key."}).to_string(),
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (axum::http::HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response
    }
}
