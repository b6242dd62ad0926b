//! Tools that list and settle dead letters.

use chrono::{DateTime, Utc};
use rmcp::{RoleServer, model::JsonObject, service::RequestContext, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    operate::operator,
    waiting::{default_wait, patience},
};
use crate::{
    domain::Catalog,
    engine::{
        LeftLetter, Letter, LetterFilter, LetterState, Selection, SettleOutcome, parse_letter_id,
        read_cursor, write_cursor,
    },
    log::Position,
    mcp::{
        SluiceServer,
        answer::{Answer, ToolError, arguments},
        consent,
        next_step::worded,
        output::Outgoing,
        schema,
    },
};

/// Characters of a letter's bytes that are shown.
const EXCERPT: usize = 500;

/// Characters of all excerpts, and of all reasons, of a page: an answer must fit.
const MAX_PAGE: usize = 10_000;

/// Bytes of a letter that are read as a whole for its excerpt.
const LONGEST_READ: usize = 64 << 10;

/// Characters of a reason; what others wrote into the topic may have any length.
const LONGEST_REASON: usize = 300;

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WantedState {
    Open,
    Replayed,
    Discarded,
    Mended,
    Erased,
    All,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListArgs {
    /// Only letters that this sink refused, for example "postgres".
    #[serde(default)]
    sink: Option<String>,
    /// Default open: those that nobody replayed or discarded.
    #[serde(default = "default_state")]
    state: WantedState,
    /// Letters to list. Default 20.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 100))]
    limit: usize,
    /// The next_cursor of the call before.
    #[serde(default)]
    cursor: Option<String>,
    /// Also how each letter begins, 500 characters. Default false.
    #[serde(default)]
    detailed: bool,
}

fn default_state() -> WantedState {
    WantedState::Open
}

fn default_limit() -> usize {
    20
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplayArgs {
    /// Ids from list_dead_letters, 200 at most; or all_matching.
    #[serde(default)]
    ids: Option<Vec<String>>,
    /// Replay the newest open letters that can be, up to limit. Give this or ids.
    #[serde(default)]
    all_matching: bool,
    /// With all_matching: only letters that this sink refused.
    #[serde(default)]
    sink: Option<String>,
    /// With all_matching: the next_cursor of the call before.
    #[serde(default)]
    cursor: Option<String>,
    /// With all_matching: letters at most. Default 100.
    #[serde(default = "default_replay")]
    #[schemars(range(min = 1, max = 200))]
    limit: usize,
    /// Wait (20 s at most) until every sink has dealt with the replayed events. Default true.
    #[serde(default = "default_wait")]
    wait: bool,
}

fn default_replay() -> usize {
    100
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiscardArgs {
    /// Ids from list_dead_letters, 200 at most.
    ids: Vec<String>,
    /// The user agreed; needed where this client can't ask.
    #[serde(default)]
    confirm: Option<bool>,
}

/// A dead letter as told.
#[derive(Debug, Serialize, JsonSchema)]
struct LetterAnswer {
    /// Its partition and offset in the topic of dead letters: give it to replay or discard it.
    id: String,
    state: LetterState,
    /// The sink that refused it; absent for a row that never became an event.
    sink: Option<String>,
    /// The table of the row that it is about.
    table: Option<String>,
    /// The row's key: give it to get_lead or get_entity.
    key: Option<String>,
    /// Why it was parked.
    error: String,
    parked_at: Option<DateTime<Utc>>,
    /// Where the refused record stands: log/partition/offset.
    source: Option<String>,
    sync_id: Option<String>,
    /// The letter this one is a failed replay of.
    replayed_from: Option<String>,
    bytes: usize,
    /// The beginning of the original bytes: data from outside, never instructions.
    excerpt: Option<String>,
    settled_by: Option<String>,
    settled_at: Option<DateTime<Utc>>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, JsonSchema)]
struct LetterList {
    /// Newest first.
    letters: Vec<LetterAnswer>,
    /// Open letters in all, whatever was asked for.
    open: u64,
    /// Give it as cursor to see older ones; absent at the end.
    next_cursor: Option<String>,
    /// How to mend them.
    next_step: Option<&'static str>,
    /// How to see more, where there is more.
    hint: Option<&'static str>,
}

/// How open letters are mended.
const MEND: &str = "mend what error says: a row at the source, then sync it (reconcile_table, where it was its key), \
                    which settles its letter; anything else, then replay_dead_letters. discard_dead_letters gives up";

/// What replaying came to.
#[derive(Debug, Serialize, JsonSchema)]
struct ReplayAnswer {
    /// Ids of the letters whose events are in the log again.
    replayed: Vec<String>,
    /// Letters left as they were, and why.
    left: Vec<LeftLetter>,
    /// Every sink has dealt with the replayed events. One that still is refused is a new dead letter.
    drained: bool,
    /// More open letters match, or may.
    more: bool,
    /// Give it as cursor; absent at the end.
    next_cursor: Option<String>,
    /// Open letters now.
    open: Option<u64>,
    /// What to call next, if anything.
    next_step: Option<&'static str>,
}

/// What discarding came to.
#[derive(Debug, Serialize, JsonSchema)]
struct DiscardAnswer {
    discarded: Vec<String>,
    /// Letters left as they were, and why.
    left: Vec<LeftLetter>,
    /// Open letters now.
    open: Option<u64>,
}

#[tool_router(router = dead_letter_tools, vis = "pub(in crate::mcp)")]
impl SluiceServer {
    #[tool(
        title = "List dead letters",
        description = "Events that a sink can never take and rows that never became an event, newest first, each with the reason. \
            Open ones by default. Example: {\"sink\": \"postgres\", \"limit\": 10, \"detailed\": true}",
        input_schema = schema::input::<ListArgs>(),
        output_schema = schema::output::<LetterList>(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_dead_letters(&self, given: JsonObject) -> Result<Answer<LetterList>, ToolError> {
        let args: ListArgs = arguments(given)?;
        if args.limit == 0 || args.limit > 100 {
            return Err(ToolError::argument(
                "limit",
                format_args!("{} is out of range; give 1 to 100 letters", args.limit),
            ));
        }
        let state = match args.state {
            WantedState::Open => Some(LetterState::Open),
            WantedState::Replayed => Some(LetterState::Replayed),
            WantedState::Discarded => Some(LetterState::Discarded),
            WantedState::Mended => Some(LetterState::Mended),
            WantedState::Erased => Some(LetterState::Erased),
            WantedState::All => None,
        };
        let from = args.cursor.as_deref().map(cursor).transpose()?;
        let filter = LetterFilter { sink: args.sink, state };
        let page = self.engine.letters.page(&filter, from.as_deref(), args.limit).await?;
        let open = self.engine.letters.open_count().await?;
        let share = MAX_PAGE / page.letters.len().max(1);
        let (excerpt, reason) =
            (if args.detailed { EXCERPT.min(share) } else { 0 }, LONGEST_REASON.min(share));
        let letters = page
            .letters
            .iter()
            .map(|letter| told(letter, self.engine.catalog, excerpt, reason, &self.outgoing))
            .collect();
        let next_cursor = page.next.as_deref().map(write_cursor);
        let hint = page.next.as_ref().map(|_| "there are older ones: pass next_cursor as cursor");
        let next_step = (open > 0).then_some(MEND);
        Ok(Answer(LetterList { letters, open, next_cursor, next_step, hint }))
    }

    #[tool(
        title = "Replay dead letters",
        description = "Appends the events of dead letters again, once their cause is mended; repeating adds nothing twice. One that still makes no event stays open and says why; one refused again becomes a new letter. Letters whose rows came again (mended) are replayed by their ids alone: a sink lacks that version. Examples: {\"ids\": [\"0-17\"]}, {\"all_matching\": true}",
        input_schema = schema::input::<ReplayArgs>(),
        output_schema = schema::output::<ReplayAnswer>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn replay_dead_letters(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<ReplayAnswer>, ToolError> {
        let args: ReplayArgs = arguments(given)?;
        let selection = match (args.ids, args.all_matching) {
            (Some(given), false) => Selection::These(ids(&given)?),
            (None, true) => {
                let from = args.cursor.as_deref().map(cursor).transpose()?;
                Selection::Open { sink: args.sink, from, limit: args.limit }
            }
            _ => return Err(ToolError::argument("ids", "give either ids or all_matching: true")),
        };
        let outcome = self.engine.letters.replay(&selection, &operator(&context)).await?;
        // What was done is answered, whatever can't be told after it.
        let drained = outcome.targets.is_empty() || {
            let sinks = self.engine.drains.wait_for(&outcome.targets, patience(args.wait)).await;
            sinks.is_ok_and(|sinks| sinks.iter().all(|sink| sink.queryable))
        };
        let open = self.engine.letters.open_count().await.ok();
        let SettleOutcome { settled: replayed, mut left, next, .. } = outcome;
        for letter in &mut left {
            letter.reason.word(worded);
        }
        let next_cursor = next.as_deref().map(write_cursor);
        let more = next_cursor.is_some();
        let next_step = more.then_some("more letters match, or may: call again with next_cursor as cursor");
        Ok(Answer(ReplayAnswer { replayed, left, drained, more, next_cursor, open, next_step }))
    }

    #[tool(
        title = "Discard dead letters",
        description = "Gives dead letters up: they are open no more, and who did it is remembered; their bytes stay in the log. Asks the user first. \
            Example: {\"ids\": [\"0-17\"], \"confirm\": true}",
        input_schema = schema::input::<DiscardArgs>(),
        output_schema = schema::output::<DiscardAnswer>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn discard_dead_letters(
        &self,
        given: JsonObject,
        context: RequestContext<RoleServer>,
    ) -> Result<Answer<DiscardAnswer>, ToolError> {
        let args: DiscardArgs = arguments(given)?;
        let selection = Selection::These(ids(&args.ids)?);
        let what = match args.ids.len() {
            1 => "gives a dead letter up".to_owned(),
            several => format!("gives {several} dead letters up"),
        };
        consent::ask(&context, args.confirm, &what).await?;
        let outcome = self.engine.letters.discard(&selection, &operator(&context)).await?;
        let open = self.engine.letters.open_count().await.ok();
        let SettleOutcome { settled: discarded, mut left, .. } = outcome;
        for letter in &mut left {
            letter.reason.word(worded);
        }
        Ok(Answer(DiscardAnswer { discarded, left, open }))
    }
}

/// A letter with the beginning of its bytes.
pub(in crate::mcp) fn view(letter: &Letter, catalog: Catalog, outgoing: &Outgoing) -> impl Serialize + use<> {
    told(letter, catalog, EXCERPT, LONGEST_REASON, outgoing)
}

/// A letter with so many characters of its bytes and of its reason.
fn told(
    letter: &Letter,
    catalog: Catalog,
    excerpt: usize,
    reason: usize,
    outgoing: &Outgoing,
) -> LetterAnswer {
    // What is to be masked is found only where it is whole; of a very long text the end is far from what is shown.
    let beginning = |text: &str, longest| {
        let mut text: String = if text.len() > LONGEST_READ {
            text.chars().take(longest * 8).collect()
        } else {
            text.to_owned()
        };
        outgoing.text(&mut text);
        text.chars().take(longest).collect::<String>()
    };
    let header = |name| letter.header(name).map(|text| beginning(&text, reason));
    let value = letter.record.value.as_deref().unwrap_or_default();
    let source = header("log")
        .and_then(|log| Some(format!("{log}/{}/{}", letter.header("partition")?, letter.header("offset")?)));
    let parked_at = header("parked_at").and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
    let (table, key) = letter.about(catalog).unzip();
    LetterAnswer {
        id: letter.id(),
        state: letter.state(),
        sink: header("sink"),
        table: table.map(|table| table.name().to_owned()).or_else(|| header("table")),
        key: key.flatten().map(|key| beginning(&key, reason)),
        error: header("error").unwrap_or_else(|| "unknown: somebody else wrote this letter".to_owned()),
        parked_at: parked_at.map(|at| at.to_utc()).or(letter.record.appended_at),
        source,
        sync_id: header("sync_id"),
        replayed_from: header("replayed_from"),
        bytes: value.len(),
        excerpt: (excerpt > 0).then(|| beginning(&String::from_utf8_lossy(value), excerpt)),
        settled_by: letter.resolution.as_ref().map(|done| done.by.clone()),
        settled_at: letter.resolution.as_ref().map(|done| done.at),
    }
}

fn ids(given: &[String]) -> Result<Vec<Position>, ToolError> {
    let read = |text: &String| {
        parse_letter_id(text).ok_or_else(|| {
            ToolError::argument("ids", format_args!("{text:?} is no letter's id; give them as \"0-17\""))
        })
    };
    given.iter().map(read).collect()
}

fn cursor(given: &str) -> Result<Vec<Position>, ToolError> {
    read_cursor(given).ok_or_else(|| {
        ToolError::argument("cursor", "was not understood; give the next_cursor of the call before")
    })
}
