//! What a client may do: decided where it connects, enforced where tools are listed and called.

use axum::http::request::Parts;
use rmcp::model::{Extensions, Tool};

/// The rights of whoever sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every tool.
    Full,
    /// Only tools whose annotations say that they read and change nothing.
    ReadOnly,
}

impl Access {
    /// The rights behind a request, from its context's extensions. Over stdio whoever started the process has all of
    /// them; over HTTP the transport says, and where it did not, reading must do.
    pub fn of(extensions: &Extensions) -> Self {
        match extensions.get::<Parts>() {
            None => Self::Full,
            Some(parts) => parts.extensions.get().copied().unwrap_or(Self::ReadOnly),
        }
    }

    /// Whether a tool may be seen and called.
    pub fn allows(self, tool: &Tool) -> bool {
        match self {
            Self::Full => true,
            Self::ReadOnly => {
                tool.annotations.as_ref().and_then(|annotations| annotations.read_only_hint) == Some(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::Request;
    use rmcp::model::ToolAnnotations;

    use super::*;

    fn over_http(access: Option<Access>) -> Extensions {
        let mut request = Request::new(());
        if let Some(access) = access {
            request.extensions_mut().insert(access);
        }
        let mut extensions = Extensions::new();
        extensions.insert(request.into_parts().0);
        extensions
    }

    #[test]
    fn stdio_has_every_right_and_http_only_what_the_transport_gave() {
        assert_eq!(Access::of(&Extensions::new()), Access::Full);
        assert_eq!(Access::of(&over_http(Some(Access::Full))), Access::Full);
        assert_eq!(Access::of(&over_http(Some(Access::ReadOnly))), Access::ReadOnly);
        assert_eq!(Access::of(&over_http(None)), Access::ReadOnly, "what nobody checked may not write");
    }

    #[test]
    fn a_tool_that_does_not_say_that_it_only_reads_is_taken_to_write() {
        let tool = |annotations: Option<ToolAnnotations>| {
            let mut tool = Tool::new("t", "d", Arc::default());
            tool.annotations = annotations;
            tool
        };
        let reads = tool(Some(ToolAnnotations::new().read_only(true)));
        assert!(Access::ReadOnly.allows(&reads));
        for writes in [
            tool(None),
            tool(Some(ToolAnnotations::new())),
            tool(Some(ToolAnnotations::new().read_only(false))),
        ] {
            assert!(!Access::ReadOnly.allows(&writes) && Access::Full.allows(&writes));
        }
    }
}
