//! Prometheus' text format, <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
};

use super::families::Family;
use crate::engine::Histogram;

/// The lines of each family, which stand together however they were told.
#[derive(Default)]
pub(super) struct Page(BTreeMap<&'static str, (&'static Family, String)>);

impl Page {
    /// One series. Label values are names of this program's own, and names of tables, which their definitions bound: never a
    /// row's text.
    pub(super) fn one(&mut self, family: &'static Family, labels: &[(&str, &str)], value: impl Display) {
        let name = family.name;
        let _ = writeln!(self.lines(family), "{name}{} {value}", braced(labels));
    }

    /// A line for each series; the family is told of even where there is none.
    pub(super) fn many<'a, const LABELS: usize, V: Display>(
        &mut self,
        family: &'static Family,
        series: impl IntoIterator<Item = ([(&'a str, &'a str); LABELS], V)>,
    ) {
        self.lines(family);
        for (labels, value) in series {
            self.one(family, &labels, value);
        }
    }

    /// The buckets of a histogram, its sum and its count.
    pub(super) fn histogram(&mut self, family: &'static Family, labels: &[(&str, &str)], of: &Histogram) {
        let (name, lines) = (family.name, self.lines(family));
        let with = |bound: &str| braced(&[labels, &[("le", bound)]].concat());
        for (bound, count) in of.buckets() {
            let _ = writeln!(lines, "{name}_bucket{} {count}", with(&bound.to_string()));
        }
        let (count, seconds, labels) = (of.count(), of.seconds(), braced(labels));
        let _ = writeln!(lines, "{name}_bucket{} {count}", with("+Inf"));
        let _ = writeln!(lines, "{name}_sum{labels} {seconds}\n{name}_count{labels} {count}");
    }

    pub(super) fn text(self) -> String {
        let mut text = String::new();
        for (name, (family, lines)) in self.0 {
            let (kind, help) = (family.kind, family.help);
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        text
    }

    fn lines(&mut self, family: &'static Family) -> &mut String {
        &mut self.0.entry(family.name).or_insert_with(|| (family, String::new())).1
    }
}

fn braced(labels: &[(&str, &str)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    static DONE: Family =
        Family { name: "done_total", kind: "counter", labels: "table", help: "Things done" };
    static TOOK: Family = Family { name: "took_seconds", kind: "histogram", labels: "", help: "How long" };

    #[test]
    fn the_lines_of_a_family_stand_together_under_its_description() {
        let mut page = Page::default();
        page.one(&DONE, &[("table", "leads")], 3);
        page.histogram(&TOOK, &[], &Histogram::default());
        page.many(&DONE, [([("table", "chat_sessions")], 4)]);
        let text = page.text();
        let expected = "# HELP done_total Things done\n# TYPE done_total counter\ndone_total{table=\"leads\"} 3\n\
                        done_total{table=\"chat_sessions\"} 4\n# HELP took_seconds How long\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("took_seconds_bucket{le=\"0.005\"} 0\n"), "{text}");
        assert!(
            text.ends_with("took_seconds_bucket{le=\"+Inf\"} 0\ntook_seconds_sum 0\ntook_seconds_count 0\n"),
            "{text}"
        );
    }
}
