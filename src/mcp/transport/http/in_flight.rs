//! Requests of sessions that are still being answered, by their ids: rmcp answers the second of two with one id, and
//! never the first.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{http::StatusCode, response::Response};
use rmcp::model::{ErrorCode, RequestId};
use serde_json::Value;

use super::guard::refuse;

type Key = (String, RequestId);

#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashSet<Key>>);

/// A request under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    all: Arc<InFlight>,
    key: Key,
}

impl InFlight {
    /// Takes note of a request; `None` where another of its session has the same id.
    pub(super) fn begin(self: &Arc<Self>, session: &str, id: &RequestId) -> Option<UnderWay> {
        let key = (session.to_owned(), id.clone());
        self.keys().insert(key.clone()).then(|| UnderWay { all: self.clone(), key })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.keys().remove(&self.key);
    }
}

/// What the second of two requests is answered.
pub(super) fn refused(id: &Value) -> Response {
    let problem =
        "the id is that of a request of this session that is still being answered; give each its own";
    refuse(StatusCode::BAD_REQUEST, ErrorCode::INVALID_REQUEST.0, id, problem)
}
