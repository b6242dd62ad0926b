//! Believable Brazilian leads and chat sessions, the same for the same seed.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
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

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn lead(&mut self) -> JsonObject {
        let created = self.instant();
        // A change is never later than now.
        let updated = (created + TimeDelta::seconds(self.random.random_range(0..7200))).min(self.now);
        let name = format!("{} {}", self.pick(&NAMES), self.pick(&SURNAMES));
        let status = self.status();
        let city = self.pick(&CITIES);
        let row = json!({
            "id": self.uuid(),
            "nome": name,
            "email": self.maybe(90, |g| json!(format!("cliente{}@exemplo.com.br", g.random.random_range(0..1_000_000)))),
            "telefone": self.maybe(80, |g| json!(format!("+55 11 9{:08}", g.random.random_range(0..100_000_000)))),
            "nome_empresa": self.maybe(30, |g| json!(format!("{} & Filhos Ltda.", g.pick(&SURNAMES)))),
            "nome_projeto": self.maybe(60, |g| json!(format!("Residencial {}", g.pick(&SURNAMES)))),
            "localizacao": self.maybe(70, |g| g.place(city)),
            "interesse": self.some(&INTERESTS, 3),
            "score_qualificacao": self.maybe(95, |g| json!(g.random.random_range(0..=100))),
            "status_lead": status,
            "origem": self.maybe(90, |g| json!(g.pick(&ORIGINS))),
            "utm_source": self.maybe(50, |g| json!(g.pick(&ORIGINS))),
            "utm_medium": self.maybe(40, |_| json!("cpc")),
            "utm_campaign": self.maybe(30, |_| json!("lançamento-verão")),
            "created_at": spelled(created),
            // A row nobody has touched since it came.
            "updated_at": self.maybe(90, |_| json!(spelled(updated))),
            "last_interaction_at": self.maybe(60, |_| json!(spelled(updated))),
        });
        object(row)
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

    fn instant(&mut self) -> DateTime<Utc> {
        let seconds = i64::from(self.hours) * 3600;
        // More lately than long ago.
        let back =
            self.random.random_range(1..=seconds.max(2)).min(self.random.random_range(1..=seconds.max(2)));
        self.now - TimeDelta::seconds(back) + TimeDelta::microseconds(self.random.random_range(0..1_000_000))
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
    use crate::domain::{Event, Table};

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
        for (table, rows) in [(Table::Leads, leads), (Table::ChatSessions, sessions)] {
            for row in rows {
                Event::from_row(table, row, now).expect("an event");
            }
        }
    }
}
