//! The last thing that happens to whatever leaves the server: no personal data goes out that the operator did not
//! release, and no character that could deceive a terminal or a reader.

pub(in crate::mcp) mod fence;
mod mask;
pub(in crate::mcp) mod render;

use std::{borrow::Cow, sync::Arc};

use rmcp::{
    ErrorData,
    model::{CallToolResult, ContentBlock, GetPromptResult, ResourceContents},
};
use serde_json::{Map, Value};

pub(crate) use mask::Masking;

use crate::{domain::Catalog, store::QueryAnswer};

/// A text in a test that stands for a defect of what masks.
#[cfg(test)]
pub(in crate::mcp) const BREAKS_MASKING: &str = "breaks_masking";

/// How answers leave.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    /// The fields that are masked; `None` where e-mail addresses, phone numbers and IP addresses go out as they are.
    masking: Option<Arc<Masking>>,
    catalog: Catalog,
}

impl Outgoing {
    pub(super) fn new(masking: Option<Masking>, catalog: Catalog) -> Self {
        Self { masking: masking.map(Arc::new), catalog }
    }

    /// Contacts leave as they are.
    pub(super) fn sees_contacts(&self) -> bool {
        self.masking.is_none()
    }

    /// A tool's answer as it may leave. What was found is told as text, too.
    pub(super) fn result(&self, mut result: CallToolResult) -> CallToolResult {
        for block in &mut result.content {
            self.block(block);
        }
        if let Some(structured) = &mut result.structured_content {
            self.value(structured);
            result.content.push(ContentBlock::text(render::text(structured)));
        }
        for detail in result.meta.iter_mut().flat_map(|meta| meta.values_mut()) {
            self.value(detail);
        }
        result
    }

    /// A prompt as it may leave.
    pub(super) fn prompt(&self, mut prompt: GetPromptResult) -> GetPromptResult {
        for message in &mut prompt.messages {
            self.block(&mut message.content);
        }
        prompt
    }

    /// A failure as it may leave: it may quote what was given or found.
    pub(super) fn error(&self, mut error: ErrorData) -> ErrorData {
        let mut message = error.message.into_owned();
        self.text(&mut message);
        error.message = Cow::Owned(message);
        if let Some(data) = &mut error.data {
            self.value(data);
        }
        error
    }

    /// What a statement answered as it may leave: a masked field is masked by whatever name the statement gave it.
    pub(super) fn answer(&self, store: &str, sql: &str, answer: &mut QueryAnswer) {
        if let Some(masking) = &self.masking {
            masking.answer(self.catalog, store, sql, answer);
        }
    }

    /// The value of a field as it may leave.
    pub(super) fn field(&self, name: &str, value: &mut Value) {
        clean(value);
        if let Some(masking) = &self.masking {
            masking.field(name, value);
        }
    }

    /// A value as it may leave.
    pub(super) fn value(&self, value: &mut Value) {
        clean(value);
        if let Some(masking) = &self.masking {
            masking.value(value);
        }
    }

    /// Text as it may leave.
    pub(super) fn text(&self, text: &mut String) {
        #[cfg(test)]
        assert!(!text.contains(BREAKS_MASKING), "as the test wants it");
        if let Some(clean) = fence::neutral(text) {
            *text = clean;
        }
        if let Some(masked) = self.masking.as_ref().and_then(|masking| masking.text(text)) {
            *text = masked;
        }
    }

    fn block(&self, block: &mut ContentBlock) {
        match block {
            ContentBlock::Text(text) => self.text(&mut text.text),
            ContentBlock::Resource(embedded) => {
                if let ResourceContents::TextResourceContents { text, .. } = &mut embedded.resource {
                    self.text(text);
                }
            }
            _ => {}
        }
    }
}

/// Takes out of every text, names of members included, what deceives.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(clean) = fence::neutral(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => {
            rename_keys(members, fence::neutral);
            members.values_mut().for_each(clean);
        }
        _ => {}
    }
}

/// Gives members other names where `rename` has one. Two that come to the same name are told apart.
fn rename_keys(members: &mut Map<String, Value>, rename: impl Fn(&str) -> Option<String>) {
    if members.keys().all(|name| rename(name).is_none()) {
        return;
    }
    for (name, member) in std::mem::take(members) {
        let name = rename(&name).unwrap_or(name);
        let mut unlike = name.clone();
        let mut same = 1;
        while members.contains_key(&unlike) {
            same += 1;
            unlike = format!("{name} ({same})");
        }
        members.insert(unlike, member);
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
        let result = Outgoing::new(Some(Masking::default()), Catalog::built_in()).result(answer());
        let all = serde_json::to_string(&result).expect("JSON");
        for hidden in ["maria@", "98765", "4321\"", "\\u001b", "\u{202e}", "[31m"] {
            assert!(!all.contains(hidden), "{hidden} in {all}");
        }
    }

    #[test]
    fn an_operator_who_asked_for_it_sees_personal_data_but_never_control_characters() {
        let result = Outgoing::new(None, Catalog::built_in()).result(answer());
        let all = serde_json::to_string(&result).expect("JSON");
        assert!(all.contains("\"email\":\"maria@exemplo.com.br\"") && all.contains("98765-4321"), "{all}");
        assert!(!all.contains("\\u001b") && !all.contains('\u{202e}'), "{all}");
    }
}
