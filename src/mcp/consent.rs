//! Consent: a tool that destroys something acts only after a person, or the caller on a person's behalf, said so.

use super::answer::ToolError;

/// Passes when the arguments carry `confirm: true`; otherwise the error tells what would happen and how to go on.
/// `what` finishes the sentence "this …", for example "deletes 12 dead letters for good".
#[allow(dead_code)]
pub(super) fn confirmed(confirm: Option<bool>, what: &str) -> Result<(), ToolError> {
    if confirm == Some(true) {
        return Ok(());
    }
    Err(ToolError::argument(
        "confirm",
        format_args!("this {what}; ask the user, then call again with the same arguments and confirm: true"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_confirms() {
        assert!(confirmed(Some(true), "deletes 12 dead letters").is_ok());
        for given in [None, Some(false)] {
            let error = confirmed(given, "deletes 12 dead letters").expect_err("no consent");
            let text = error.to_string();
            assert!(text.contains("deletes 12 dead letters") && text.contains("confirm: true"), "{text}");
        }
    }
}
