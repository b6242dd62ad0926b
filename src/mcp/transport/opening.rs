//! How a session begins. Until one is open rmcp takes only what can open it, and ends where anything else comes: a
//! notification, an answer, or a request too early.

use rmcp::{
    ErrorData,
    model::{
        ClientJsonRpcMessage, ClientRequest, GetExtensions, JsonRpcError, JsonRpcMessage, ProtocolVersion,
        RequestMetaObject,
    },
};
use tracing::debug;

use crate::mcp::requests;

/// Whether a session is open yet.
#[derive(Debug, Default)]
pub(super) struct Opening {
    done: bool,
}

impl Opening {
    /// Whether a message is for the server; others mean nothing yet.
    ///
    /// # Errors
    /// When it is a request that comes too early, or one that opens no session although it should.
    pub(super) fn lets_through(&mut self, message: &ClientJsonRpcMessage) -> Result<bool, JsonRpcError> {
        if self.done {
            return Ok(true);
        }
        let JsonRpcMessage::Request(request) = message else {
            debug!("a message before the session was opened is ignored");
            return Ok(false);
        };
        match &request.request {
            ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => {}
            ClientRequest::InitializeRequest(_) => self.done = true,
            ClientRequest::CustomRequest(custom) if custom.method == "initialize" => {
                return Err(JsonRpcError::new(Some(request.id.clone()), requests::refusal(custom)));
            }
            other => {
                let meta = other.extensions().get::<RequestMetaObject>().cloned().unwrap_or_default();
                if !meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty() {
                    let problem = "no session is open: send initialize first, or give the request the _meta of \
                                   revision 2026-07-28: io.modelcontextprotocol/protocolVersion and \
                                   io.modelcontextprotocol/clientCapabilities";
                    let error = ErrorData::invalid_params(problem, None);
                    return Err(JsonRpcError::new(Some(request.id.clone()), error));
                }
                // A revision that nobody knows is refused further on, and opens nothing.
                let asked = meta.protocol_version();
                self.done = asked.is_some_and(|asked| ProtocolVersion::KNOWN_VERSIONS.contains(&asked));
            }
        }
        Ok(true)
    }
}
