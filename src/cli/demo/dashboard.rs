//! The dashboard as text.

use std::fmt::Write as _;

use console::style;

use crate::{engine::PipelineStatus, source::TableOverview, text::on_one_line};

/// Width of the longest bar, in characters.
const BAR: u64 = 30;

/// Bars a chart has at most.
const MOST_BARS: usize = 8;

/// Draws counts, charts and the parts.
pub(super) fn drawn(overview: &[TableOverview], status: &PipelineStatus) -> String {
    let mut text = String::new();
    for table in overview {
        let number = |count: u64| style(count).bold().cyan();
        let _ = write!(
            text,
            "  {} {}",
            table.total.map_or_else(|| "?".to_owned(), |total| number(total).to_string()),
            table.table
        );
        for (name, count) in &table.counts {
            let _ = write!(text, "   {} {name}", number(*count));
        }
        if let Some(count) = table.last_24h {
            let _ = write!(text, "   {} in the last 24 h", number(count));
        }
        text.push('\n');
    }
    for breakdown in overview.iter().flat_map(|table| &table.breakdowns) {
        chart(&mut text, &format!("by {}", breakdown.column), &breakdown.values);
    }
    text.push('\n');
    for part in [&status.source, &status.log].into_iter().chain(&status.sinks) {
        let counts: Vec<String> =
            part.counts.iter().map(|count| format!("{} {}", count.count, count.name)).collect();
        let mark = if part.ok { style("ok").green() } else { style("FAILS").red() };
        let _ = writeln!(
            text,
            "  {:<10} {mark}  {}  {}",
            part.name,
            on_one_line(&part.detail),
            counts.join(", ")
        );
    }
    let lag: Vec<String> = status
        .lag
        .iter()
        .map(|lag| {
            format!(
                "{} {}",
                lag.sink,
                lag.total.map_or_else(|| "unknown".to_owned(), |total| total.to_string())
            )
        })
        .collect();
    let _ = writeln!(text, "  lag        {}", lag.join(", "));
    text
}

fn chart(text: &mut String, title: &str, counts: &[(String, u64)]) {
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    let _ = writeln!(text, "\n  {}", style(title).dim());
    for (name, count) in counts.iter().take(MOST_BARS) {
        let length = usize::try_from((count * BAR).div_ceil(most)).unwrap_or_default();
        let name = on_one_line(name);
        let _ = writeln!(text, "    {name:<14} {:>5} {}", count, style("█".repeat(length)).cyan());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_most_frequent_and_none_that_counts_is_empty() {
        let mut text = String::new();
        chart(&mut text, "by status", &[("novo".to_owned(), 1000), ("convertido".to_owned(), 1)]);
        let bars: Vec<usize> = text.lines().skip(2).map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [30, 1]);
    }
}
