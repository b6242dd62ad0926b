//! `sluice logs`: the log that is kept, in the order of time.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Failure, output};
use crate::{
    backoff::Backoff,
    config::Settings,
    domain::day_start,
    fault::Fault,
    index::elasticsearch::LogStream,
    logging::{self, Filter, FolderReader, LEVELS, LogLine},
};

/// What is told of a log that is nowhere.
const NOT_KEPT: &str = "the log is not kept: set SLUICE_LOG_DIR to a folder, or SLUICE_LOG_ELASTICSEARCH=true, and start sluice \
    anew. Until then it goes to stderr alone, which may be kept by what started it: `journalctl -u 'sluice-*' -o cat`, \
    `docker compose logs`";

/// Lines that are shown where nobody says how many, or since when.
const LINES: usize = 100;

/// How often files are looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often the server is asked for more, and for how long a line may have been on its way.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(60);

/// How often lines are looked for that come late, and how late.
const LOOK_BACK_EVERY: TimeDelta = TimeDelta::minutes(1);
const LATE: TimeDelta = TimeDelta::minutes(15);

/// How long a server that does not answer is left alone at most.
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Go on with lines as they are written
    #[arg(long, short)]
    follow: bool,
    /// Lines at least as urgent
    #[arg(long, value_parser = LEVELS)]
    level: Option<String>,
    /// Lines since then: 90s, 15m, 1h, 2d, a day or an instant (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Lines of the modules whose names begin so, such as sluice::engine
    #[arg(long, value_name = "MODULE")]
    target: Option<String>,
    /// Lines of this command, such as worker
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Lines whose field is so, such as table=leads; may be given several times
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = field)]
    fields: Vec<(String, String)>,
    /// Lines that hold this text, whatever its case
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// The last so many lines: 100, or all of those --since asks for
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: Option<u32>,
    /// From where, if it is kept in both places; the files unless told otherwise
    #[arg(long, value_enum)]
    from: Option<Place>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Files,
    Elasticsearch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, in their time zone (SLUICE_TIMEZONE)
    Text,
    /// The lines themselves, one object each
    Json,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write FIELD=VALUE, such as table=leads")?;
    let name = logging::name_of(name.trim())
        .ok_or_else(|| format!("there is no field '{name}'; docs/logs.md lists them"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints lines until there are none, or as long as somebody reads.
pub(super) async fn run(settings: &Settings, options: &Options) -> Result<ExitCode, Failure> {
    let filter = Filter {
        since: options.since.as_deref().map(|text| since(text, settings.zone, Utc::now())).transpose()?,
        level: options.level.clone(),
        target: options.target.clone(),
        command: options.command.clone(),
        fields: options.fields.clone(),
        text: options.grep.clone(),
    };
    let lines = match (options.lines, filter.since) {
        (Some(lines), _) => Some(lines as usize),
        (None, Some(_)) => None,
        (None, None) => Some(LINES),
    };
    let printer = Printer { format: options.format, zone: settings.zone };
    let server = settings.elasticsearch.as_ref().filter(|_| settings.logs.elasticsearch);
    match (options.from, settings.logs.dir.as_deref(), server) {
        (None | Some(Place::Files), Some(folder), _) => {
            let (lost, error) = match from_files(folder, &filter, lines, options.follow, printer).await {
                Ok(()) => return Ok(ExitCode::SUCCESS),
                Err(ReadError::Output(failure)) => return Err(failure),
                Err(ReadError::Folder(error)) => (folder.display(), error),
            };
            Err(format!("SLUICE_LOG_DIR: {lost} can't be read: {error}; name the folder that sluice writes, and run this as the user that does").into())
        }
        (None | Some(Place::Elasticsearch), _, Some(server)) => {
            let stream = LogStream::new(server, logging::retention(&settings.logs), &logging::FIELDS)?;
            from_stream(&stream, &filter, lines, options.follow, printer).await?;
            Ok(ExitCode::SUCCESS)
        }
        (Some(Place::Files), None, _) if server.is_some() => {
            Err("SLUICE_LOG_DIR is not set: no files are kept; leave --from away".into())
        }
        (Some(Place::Elasticsearch), Some(_), None) => {
            Err("SLUICE_LOG_ELASTICSEARCH is not true: no data stream is kept; leave --from away".into())
        }
        _ => Err(NOT_KEPT.into()),
    }
}

enum ReadError {
    Folder(std::io::Error),
    Output(Failure),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self::Folder(error)
    }
}

async fn from_files(
    folder: &Path,
    filter: &Filter,
    lines: Option<usize>,
    follow: bool,
    printer: Printer,
) -> Result<(), ReadError> {
    let mut reader = FolderReader::open(folder, filter.since)?;
    let mut last = VecDeque::new();
    while let Some(line) = reader.next(!follow)? {
        if !filter.matches(&line) {
            continue;
        }
        match lines {
            None => printer.print(&line).map_err(ReadError::Output)?,
            Some(most) => {
                last.push_back(line);
                if last.len() > most {
                    last.pop_front();
                }
            }
        }
    }
    for line in last {
        printer.print(&line).map_err(ReadError::Output)?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        reader.look()?;
        while let Some(line) = reader.next(false)? {
            if filter.matches(&line) {
                printer.print(&line).map_err(ReadError::Output)?;
            }
        }
    }
}

async fn from_stream(
    stream: &LogStream,
    filter: &Filter,
    lines: Option<usize>,
    follow: bool,
    printer: Printer,
) -> Result<(), Failure> {
    let first = (lines == Some(0)).then(Utc::now);
    let mut shown = Shown { printer, first, ids: HashMap::new() };
    match lines {
        Some(most) => {
            stream.last(filter, most).await?.into_iter().try_for_each(|found| shown.show(found))?;
        }
        None => all(stream, filter, &mut shown).await?,
    }
    if !follow {
        return Ok(());
    }
    let (mut look_backs, mut backoff, mut pause) =
        (LookBacks::default(), Backoff::new(ASK_EVERY, MAX_PAUSE), ASK_EVERY);
    loop {
        tokio::time::sleep(pause).await;
        let now = Utc::now();
        let looks_back = look_backs.are_due(now);
        let since = if looks_back { look_backs.since(now) } else { now - ON_ITS_WAY };
        let filter = Filter { since: filter.since.max(Some(since)), ..filter.clone() };
        if let Err(failure) = all(stream, &filter, &mut shown).await {
            let fault = failure.downcast::<Fault>()?;
            if backoff.failures() == 0 {
                output::note(format_args!("{fault}; until it answers it is asked again"));
            }
            pause = backoff.next_pause(fault.retry_after);
            continue;
        }
        backoff.reset();
        pause = ASK_EVERY;
        if looks_back {
            look_backs.done(now);
            shown.ids.retain(|_, at| *at >= since);
        }
    }
}

async fn all(stream: &LogStream, filter: &Filter, shown: &mut Shown) -> Result<(), Failure> {
    let mut after = None;
    while let Some((page, next)) = stream.page(filter, after.take(), true).await? {
        page.into_iter().try_for_each(|found| shown.show(found))?;
        after = Some(next);
    }
    Ok(())
}

/// Shows each line once.
struct Shown {
    printer: Printer,
    /// Before the first line that is shown none is, however late it comes.
    first: Option<DateTime<Utc>>,
    ids: HashMap<String, DateTime<Utc>>,
}

impl Shown {
    fn show(&mut self, (id, line): (String, LogLine)) -> Result<(), Failure> {
        let at = line.at.unwrap_or_else(Utc::now);
        if at >= *self.first.get_or_insert(at) && self.ids.insert(id, at).is_none() {
            self.printer.print(&line)?;
        }
        Ok(())
    }
}

/// When late lines were looked for: what a writer kept while it did not reach the server comes with the times it had.
#[derive(Debug, Default)]
struct LookBacks(VecDeque<DateTime<Utc>>);

impl LookBacks {
    fn are_due(&self, now: DateTime<Utc>) -> bool {
        self.0.back().is_none_or(|last| now - last >= LOOK_BACK_EVERY)
    }

    /// From when on lines may still come: of an outage those from its beginning, until writers had time to send them.
    fn since(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let late = now - LATE;
        while self.0.get(1).is_some_and(|second| *second <= late) {
            self.0.pop_front();
        }
        self.0.front().map_or(late, |first| late.min(*first)) - ON_ITS_WAY
    }

    fn done(&mut self, now: DateTime<Utc>) {
        self.0.push_back(now);
    }
}

/// An instant, or how long ago.
fn since(text: &str, zone: Tz, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    let unit = text.chars().last().unwrap_or_default();
    let seconds = match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let ago = seconds.and_then(|seconds| {
        let count: i64 = text.strip_suffix(unit)?.trim().parse().ok().filter(|count| *count >= 0)?;
        now.checked_sub_signed(TimeDelta::try_seconds(count.checked_mul(seconds)?)?)
    });
    let day = || day_start(text.parse::<NaiveDate>().ok()?, zone);
    ago.or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()))
        .or_else(day)
        .ok_or_else(|| format!("--since {text}: write 90s, 15m, 1h or 2d, a day such as 2026-11-26, or an instant such as 2026-11-26T13:45:00-03:00"))
}

#[derive(Debug, Clone, Copy)]
struct Printer {
    format: Format,
    zone: Tz,
}

impl Printer {
    fn print(self, line: &LogLine) -> Result<(), Failure> {
        match self.format {
            Format::Json => output::json(&line.object()),
            Format::Text => Ok(output::line(self.text(line))?),
        }
    }

    fn text(self, line: &LogLine) -> String {
        let Some(fields) = &line.fields else { return format!("? {}", line.raw) };
        let of = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let at =
            line.at.map(|at| at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string());
        let mut text =
            format!("{} {:5} ", at.unwrap_or_else(|| "?".to_owned()), of("log.level").to_uppercase());
        let writer = [of("service.node.role"), of("host.name")].join("@");
        let _ = write!(text, "{}: {}", writer.trim_matches('@'), of("message"));
        // What is said of every line of a process, or has been said.
        let is_told = |name: &str| {
            name.starts_with("service.")
                || ["@timestamp", "log.level", "message", "host.name", "event.sequence", "process.pid"]
                    .contains(&name)
        };
        for (name, value) in fields.iter().filter(|(name, _)| !is_told(name)) {
            let plain = value.as_str().filter(|text| !text.is_empty() && !text.contains([' ', '"', '=']));
            let _ = match plain {
                Some(plain) => write!(text, " {name}={plain}"),
                None => write!(text, " {name}={value}"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_lines_are_looked_for_each_minute_and_those_of_an_outage_from_its_beginning() {
        let at = |minutes: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(1000 + minutes);
        let mut look_backs = LookBacks::default();
        for minute in 0..30 {
            assert!(look_backs.are_due(at(minute)));
            assert_eq!(look_backs.since(at(minute)), at(minute - 16));
            look_backs.done(at(minute));
        }
        assert!(!look_backs.are_due(at(29) + TimeDelta::seconds(59)));
        // The server does not answer for hours, and writers take their time to notice that it does again.
        for minute in [300, 301, 314] {
            assert_eq!(look_backs.since(at(minute)), at(28), "{minute}");
            look_backs.done(at(minute));
        }
        assert_eq!(look_backs.since(at(316)), at(300));
    }

    #[test]
    fn a_time_is_how_long_ago_a_day_or_an_instant() {
        let now = "2026-11-26T13:45:00Z".parse().expect("a time");
        let told = |text: &str| since(text, Tz::America__Sao_Paulo, now).map(|at| at.to_rfc3339());
        for (text, at) in [
            ("90s", "2026-11-26T13:43:30+00:00"),
            ("1h", "2026-11-26T12:45:00+00:00"),
            ("2d", "2026-11-24T13:45:00+00:00"),
            ("2026-11-26", "2026-11-26T03:00:00+00:00"),
            ("2026-11-26T10:00:00-03:00", "2026-11-26T13:00:00+00:00"),
        ] {
            assert_eq!(told(text).as_deref(), Ok(at), "{text}");
        }
        for wrong in ["", "h", "-1h", "1.5h", "ontem", "99999999999999d", "1é"] {
            assert!(told(wrong).expect_err(wrong).contains("write 90s"), "{wrong}");
        }
    }

    #[test]
    fn a_line_is_told_for_people_in_their_zone_with_its_fields() {
        let printer = Printer { format: Format::Text, zone: Tz::America__Sao_Paulo };
        let raw = r#"{"@timestamp":"2026-11-26T13:45:01.123456Z","log.level":"warn","message":"it broke","sink":"postgres","error.message":"no room","offset":7,"service.node.role":"worker","host.name":"um","process.pid":1}"#;
        let line = LogLine::parse(raw.to_owned(), None);
        assert_eq!(
            printer.text(&line),
            "2026-11-26 10:45:01.123 -03 WARN  worker@um: it broke error.message=\"no room\" offset=7 sink=postgres"
        );
        assert_eq!(printer.text(&LogLine::parse("{half".to_owned(), None)), "? {half");
    }
}
