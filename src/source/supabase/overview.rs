//! Counts for the dashboard. Aggregates are off by default on Supabase, so breakdowns are counted here.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::try_join_all;

use super::{
    SupabaseSource,
    http::{Refusal, Reply, Request},
    query::{Parameters, parameter, quoted, spelled},
};
use crate::{
    domain::{JsonObject, QUALIFIED_SCORE, Table, parse_instant},
    fault::Fault,
    source::Overview,
};

/// Rows the breakdown reads at most.
const MOST_ROWS: u64 = 50_000;
const PAGE: u32 = 1000;

impl SupabaseSource {
    pub(super) async fn count_everything(&self) -> Result<Overview, Fault> {
        let yesterday = spelled(Utc::now() - TimeDelta::hours(24));
        let (leads, sessions) = (Table::Leads, Table::ChatSessions);
        let counts = try_join_all([
            self.count(leads, None),
            self.count(leads, Some(("score_qualificacao", format!("gte.{QUALIFIED_SCORE}")))),
            self.count(leads, Some(("created_at", format!("gte.{yesterday}")))),
            self.count(sessions, None),
            self.count(sessions, Some(("is_active", "is.true".to_owned()))),
        ]);
        let (counts, (by_status, by_origin, rows), newest_lead_at, newest_session_at) =
            tokio::try_join!(counts, self.breakdown(), self.newest(leads), self.newest(sessions))?;
        Ok(Overview {
            leads_total: counts[0],
            leads_qualified: counts[1],
            leads_last_24h: counts[2],
            sessions_total: counts[3],
            sessions_active: counts[4],
            by_status,
            by_origin,
            breakdown_rows: rows,
            newest_lead_at,
            newest_session_at,
        })
    }

    /// Rows of `leads`, and the server's time.
    pub(super) async fn pulse(&self) -> Result<(u64, Option<DateTime<Utc>>), Fault> {
        let (count, reply) = self.counted(Table::Leads, None).await?;
        let clock = reply.and_then(|reply| {
            let date = reply.headers.get("date")?.to_str().ok()?;
            DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc())
        });
        Ok((count, clock))
    }

    async fn count(&self, table: Table, condition: Option<(&str, String)>) -> Result<u64, Fault> {
        self.counted(table, condition).await.map(|(count, _)| count)
    }

    /// Counts rows exactly. A condition on a column the project does not have holds for no row.
    async fn counted(
        &self,
        table: Table,
        condition: Option<(&str, String)>,
    ) -> Result<(u64, Option<Reply>), Fault> {
        let mut query: Parameters = vec![parameter("select", "id"), parameter("limit", 1)];
        query.extend(condition.map(|(column, value)| parameter(column, value)));
        let what = format!("counting {table}");
        let asked = Request {
            what: &what,
            path: table.name(),
            query: &query,
            prefer: "count=exact",
            accept: "application/json",
        };
        match self.http.get(&asked).await {
            Ok(reply) => match total(&reply) {
                Some(total) => Ok((total, Some(reply))),
                None => Err(Fault::misconfigured(
                    super::PART,
                    format!("{what} from {} failed: the answer has no Content-Range", self.http.host),
                    "check that SUPABASE_URL leads to Supabase and that no proxy takes headers out",
                )),
            },
            Err(Refusal::Answer { error, .. }) if error.missing_column().is_some() => Ok((0, None)),
            Err(refusal) => Err(self.http.fault(&what, refusal)),
        }
    }

    async fn newest(&self, table: Table) -> Result<Option<DateTime<Utc>>, Fault> {
        let column = table.created_column();
        let query = [
            parameter("select", column),
            parameter("order", format!("{column}.desc.nullslast")),
            parameter("limit", 1),
        ];
        let what = format!("looking for the newest of {table}");
        let rows = match self.rows(&what, table, &query).await {
            Ok(rows) => rows,
            Err(Refusal::Answer { error, .. }) if error.missing_column().is_some() => return Ok(None),
            Err(refusal) => return Err(self.http.fault(&what, refusal)),
        };
        Ok(rows.first().and_then(|row| row.get(column)?.as_str().and_then(parse_instant)))
    }

    /// Leads by status and by origin, and the number of rows behind them.
    async fn breakdown(&self) -> Result<(Breakdown, Breakdown, u64), Fault> {
        let what = "counting leads by status and origin";
        let (mut statuses, mut origins) = (HashMap::new(), HashMap::new());
        let mut seen = 0;
        let mut last: Option<String> = None;
        while seen < MOST_ROWS {
            let mut query = vec![
                parameter("select", "id,status_lead,origem"),
                parameter("order", "id.asc"),
                parameter("limit", PAGE),
            ];
            query.extend(last.as_ref().map(|id| parameter("and", format!("(id.gt.{})", quoted(id)))));
            let rows = self
                .rows(what, Table::Leads, &query)
                .await
                .map_err(|refusal| self.http.fault(what, refusal))?;
            let next = rows.last().and_then(|row| row.get("id")?.as_str().map(str::to_owned));
            if next.is_none() || next == last {
                break;
            }
            last = next;
            for row in &rows {
                seen += 1;
                tally(&mut statuses, row, "status_lead", "sem_status");
                tally(&mut origins, row, "origem", "sem_origem");
            }
        }
        Ok((sorted(statuses), sorted(origins), seen))
    }
}

type Breakdown = Vec<(String, u64)>;

fn tally(counts: &mut HashMap<String, u64>, row: &JsonObject, column: &str, missing: &str) {
    let value = row.get(column).and_then(|value| value.as_str()).unwrap_or(missing);
    match counts.get_mut(value) {
        Some(count) => *count += 1,
        None => {
            counts.insert(value.to_owned(), 1);
        }
    }
}

fn sorted(counts: HashMap<String, u64>) -> Breakdown {
    let mut counts: Breakdown = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// The total behind the slash: `0-0/42`, `*/0`.
fn total(reply: &Reply) -> Option<u64> {
    reply.headers.get("content-range")?.to_str().ok()?.rsplit('/').next()?.parse().ok()
}
