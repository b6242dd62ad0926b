//! A generated project that lives on: leads move through the funnel, visitors come and chat.
//!
//! What it holds at an instant follows from its seed and its beginning alone, so a project that is opened again
//! shows the rows it showed before, and those that changed since.

use std::{cmp::Reverse, fs, io, path::Path};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    SampleColumn,
    generate::{Generator, spelled},
};
use crate::{
    domain::{JsonObject, parse_instant},
    private_files,
};

/// Something happens this often.
const TICK: TimeDelta = TimeDelta::minutes(2);

/// Keeps a beginning.
const FILE: &str = "sample.json";

/// How far back the rows reach that a project begins with, in hours.
const HISTORY: u32 = 90 * 24;

/// Where a lead goes next, most likely; the last steps are final.
const FUNNEL: [(&str, &[&str]); 4] = [
    ("novo", &["em_contato", "em_contato", "qualificado", "perdido"]),
    ("em_contato", &["qualificado", "qualificado", "perdido"]),
    ("qualificado", &["proposta", "proposta", "perdido"]),
    ("proposta", &["convertido", "perdido"]),
];

/// What makes a project: kept in a file, so that it can be opened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    pub seed: u64,
    pub began_at: DateTime<Utc>,
    pub leads: usize,
    pub sessions: usize,
    /// Leads without a key, of which no event can be made.
    #[serde(default)]
    broken: usize,
    /// When, and how many things, happened out of turn.
    #[serde(default)]
    hurried: Vec<(DateTime<Utc>, u64)>,
}

impl Beginning {
    /// Enough to page through, soon read.
    pub const LEADS: usize = 500;
    pub const SESSIONS: usize = 200;

    /// A project that begins now.
    pub fn now(seed: u64, leads: usize, sessions: usize) -> Self {
        let began_at = whole_micros(Utc::now());
        Self { seed, began_at, leads, sessions, broken: 0, hurried: Vec::new() }
    }

    /// The same, with so many of the leads broken: they have no key.
    #[must_use]
    pub fn with_broken(self, broken: usize) -> Self {
        Self { broken, ..self }
    }
}

impl Beginning {
    fn save(&self, folder: &Path) -> io::Result<()> {
        private_files::replace(&folder.join(FILE), &serde_json::to_vec(self)?)
    }
}

/// As a `timestamptz` has it.
fn whole_micros(instant: DateTime<Utc>) -> DateTime<Utc> {
    instant.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(instant)
}

/// A table's name, its columns where no definition in the binary has them, and its rows.
pub(super) type ProjectTable<'a> = (&'static str, Option<Vec<SampleColumn>>, &'a [JsonObject]);

/// A project at some instant.
#[derive(Debug)]
pub struct SampleProject {
    beginning: Beginning,
    ticks: i64,
    leads: Vec<JsonObject>,
    sessions: Vec<JsonObject>,
    messages: Vec<JsonObject>,
}

impl SampleProject {
    /// The project as its beginning left it, and what was hurried since.
    pub fn new(beginning: Beginning) -> Self {
        let mut generator = Generator::new(beginning.seed, beginning.began_at, HISTORY);
        let mut leads = generator.leads(beginning.leads);
        // The newest ones: a first sync of the last days meets them.
        let mut newest: Vec<&mut JsonObject> = leads.iter_mut().collect();
        newest.sort_by_cached_key(|lead| Reverse(instant(lead, "created_at")));
        for lead in newest.into_iter().take(beginning.broken) {
            lead.insert("id".to_owned(), Value::Null);
        }
        let sessions = generator.sessions(beginning.sessions, &leads);
        let mut project = Self { beginning, ticks: 0, leads, sessions, messages: Vec::new() };
        for session in 0..project.sessions.len() {
            let row = &project.sessions[session];
            let count = row["total_messages"].as_i64().unwrap_or_default();
            let (from, to) = (instant(row, "started_at"), instant(row, "ended_at"));
            let from = from.unwrap_or(project.beginning.began_at);
            project.say(&mut generator, session, count, from, to.unwrap_or(project.beginning.began_at));
        }
        for (at, count) in project.beginning.hurried.clone() {
            project.advance(at);
            project.happen_at_once(count, at);
        }
        project
    }

    /// The project whose beginning `folder` remembers, or a new one there.
    ///
    /// # Errors
    /// When the file can't be read, understood or written.
    pub fn resume(folder: &Path) -> io::Result<Self> {
        let beginning = match fs::read(folder.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let beginning = Beginning::now(1, Beginning::LEADS, Beginning::SESSIONS);
                beginning.save(folder)?;
                beginning
            }
            Err(error) => return Err(error),
        };
        Ok(Self::new(beginning))
    }

    /// Every table as it is now.
    pub(super) fn tables(&self) -> [ProjectTable<'_>; 3] {
        let of_messages = || {
            vec![
                SampleColumn::key("id", "bigint").with_comment("numbered as they were said"),
                SampleColumn::new("session_id", "uuid")
                    .refers_to("chat_sessions")
                    .with_comment("where it was said"),
                SampleColumn::new("papel", "public.papel")
                    .one_of(&["usuario", "assistente"])
                    .with_comment("who said it"),
                SampleColumn::new("conteudo", "text").with_comment("what was said"),
                SampleColumn::new("tokens", "integer"),
                SampleColumn::new("latencia_ms", "numeric").with_comment("how long the answer took"),
                SampleColumn::new("created_at", "timestamp with time zone"),
            ]
        };
        [
            ("leads", None, &self.leads),
            ("chat_sessions", None, &self.sessions),
            ("chat_messages", Some(of_messages()), &self.messages),
        ]
    }

    /// Adds messages to a session.
    fn say(
        &mut self,
        generator: &mut Generator,
        session: usize,
        count: i64,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) {
        let first = i64::try_from(self.messages.len()).unwrap_or_default() + 1;
        self.messages.extend(generator.messages(first, &self.sessions[session]["id"], count, from, to));
    }

    /// Lets everything happen that happens until `now`. Whether anything did.
    pub(super) fn advance(&mut self, now: DateTime<Utc>) -> bool {
        let due = (now - self.beginning.began_at).num_seconds() / TICK.num_seconds();
        let something = due > self.ticks;
        while self.ticks < due {
            self.ticks += 1;
            let tick = i32::try_from(self.ticks).unwrap_or(i32::MAX);
            self.happen(self.ticks.unsigned_abs(), self.beginning.began_at + TICK * tick);
        }
        something
    }

    /// Lets `count` things happen now, out of turn, and remembers it in `folder`.
    ///
    /// # Errors
    /// When the file can't be written; then nothing has happened.
    pub(super) fn hurry(&mut self, folder: &Path, count: u64, now: DateTime<Utc>) -> io::Result<()> {
        let now = whole_micros(now);
        let mut beginning = self.beginning.clone();
        beginning.hurried.push((now, count));
        beginning.save(folder)?;
        self.beginning = beginning;
        self.advance(now);
        self.happen_at_once(count, now);
        Ok(())
    }

    fn happen_at_once(&mut self, count: u64, at: DateTime<Utc>) {
        for n in 0..count {
            // Far from the numbers that time itself will reach.
            self.happen(u64::MAX - at.timestamp_micros().unsigned_abs() - n, at);
        }
    }

    fn happen(&mut self, number: u64, at: DateTime<Utc>) {
        let seed = self.beginning.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        let mut generator = Generator::new(seed, at, 1);
        match generator.below(10) {
            0..=4 => self.move_lead(&mut generator, at),
            5..=6 => {
                let lead = generator.new_lead();
                self.leads.push(lead);
            }
            7..=8 => {
                let mut session = generator.new_session(&self.leads);
                session.insert("total_messages".to_owned(), json!(2));
                self.sessions.push(session);
                self.say(&mut generator, self.sessions.len() - 1, 2, at, at);
            }
            _ => self.end_session(&mut generator, at),
        }
    }

    fn move_lead(&mut self, generator: &mut Generator, at: DateTime<Utc>) {
        if self.leads.is_empty() {
            return;
        }
        let chosen = generator.below(self.leads.len());
        let lead = &mut self.leads[chosen];
        let status = lead.get("status_lead").and_then(Value::as_str).unwrap_or_default();
        if let Some((_, steps)) = FUNNEL.iter().find(|(from, _)| *from == status) {
            lead.insert("status_lead".to_owned(), json!(steps[generator.below(steps.len())]));
        }
        let score = lead.get("score_qualificacao").and_then(Value::as_f64).unwrap_or(20.0);
        let gained = i32::try_from(generator.below(21)).unwrap_or_default() - 5;
        lead.insert("score_qualificacao".to_owned(), json!((score + f64::from(gained)).clamp(0.0, 100.0)));
        lead.insert("updated_at".to_owned(), json!(spelled(at)));
        lead.insert("last_interaction_at".to_owned(), json!(spelled(at)));
    }

    fn end_session(&mut self, generator: &mut Generator, at: DateTime<Utc>) {
        let active: Vec<usize> =
            (0..self.sessions.len()).filter(|i| self.sessions[*i]["is_active"] == true).collect();
        if active.is_empty() {
            return;
        }
        let chosen = active[generator.below(active.len())];
        let more = i64::try_from(generator.below(12)).unwrap_or_default();
        let session = &mut self.sessions[chosen];
        let started = instant(session, "started_at").unwrap_or(at);
        let said = session["total_messages"].as_i64().unwrap_or_default();
        session.insert("total_messages".to_owned(), json!(said + more));
        session.insert("is_active".to_owned(), json!(false));
        session.insert("ended_at".to_owned(), json!(spelled(at.max(started))));
        session.insert("duration_seconds".to_owned(), json!((at - started).num_seconds().max(0)));
        self.say(generator, chosen, more, started, at.max(started));
    }
}

fn instant(row: &JsonObject, name: &str) -> Option<DateTime<Utc>> {
    parse_instant(row.get(name)?.as_str()?, Tz::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Catalog, Json, SourceRow};

    impl SampleProject {
        fn state(&self) -> [&[JsonObject]; 3] {
            [&self.leads, &self.sessions, &self.messages]
        }
    }

    fn beginning() -> Beginning {
        let began_at = DateTime::from_timestamp(1_780_000_000, 0).expect("an instant");
        Beginning { seed: 7, began_at, leads: 100, sessions: 40, broken: 0, hurried: Vec::new() }
    }

    #[test]
    fn a_project_opened_again_shows_what_it_showed_and_what_changed_since() {
        let later = beginning().began_at + TimeDelta::days(3);
        let (mut one, mut other) = (SampleProject::new(beginning()), SampleProject::new(beginning()));
        assert_eq!(one.state(), other.state());
        // One has been running all the time, the other is opened now.
        for hour in 0..=72 {
            one.advance(beginning().began_at + TimeDelta::hours(hour));
        }
        assert!(other.advance(later));
        assert_eq!(one.state(), other.state());
        assert!(!other.advance(later), "nothing happens twice");
    }

    #[test]
    fn leads_change_and_arrive_and_nothing_is_of_the_future() {
        let now = beginning().began_at + TimeDelta::days(1);
        let mut project = SampleProject::new(beginning());
        let before = project.leads.clone();
        project.advance(now);
        let changed = before.iter().zip(&project.leads).filter(|(before, after)| before != after).count();
        assert!(changed > 50, "{changed} of 100 changed");
        assert!(project.leads.len() > 200 && project.sessions.len() > 100);
        for row in &project.leads {
            assert!(instant(row, "updated_at").is_none_or(|updated| updated <= now));
        }
        assert!(
            project.messages.iter().all(|row| instant(row, "created_at").is_some_and(|said| said <= now))
        );
    }

    #[test]
    fn broken_leads_make_no_event_and_the_others_do() {
        let project = SampleProject::new(beginning().with_broken(3));
        let table = Catalog::built_in().get("leads").expect("leads");
        let rows = project.leads.iter().map(|lead| SourceRow::read(table, Json::from(lead)));
        let errors: Vec<String> = rows.filter_map(|row| row.err().map(|error| error.to_string())).collect();
        assert_eq!(errors, ["leads.id: missing; a row needs its key"; 3]);
    }

    #[test]
    fn as_many_messages_are_there_as_sessions_count() {
        let mut project = SampleProject::new(beginning());
        project.advance(beginning().began_at + TimeDelta::days(2));
        let counted: i64 =
            project.sessions.iter().filter_map(|session| session["total_messages"].as_i64()).sum();
        assert_eq!(i64::try_from(project.messages.len()), Ok(counted));
        let ids: Vec<i64> = project.messages.iter().filter_map(|message| message["id"].as_i64()).collect();
        assert!(ids.is_sorted() && ids.first() == Some(&1) && ids.last() == Some(&counted));
    }

    #[test]
    fn the_beginning_survives_in_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = SampleProject::resume(folder.path()).expect("a project");
        let now = first.beginning.began_at + TimeDelta::minutes(7);
        first.hurry(folder.path(), 30, now).expect("written");
        let again = SampleProject::resume(folder.path()).expect("the project");
        assert_eq!(first.beginning, again.beginning);
        assert_eq!(first.state(), again.state());
    }
}
