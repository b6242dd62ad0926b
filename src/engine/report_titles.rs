//! What a report says of itself, in the language of whoever reads it.

use std::fmt::Write as _;

use chrono::NaiveDate;

use super::Report;
use crate::{
    domain::{Period, Table},
    language::Language,
};

/// The headings of a report's columns and rows that no value gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportTitles {
    pub before: &'static str,
    pub missing: &'static str,
    pub others: &'static str,
}

impl ReportTitles {
    /// The headings in a language.
    pub fn of(language: Language) -> Self {
        language.choose(
            Self { before: "before", missing: "(missing)", others: "(others)" },
            Self { before: "antes", missing: "(sem valor)", others: "(outros)" },
        )
    }
}

/// What people call one of the definition's counts.
pub fn count_title(name: &str, language: Language) -> &str {
    match (name, language) {
        ("qualified", Language::Portuguese) => "qualificados",
        _ => name,
    }
}

impl Report {
    /// The report in a sentence or two.
    pub fn summary(&self, table: Table, language: Language) -> String {
        match language {
            Language::English => self.english(table),
            Language::Portuguese => self.portuguese(table),
        }
    }

    fn english(&self, table: Table) -> String {
        let days = |period: Period| match (period.first, period.last()) {
            (first, last) if first == last => format!("on {first}"),
            (first, last) => format!("from {first} to {last}"),
        };
        let mut text = format!("{} {table} arrived {} ({})", self.total.rows, days(self.period), self.zone);
        if let (Some(before), Some(difference)) = (self.total.before, self.total.difference()) {
            let compared = match difference {
                0 => "as many as".to_owned(),
                more if more > 0 => format!("{more} more than"),
                fewer => format!("{} fewer than", fewer.unsigned_abs()),
            };
            let _ = write!(text, ", {compared} {} ({before}", days(self.period.before()));
            if let Some(by_now) = self.before_by_now {
                let _ = write!(text, ", {by_now} of them in the same time, as this period is not over");
            }
            text.push(')');
        }
        for (name, met, percent) in self.total.shares(&self.counts) {
            let _ = write!(text, "; {met} {name} ({percent} %)");
        }
        if self.undated > 0 {
            let _ = write!(text, "; {} more say nothing of when they arrived", self.undated);
        }
        text + "."
    }

    fn portuguese(&self, table: Table) -> String {
        let day = |day: NaiveDate| day.format("%d/%m/%Y");
        let days = |period: Period| match (period.first, period.last()) {
            (first, last) if first == last => format!("em {}", day(first)),
            (first, last) => format!("de {} a {}", day(first), day(last)),
        };
        let mut text = format!("{table}: chegaram {} {} ({})", self.total.rows, days(self.period), self.zone);
        if let (Some(before), Some(difference)) = (self.total.before, self.total.difference()) {
            let compared = match difference {
                0 => "o mesmo que".to_owned(),
                more if more > 0 => format!("{more} a mais que"),
                fewer => format!("{} a menos que", fewer.unsigned_abs()),
            };
            let _ = write!(text, ", {compared} {} ({before}", days(self.period.before()));
            if let Some(by_now) = self.before_by_now {
                let _ = write!(text, ", dos quais {by_now} até a mesma hora, pois o período não acabou");
            }
            text.push(')');
        }
        for (name, met, percent) in self.total.shares(&self.counts) {
            let percent = percent.to_string().replace('.', ",");
            let _ = write!(text, "; {met} {} ({percent} %)", count_title(name, Language::Portuguese));
        }
        if self.undated > 0 {
            let _ = write!(text, "; mais {} sem data de chegada", self.undated);
        }
        text + "."
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::{domain::Catalog, engine::ReportCount};

    fn report(rows: u64, before: u64) -> Report {
        let day = |day: &str| day.parse().expect("a day");
        Report {
            period: Period::between(day("2026-05-04"), day("2026-05-10")).expect("a week"),
            zone: Tz::America__Sao_Paulo,
            total: ReportCount { rows, met: vec![1], before: Some(before) },
            before_by_now: Some(2),
            columns: Vec::new(),
            groups: Vec::new(),
            left_out: 0,
            others: None,
            counts: vec!["qualified"],
            undated: 4,
        }
    }

    #[test]
    fn a_report_says_the_same_in_both_languages() {
        let leads = Catalog::built_in().tables().find(|table| table.name() == "leads").expect("leads");
        assert_eq!(
            report(8, 5).summary(leads, Language::English),
            "8 leads arrived from 2026-05-04 to 2026-05-10 (America/Sao_Paulo), 3 more than from 2026-04-27 to \
             2026-05-03 (5, 2 of them in the same time, as this period is not over); 1 qualified (12.5 %); 4 more say \
             nothing of when they arrived."
        );
        assert_eq!(
            report(8, 5).summary(leads, Language::Portuguese),
            "leads: chegaram 8 de 04/05/2026 a 10/05/2026 (America/Sao_Paulo), 3 a mais que de 27/04/2026 a 03/05/2026 \
             (5, dos quais 2 até a mesma hora, pois o período não acabou); 1 qualificados (12,5 %); mais 4 sem data de \
             chegada."
        );
        for (rows, before, told) in [(8, 8, "o mesmo que de 27/04"), (3, 5, "2 a menos que de 27/04")] {
            let summary = report(rows, before).summary(leads, Language::Portuguese);
            assert!(summary.contains(told), "{summary}");
        }
    }
}
