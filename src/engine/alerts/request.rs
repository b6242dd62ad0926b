//! What is asked for, and how it is worded: whatever does not belong is refused, since an alert without it would be another.

use schemars::JsonSchema;
use serde::Deserialize;

use super::invalid;
use crate::{domain::TableName, engine::EngineError, source::Condition, store::AlertRule};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct AlertRequest {
    pub name: String,
    pub target: Option<String>,
    pub rule: AlertRule,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Row,
    Lag,
    Late,
    DeadLetters,
}

/// A rule as a user words it.
#[derive(Debug, Clone)]
pub struct AlertTerms {
    pub when: When,
    /// Leads if left out.
    pub table: Option<String>,
    /// As [`Condition::parse`] reads them.
    pub conditions: Vec<String>,
    pub above: Option<u64>,
    pub minutes: Option<u32>,
}

impl AlertTerms {
    /// The rule.
    ///
    /// # Errors
    /// When a term can't be read, or says nothing of what the alert is about.
    pub fn rule(self) -> Result<AlertRule, EngineError> {
        for (field, is_given, of, told) in [
            ("table", self.table.is_some(), &[When::Row][..], "rows alone"),
            ("where", !self.conditions.is_empty(), &[When::Row], "rows alone"),
            (
                "above",
                self.above.is_some(),
                &[When::Lag, When::DeadLetters],
                "lag and dead letters; rows are asked for by where, as score_qualificacao>=80",
            ),
            ("minutes", self.minutes.is_some(), &[When::Lag, When::Late], "lag and what is late"),
        ] {
            if is_given && !of.contains(&self.when) {
                return invalid(field, format!("leave it out: it is for {told}"));
            }
        }
        let read = |text: String| {
            let problem =
                format!("{text}: write a column, one of = != > >= < <= and a value, as origem=google");
            Condition::parse(&text).ok_or(EngineError::Invalid { field: "where", problem })
        };
        Ok(match self.when {
            When::Row => AlertRule::Row {
                table: TableName(self.table.unwrap_or_else(|| "leads".to_owned())),
                conditions: self.conditions.into_iter().map(read).collect::<Result<_, _>>()?,
            },
            When::Lag => {
                AlertRule::Lag { records: self.above.unwrap_or(1_000), minutes: self.minutes.unwrap_or(5) }
            }
            When::Late => AlertRule::Late { minutes: self.minutes.unwrap_or(0) },
            When::DeadLetters => AlertRule::DeadLetters { above: self.above.unwrap_or(0) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(when: When) -> AlertTerms {
        AlertTerms { when, table: None, conditions: Vec::new(), above: None, minutes: None }
    }

    #[test]
    fn a_term_that_says_nothing_of_what_the_alert_is_about_is_refused() {
        let every = [When::Row, When::Lag, When::Late, When::DeadLetters];
        let refused = |field: &str, give: fn(&mut AlertTerms)| -> Vec<When> {
            let is_refused = |when: &When| {
                let mut terms = of(*when);
                give(&mut terms);
                terms.rule().is_err_and(|error| error.field() == Some(field))
            };
            every.into_iter().filter(is_refused).collect()
        };
        assert_eq!(refused("above", |terms| terms.above = Some(80)), [When::Row, When::Late]);
        assert_eq!(refused("minutes", |terms| terms.minutes = Some(5)), [When::Row, When::DeadLetters]);
        let no_rows = [When::Lag, When::Late, When::DeadLetters];
        assert_eq!(refused("table", |terms| terms.table = Some("leads".to_owned())), no_rows);
        assert_eq!(refused("where", |terms| terms.conditions.push("origem=google".to_owned())), no_rows);
        let unread = AlertTerms { conditions: vec!["score=>80".to_owned()], ..of(When::Row) };
        assert!(unread.rule().expect_err("refused").to_string().contains("where: score=>80: write"));
        for when in every {
            assert!(of(when).rule().is_ok(), "{when:?}");
        }
    }
}
