//! What a client can read: one JSON answer, a stream of events, or either.

use axum::http::{HeaderMap, HeaderValue, header};

/// What the protocol has every client accept, and what is behind the transport insists on.
pub(super) const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readable {
    pub(super) json: bool,
    pub(super) events: bool,
}

impl Readable {
    /// What a request's `Accept` says; without one, anything.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let mut readable = Self { json: false, events: false };
        let given = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges =
            given.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).peekable();
        if ranges.peek().is_none() {
            return Self { json: true, events: true };
        }
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default().to_ascii_lowercase();
            if parts.any(is_weight_of_nothing) {
                continue;
            }
            readable.json |= ["*/*", "application/*", "application/json"].contains(&&*range);
            readable.events |= ["*/*", "text/*", "text/event-stream"].contains(&&*range);
        }
        readable
    }
}

/// `q=0`, in any of its spellings: the client can't read it.
fn is_weight_of_nothing(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q")
            && weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(accept: &[&'static str]) -> (bool, bool) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        let readable = Readable::by(&headers);
        (readable.json, readable.events)
    }

    #[test]
    fn a_client_reads_what_it_names_and_anything_when_it_names_nothing() {
        let (either, json, events, neither) = ((true, true), (true, false), (false, true), (false, false));
        assert_eq!(by(&[]), either);
        for (accept, reads) in [
            ("*/*", either),
            ("application/json, text/event-stream", either),
            ("text/html, */*;q=0.8", either),
            ("text/event-stream,application/*", either),
            ("application/json", json),
            ("Application/JSON; charset=utf-8", json),
            ("application/json, text/event-stream;q=0", json),
            ("text/event-stream", events),
            ("text/*", events),
            ("application/json;q=0.000, text/event-stream", events),
            ("text/html", neither),
            ("*/*;q=0", neither),
            ("", either),
        ] {
            assert_eq!(by(&[accept]), reads, "{accept}");
        }
        assert_eq!(by(&["application/json", "text/event-stream"]), either);
    }
}
