//! Believable Brazilian leads and chat sessions, the same for the same seed.

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Timelike, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::JsonObject;

const NAMES: [&str; 12] = [
    "Ana",
    "João",
    "Conceição",
    "Luís",
    "Íris",
    "Antônio",
    "Júlia",
    "Márcio",
    "Débora",
    "Inês",
    "Caetano",
    "Zoé",
];
const SURNAMES: [&str; 10] = [
    "da Silva",
    "Gonçalves",
    "Araújo",
    "Conceição",
    "Simões",
    "Brandão",
    "d'Ávila",
    "Magalhães",
    "Leão",
    "Nuñez",
];
const CITIES: [(&str, &str); 6] = [
    ("São Paulo", "SP"),
    ("Florianópolis", "SC"),
    ("Goiânia", "GO"),
    ("Belém", "PA"),
    ("Maceió", "AL"),
    ("Niterói", "RJ"),
];
const DISTRICTS: [&str; 4] = ["Centro", "Jardim São João", "Vila Conceição", "Praia do Morro"];
/// Skewed as a funnel is: most leads are new.
const STATUSES: [(&str, u32); 6] = [
    ("novo", 50),
    ("em_contato", 22),
    ("qualificado", 14),
    ("proposta", 7),
    ("perdido", 5),
    ("convertido", 2),
];
const ORIGINS: [&str; 6] = ["google", "instagram", "indicação", "site", "facebook", "whatsapp"];
/// Campaigns: name, source, medium, and from how many days ago until how many days ago they ran.
const CAMPAIGNS: [(&str, &str, &str, i64, i64); 6] = [
    ("lançamento-verão", "google", "cpc", 95, 50),
    ("feirão-da-casa", "facebook", "cpc", 60, 30),
    ("primeiro-imóvel", "instagram", "social", 40, 12),
    ("indique-um-amigo", "newsletter", "email", 95, 0),
    ("black-friday", "google", "cpc", 14, 0),
    ("retorno-de-visita", "instagram", "remarketing", 21, 0),
];
/// How busy each hour of the day is, in Brasília: nobody asks at night, most do before noon and after dinner.
const HOURS: [u32; 24] =
    [3, 2, 1, 1, 1, 2, 5, 12, 24, 36, 42, 40, 30, 32, 40, 44, 42, 36, 30, 34, 40, 34, 20, 9];
/// How busy each day of the week is, from Monday.
const WEEKDAYS: [u32; 7] = [10, 10, 9, 9, 8, 5, 4];
/// Brasília is this far behind UTC.
const BRASILIA: TimeDelta = TimeDelta::hours(-3);
const ANSWERS: [&str; 5] = [
    "Os apartamentos começam em R$ 320 mil, com entrada facilitada.",
    "Sim, trabalhamos com financiamento pela Caixa e por bancos privados.",
    "Cada unidade tem uma vaga coberta; há vagas extras à venda.",
    "Claro! Temos horários amanhã às 10h e às 15h. Qual prefere?",
    "Fica a 400 m da estação, cinco minutos a pé.",
];
const INTERESTS: [&str; 6] = ["apartamento", "casa", "lote", "cobertura", "investimento", "aluguel"];
const QUESTIONS: [&str; 5] = [
    "Qual o preço?",
    "Aceita financiamento?",
    "Tem vaga de garagem?",
    "Posso visitar amanhã?",
    "É perto do metrô?",
];
const PAGES: [&str; 5] = ["/", "/lançamentos", "/contato", "/simulador", "/sobre-nós"];

/// Generates the rows of a project as of `now`, spread over the `hours` before it.
#[derive(Debug)]
pub struct Generator {
    random: StdRng,
    now: DateTime<Utc>,
    hours: u32,
}

impl Generator {
    pub fn new(seed: u64, now: DateTime<Utc>, hours: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), now, hours }
    }

    /// Rows of `leads`, oldest change first.
    pub fn leads(&mut self, count: usize) -> Vec<JsonObject> {
        let mut rows: Vec<JsonObject> = (0..count).map(|_| self.lead()).collect();
        rows.sort_by_key(|row| row["created_at"].as_str().map(str::to_owned));
        rows
    }

    /// Rows of `chat_sessions`; some belong to one of `leads`.
    pub fn sessions(&mut self, count: usize, leads: &[JsonObject]) -> Vec<JsonObject> {
        (0..count).map(|_| self.session(leads)).collect()
    }

    /// A lead that has just come.
    pub(super) fn new_lead(&mut self) -> JsonObject {
        let mut lead = self.lead();
        for time in ["created_at", "updated_at", "last_interaction_at"] {
            lead.insert(time.to_owned(), json!(spelled(self.now)));
        }
        lead.insert("status_lead".to_owned(), json!("novo"));
        lead
    }

    /// A chat that has just begun.
    pub(super) fn new_session(&mut self, leads: &[JsonObject]) -> JsonObject {
        let mut session = self.session(leads);
        for missing in ["ended_at", "duration_seconds"] {
            session.insert(missing.to_owned(), Value::Null);
        }
        session.insert("started_at".to_owned(), json!(spelled(self.now)));
        session.insert("is_active".to_owned(), json!(true));
        session
    }

    /// What was said in a session: `first` is the number of its first message, `from` and `to` bound their times.
    pub(super) fn messages(
        &mut self,
        first: i64,
        session: &Value,
        count: i64,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Vec<JsonObject> {
        let apart = (to - from) / i32::try_from(count.max(1)).unwrap_or(i32::MAX);
        let message = |n: i64| {
            let (role, text) = if n % 2 == 0 {
                ("usuario", self.pick(&QUESTIONS))
            } else {
                ("assistente", self.pick(&ANSWERS))
            };
            object(json!({
                "id": first + n,
                "session_id": session,
                "papel": role,
                "conteudo": text,
                "tokens": text.len() / 4 + self.below(9),
                "latencia_ms": if n % 2 == 0 { Value::Null } else { json!(300 + self.below(2_500)) },
                "created_at": spelled(from + apart * i32::try_from(n).unwrap_or_default()),
            }))
        };
        (0..count).map(message).collect()
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn lead(&mut self) -> JsonObject {
        let created = self.instant();
        let status = self.status();
        let is_new = status == "novo";
        // A new lead may wait for days; others were followed up. A change is never later than now.
        let longest = if is_new { 7200 } else { 20 * 86_400 };
        let longest = (self.now - created).num_seconds().clamp(1, longest);
        let updated = (created + TimeDelta::seconds(self.random.random_range(0..longest))).min(self.now);
        // Heard of lately, long before anybody last touched the row, or never.
        let heard = match self.random.random_range(0..10) {
            0..=3 => json!(spelled(updated)),
            4..=6 => {
                let between = (updated - created).num_seconds().max(1);
                json!(spelled(created + TimeDelta::seconds(self.random.random_range(0..between) / 4)))
            }
            _ => Value::Null,
        };
        let name = format!("{} {}", self.pick(&NAMES), self.pick(&SURNAMES));
        let city = self.pick(&CITIES);
        let campaign = self.campaign(created);
        let origin = match campaign {
            Some((_, source, ..)) if ORIGINS.contains(&source) => json!(source),
            _ => self.maybe(90, |g| json!(g.pick(&ORIGINS))),
        };
        let of_campaign = |told: fn((&'static str, &'static str, &'static str)) -> &'static str| {
            campaign.map_or(Value::Null, |campaign| json!(told(campaign)))
        };
        let row = json!({
            "id": self.uuid(),
            "nome": name,
            "email": self.maybe(90, |g| json!(format!("cliente{}@exemplo.com.br", g.random.random_range(0..1_000_000)))),
            "telefone": self.maybe(80, |g| json!(format!("+55 11 9{:08}", g.random.random_range(0..100_000_000)))),
            "nome_empresa": self.maybe(30, |g| json!(format!("{} & Filhos Ltda.", g.pick(&SURNAMES)))),
            "nome_projeto": self.maybe(60, |g| json!(format!("Residencial {}", g.pick(&SURNAMES)))),
            "localizacao": self.maybe(70, |g| g.place(city)),
            "interesse": self.some(&INTERESTS, 3),
            "score_qualificacao": self.maybe(95, Self::score),
            "status_lead": status,
            "origem": origin,
            "utm_source": of_campaign(|(_, source, _)| source),
            "utm_medium": of_campaign(|(_, _, medium)| medium),
            "utm_campaign": of_campaign(|(name, ..)| name),
            "created_at": spelled(created),
            // A row nobody has touched since it came.
            "updated_at": if is_new { self.maybe(80, |_| json!(spelled(updated))) } else { json!(spelled(updated)) },
            "last_interaction_at": heard,
        });
        object(row)
    }

    /// A campaign that ran when a lead came, for half of the leads.
    fn campaign(&mut self, at: DateTime<Utc>) -> Option<(&'static str, &'static str, &'static str)> {
        let ago = (self.now - at).num_days();
        let running: Vec<_> =
            CAMPAIGNS.iter().filter(|(.., from, until)| (*until..=*from).contains(&ago)).collect();
        let (name, source, medium, ..) = running.choose(&mut self.random)?;
        self.random.random_ratio(1, 2).then_some((*name, *source, *medium))
    }

    /// Most are whole, as a model gives them some are not.
    fn score(&mut self) -> Value {
        let whole = self.random.random_range(0..=100);
        if whole < 100 && self.random.random_ratio(1, 5) {
            return json!(f64::from(whole) + 0.5);
        }
        json!(whole)
    }

    fn session(&mut self, leads: &[JsonObject]) -> JsonObject {
        let started = self.instant();
        let active = self.random.random_ratio(1, 10);
        let seconds = self.random.random_range(5..3600);
        let lead = leads.choose(&mut self.random).map(|lead| lead["id"].clone());
        let row = json!({
            "id": self.uuid(),
            "lead_id": self.maybe(60, |_| lead.unwrap_or(Value::Null)),
            "session_token": format!("tok_{:032x}", self.random.random::<u128>()),
            "user_agent": "Mozilla/5.0 (Linux; Android 14)",
            "ip_address": format!("203.0.113.{}", self.random.random_range(1..255)),
            "total_messages": self.random.random_range(0..40),
            "duration_seconds": if active { Value::Null } else { json!(seconds) },
            "pages_visited": self.path(),
            "perguntas_feitas": self.some(&QUESTIONS, 4),
            "intencao_detectada": self.maybe(70, |g| json!(g.pick(&INTERESTS))),
            "nivel_interesse": self.maybe(70, |g| json!(g.pick(&["alto", "médio", "baixo"]))),
            "started_at": spelled(started),
            "ended_at": if active { Value::Null } else { json!(spelled(started + TimeDelta::seconds(seconds))) },
            "is_active": active,
        });
        object(row)
    }

    fn place(&mut self, city: (&str, &str)) -> Value {
        let mut place = json!({"cidade": city.0, "uf": city.1, "pais": "BR"});
        if self.random.random_ratio(1, 3) {
            place["bairro"] = json!(self.pick(&DISTRICTS));
            let (lat, lng) = (self.random.random_range(-30.0..0.0), self.random.random_range(-54.0..-35.0));
            place["coordenadas"] = json!({"lat": lat, "lng": lng});
        }
        place
    }

    /// Most visitors see a few pages, some none, one in twenty wanders about.
    fn path(&mut self) -> Vec<String> {
        let most = if self.random.random_ratio(1, 20) { 200 } else { 12 };
        self.some(&PAGES, most)
    }

    /// More lately than long ago, by day more than by night, on working days more than on others.
    fn instant(&mut self) -> DateTime<Utc> {
        let seconds = (i64::from(self.hours) * 3600).max(2);
        let busiest = HOURS.iter().max().unwrap_or(&1) * WEEKDAYS.iter().max().unwrap_or(&1);
        loop {
            let one = self.random.random_range(1..=seconds);
            let back = if self.random.random_ratio(1, 3) {
                one.min(self.random.random_range(1..=seconds))
            } else {
                one
            };
            let at = self.now - TimeDelta::seconds(back);
            let there = at + BRASILIA;
            let busy = HOURS[there.hour() as usize % 24]
                * WEEKDAYS[there.weekday().num_days_from_monday() as usize % 7];
            if self.random.random_range(0..busiest) < busy {
                return at + TimeDelta::microseconds(self.random.random_range(0..1_000_000));
            }
        }
    }

    fn status(&mut self) -> Value {
        let total: u32 = STATUSES.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.random_range(0..total);
        for (status, weight) in STATUSES {
            if drawn < weight {
                return json!(status);
            }
            drawn -= weight;
        }
        Value::Null
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    fn maybe(&mut self, percent: u32, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if self.random.random_ratio(percent, 100) { make(self) } else { Value::Null }
    }

    fn some(&mut self, from: &[&str], most: usize) -> Vec<String> {
        let count = self.random.random_range(0..=most);
        (0..count).map(|_| self.pick(from).to_owned()).collect()
    }
}

/// As PostgREST spells a `timestamptz`.
pub(super) fn spelled(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, false)
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Catalog, Json, SourceRow};

    #[test]
    fn the_same_seed_makes_the_same_rows_and_every_row_is_an_event() {
        let now = DateTime::from_timestamp(1_780_000_000, 0).expect("an instant");
        let rows = |seed| {
            let mut generator = Generator::new(seed, now, 24);
            let leads = generator.leads(200);
            let sessions = generator.sessions(100, &leads);
            (leads, sessions)
        };
        let (leads, sessions) = rows(1);
        assert_eq!((&leads, &sessions), (&rows(1).0, &rows(1).1));
        assert_ne!(leads, rows(2).0);
        for (table, rows) in [("leads", leads), ("chat_sessions", sessions)] {
            let table = Catalog::built_in().get(table).expect("a table");
            for row in rows {
                let row = SourceRow::read(table, Json::from(&row)).expect("a row");
                assert!(row.event(now, 1).1.is_empty(), "a value does not fit");
            }
        }
    }

    #[test]
    fn leads_come_by_day_and_over_all_the_weeks_from_several_campaigns() {
        let now = DateTime::from_timestamp(1_780_000_000, 0).expect("an instant");
        let leads = Generator::new(1, now, 90 * 24).leads(500);
        let at = |lead: &JsonObject, name: &str| {
            lead[name].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|at| at.to_utc())
        };
        let created: Vec<_> = leads.iter().filter_map(|lead| at(lead, "created_at")).collect();
        let by_day = created.iter().filter(|at| (8..22).contains(&(**at + BRASILIA).hour())).count();
        assert!(by_day > 420, "{by_day} of 500 came by day");
        for week in 0..12 {
            let of_week = created.iter().filter(|at| (now - **at).num_weeks() == week).count();
            assert!(of_week >= 10, "{of_week} came {week} weeks ago");
        }
        let campaigns: std::collections::BTreeSet<_> =
            leads.iter().filter_map(|lead| lead["utm_campaign"].as_str()).collect();
        assert!(campaigns.len() >= 5, "{campaigns:?}");
        let stale = leads
            .iter()
            .filter(|lead| at(lead, "last_interaction_at").is_none_or(|at| now - at > TimeDelta::days(30)));
        assert!(stale.count() > 100);
        let followed =
            leads.iter().filter_map(|lead| Some(at(lead, "updated_at")? - at(lead, "created_at")?));
        assert!(followed.filter(|after| *after > TimeDelta::days(1)).count() > 100);
    }
}
