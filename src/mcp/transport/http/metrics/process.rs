//! What the system says of this process, under the names that Prometheus' client libraries use. Told on Linux alone.

use super::{families as told, page::Page};

/// The kernel counts processor time in these, whatever its own clock does.
const TICKS_A_SECOND: f64 = 100.0;

pub(super) fn write(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    page.many(&told::PROCESSOR, processor_seconds(&stat).map(|seconds| ([], seconds)));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    page.many(&told::RESIDENT, field(&status, "VmRSS:").map(|kib| ([], kib * 1024)));
    page.many(&told::THREADS, field(&status, "Threads:").map(|threads| ([], threads)));
    let files = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    page.many(&told::OPEN_FILES, files.map(|files| ([], files)));
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// proc(5): the program's name stands in parentheses and may hold anything; user and system time are fields 14 and 15.
#[allow(clippy::cast_precision_loss)]
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 12345 0 0";
        assert_eq!(processor_seconds(stat), Some(2.0));
        assert_eq!(processor_seconds(""), None);
        assert_eq!(field("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2048));
    }
}
