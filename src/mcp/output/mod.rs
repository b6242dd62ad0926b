//! The last thing that happens to whatever leaves the server: no personal data goes out that the operator did not
//! release, and no character that could deceive a terminal or a reader.

pub(in crate::mcp) mod fence;
mod mask;

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

/// How answers leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing {
    /// E-mail addresses, phone numbers and IP addresses go out as they are.
    pub(super) reveal_pii: bool,
}

impl Outgoing {
    /// A tool's answer as it may leave.
    pub(super) fn result(self, mut result: CallToolResult) -> CallToolResult {
        for block in &mut result.content {
            match block {
                ContentBlock::Text(text) => self.text(&mut text.text),
                ContentBlock::Resource(embedded) => self.contents(&mut embedded.resource),
                _ => {}
            }
        }
        if let Some(structured) = &mut result.structured_content {
            self.value(structured);
        }
        for detail in result.meta.iter_mut().flat_map(|meta| meta.values_mut()) {
            self.value(detail);
        }
        result
    }

    /// A value as it may leave.
    pub(super) fn value(self, value: &mut Value) {
        clean_strings(value);
        if !self.reveal_pii {
            mask::value(value);
        }
    }

    /// Text as it may leave.
    pub(super) fn text(self, text: &mut String) {
        if let Some(clean) = fence::neutral(text) {
            *text = clean;
        }
        if !self.reveal_pii
            && let Some(masked) = mask::text(text)
        {
            *text = masked;
        }
    }

    fn contents(self, contents: &mut ResourceContents) {
        if let ResourceContents::TextResourceContents { text, .. } = contents {
            self.text(text);
        }
    }
}

fn clean_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(clean) = fence::neutral(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean_strings),
        Value::Object(members) => members.values_mut().for_each(clean_strings),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> CallToolResult {
        let mut result = CallToolResult::success(vec![ContentBlock::text(
            "\u{1b}[31mmaria@exemplo.com.br\u{1b}[0m ligou de (11) 98765-4321",
        )]);
        result.structured_content =
            Some(json!({"lead": {"email": "maria@exemplo.com.br", "nome": "Mar\u{202e}ia"}}));
        result
    }

    #[test]
    fn text_and_structured_content_leave_clean_and_masked() {
        let result = Outgoing { reveal_pii: false }.result(answer());
        let all = serde_json::to_string(&result).expect("JSON");
        for hidden in ["maria@", "98765", "4321\"", "\\u001b", "\u{202e}", "[31m"] {
            assert!(!all.contains(hidden), "{hidden} in {all}");
        }
    }

    #[test]
    fn an_operator_who_asked_for_it_sees_personal_data_but_never_control_characters() {
        let result = Outgoing { reveal_pii: true }.result(answer());
        let all = serde_json::to_string(&result).expect("JSON");
        assert!(all.contains("\"email\":\"maria@exemplo.com.br\"") && all.contains("98765-4321"), "{all}");
        assert!(!all.contains("\\u001b") && !all.contains('\u{202e}'), "{all}");
    }
}
