//! Exports, on the embedded parts and on the real ones: every row, exactly and masked, or no file at all.

use std::{collections::BTreeMap, fs, path::PathBuf};

use chrono::DateTime;
use rmcp::model::{ReadResourceRequestParams, ResourceContents};
use serde_json::{Value, json};
use sluice::{domain::JsonObject, engine::Engine};

use crate::{
    mcp::{Session, answer, call, connect_to, text},
    support::{
        eventually,
        http::HttpServer,
        on_each_adapter,
        place::{Embedded, Place, Real, rows, value},
        request,
        rows::{id, lead, leads},
        sync, table,
    },
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    every_row_is_exported_exactly_and_masked_as_answers_are,
    a_client_s_export_is_its_own_until_it_expires_or_somebody_is_erased,
}

/// More than any page of the index holds.
const SYNCED: u128 = 1_200;

/// More than any step or batch holds; those that were not synced are in the store alone.
const MANY: u128 = 20_200;

const FORMULA: &str = "=HYPERLINK(\"http://evil.example\";\"clique\")";

/// Leads whose texts are hostile and whose numbers no double holds.
fn hostile() -> Vec<JsonObject> {
    let with = |n: u128, members: Value| {
        let mut row = lead(n, 0);
        row.extend(members.as_object().cloned().expect("an object"));
        row
    };
    vec![
        with(1, json!({"nome": FORMULA, "score_qualificacao": -5})),
        with(2, json!({"nome": "linha 1\r\n\"linha 2\", fim;", "telefone": "+55 11 98765-4321"})),
        with(3, json!({"nome": "", "telefone": null, "interesse": []})),
        with(
            4,
            json!({"localizacao": {"lat": -23.5505, "fone": "312-5678", "n": 12_345_678_901_234_567_890_u64}}),
        ),
    ]
}

/// The place with its leads synced, and its engine gone.
async fn filled<P: Place>(many: u128) -> P {
    let mut place = P::new().await;
    place.set("SLUICE_EXPORT_MAX_MIB", "64");
    place.source().set_rows(table("leads"), leads(many));
    place.source().upsert(table("leads"), hostile());
    let engine = place.engine().await;
    engine.start_drains().await;
    let mut asked = request(table("leads"));
    asked.limit = 100_000;
    assert_eq!(u128::from(sync(&engine, asked).await.appended), many);
    engine.shut_down().await;
    place
}

/// Rows in the store besides, which no index needs to take in.
async fn add_rows(place: &impl Place, store: &str, many: u128) {
    let key = "'00000000-0000-4000-8000-' || substr(CAST(1000000000000 + n.i AS text), 2)";
    let key = if store == "postgres" { format!("CAST({key} AS uuid)") } else { key.to_owned() };
    let sql = format!(
        "INSERT INTO leads (id, nome, email, score_qualificacao, status_lead, metadata, versao, evento_id, processado_em)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many})
         SELECT {key}, 'Massa ' || n.i, 'massa' || n.i || '@exemplo.com.br', n.i % 100, 'massa', l.metadata, l.versao,
                l.evento_id, l.processado_em
         FROM n, (SELECT * FROM leads ORDER BY id LIMIT 1) AS l"
    );
    place.execute(&sql).await;
}

/// Runs `sluice export`: whether it succeeded, and what it said.
async fn export(place: &impl Place, arguments: &[&str]) -> (bool, String, String) {
    let arguments: Vec<&str> = std::iter::once("export").chain(arguments.iter().copied()).collect();
    let output = place.command(&arguments).output().await.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// In São Paulo.
async fn excel_shows_the_clock_of_the_zone(place: &impl Place, engine: &Engine) {
    let of = format!("FROM leads WHERE id = '{}'", id(9));
    let updated = value(engine, &format!("SELECT updated_at {of}")).await;
    let updated = DateTime::parse_from_rfc3339(updated.as_str().expect("a time")).expect("an instant");
    let local = updated.with_timezone(&chrono_tz::America::Sao_Paulo).format("%Y-%m-%d %H:%M:%S");
    let sql = format!(
        "SELECT updated_at, max(updated_at) AS newest, max(updated_at) AT TIME ZONE 'America/Sao_Paulo' AS clock
         {of} GROUP BY updated_at"
    );
    let (done, times, told) = export(place, &["--sql", &sql, "--format", "excel"]).await;
    assert!(done, "{told}");
    assert_eq!(times, format!("\u{feff}updated_at;newest;clock\r\n{local};{local};{local}\r\n"));
}

/// The lines of NDJSON by their `id`.
fn by_id(ndjson: &str) -> BTreeMap<String, Value> {
    let object = |line: &str| serde_json::from_str::<Value>(line).expect("an object a line");
    let objects = ndjson.lines().map(object);
    objects.map(|object| (object["id"].as_str().expect("an id").to_owned(), object)).collect()
}

async fn every_row_is_exported_exactly_and_masked_as_answers_are<P: Place>() {
    let mut place = filled::<P>(SYNCED).await;
    let store = place.engine().await.questions.store_name();
    add_rows(&place, store, MANY - SYNCED).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();

    // Every row, against what SQL counts and adds up.
    let (done, nothing, told) =
        export(&place, &["leads", "--output", &file("leads.ndjson"), "--reveal-pii"]).await;
    assert!(done && nothing.is_empty() && told.contains("20200 rows, complete"), "{told}");
    let content = fs::read_to_string(file("leads.ndjson")).expect("the file");
    let exported = by_id(&content);
    let engine = place.engine().await;
    assert_eq!(exported.len(), content.lines().count());
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(exported.len()));
    let points = |row: &Value| row["score_qualificacao"].as_i64().expect("a whole number");
    let scores: i64 = exported.values().map(points).sum();
    assert_eq!(
        value(&engine, "SELECT CAST(sum(score_qualificacao) AS bigint) FROM leads").await,
        json!(scores)
    );
    let mut compared = 0;
    for page in 0..=MANY / 1_000 {
        let sql = "SELECT id, nome, email, status_lead FROM leads ORDER BY id LIMIT 1000";
        for mut row in rows(&engine, &format!("{sql} OFFSET {}", page * 1_000)).await {
            let exported = &exported[row[0].as_str().expect("an id")];
            row[1] = json!(row[1].as_str().expect("a name").replace("\r\n", "\n"));
            let exported = ["id", "nome", "email", "status_lead"].map(|name| exported[name].clone());
            assert_eq!(exported.as_slice(), row);
            compared += 1;
        }
    }
    assert_eq!(compared, MANY);
    assert!(content.contains("12345678901234567890"), "every digit");
    assert_eq!(exported[&id(1)]["nome"], FORMULA, "a program is given what is there");

    // Masked as query_store masks it, whatever the statement calls it.
    let sql = format!(
        "SELECT id, email AS quem, telefone, localizacao, nome FROM leads WHERE id > '{}' AND id < '{}' ORDER BY id",
        id(0),
        id(60)
    );
    let (done, masked, told) = export(&place, &["--sql", &sql, "--format", "ndjson"]).await;
    assert!(done, "{told}");
    let (client, _) = connect_to(place.command(&["serve", "--without-drains"])).await;
    let answered = answer(&client, "query_store", json!({"sql": sql})).await;
    let answered: Vec<Value> = answered["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            json!({"id": row[0], "quem": row[1], "telefone": row[2], "localizacao": row[3], "nome": row[4]})
        })
        .collect();
    let masked: Vec<Value> =
        masked.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(masked.len(), 59);
    for (exported, mut answered) in masked.into_iter().zip(answered) {
        if exported["id"] == json!(id(4)) {
            // The same digits: an answer has them as text where no double holds them.
            answered["localizacao"]["n"] = exported["localizacao"]["n"].clone();
        }
        // A line break as forms send it is one, where an answer shows that half of it is hidden.
        answered["nome"] = json!(answered["nome"].as_str().expect("a name").replace("\u{fffd}\n", "\n"));
        assert_eq!(exported, answered);
    }
    client.cancel().await.expect("the session closes");

    // What a search finds, as SQL counts it.
    let (done, found, told) =
        export(&place, &["--search", "status_lead:novo", "--table", "leads", "--format", "ndjson"]).await;
    assert!(done, "{told}");
    let found = by_id(&found);
    let new = "SELECT count(*) FROM leads WHERE status_lead = 'novo'";
    assert_eq!(value(&engine, new).await, json!(found.len()));
    assert!(found.values().all(|lead| lead["status_lead"] == "novo" && lead["email"] == "j***@***"));

    // No formula, in a file that is not written over.
    let (done, _, told) = export(&place, &["leads", "--output", &file("leads.csv")]).await;
    assert!(done, "{told}");
    let csv = fs::read_to_string(file("leads.csv")).expect("the file");
    assert!(csv.starts_with("id,nome,email,telefone,"), "{}", &csv[..200]);
    assert!(csv.contains(&format!("{},\"'=HYPERLINK(\"\"http://evil.example\"\";", id(1))));
    assert!(csv.contains(",-5,") && csv.contains("\"linha 1\n\"\"linha 2\"\", fim;\""), "numbers and breaks");
    let (done, _, told) = export(&place, &["chat-sessions", "--output", &file("leads.csv")]).await;
    assert!(!done && told.contains("exists") && told.contains("--force"), "{told}");
    assert_eq!(fs::read_to_string(file("leads.csv")).expect("the file"), csv);

    let (done, _, told) = export(&place, &["leads", "--format", "excel", "--output", &file("a.xlsx")]).await;
    assert!(!done && told.contains("workbooks are not written"), "{told}");

    // An instant in the user's zone, whether it is a column's or computed; what has no zone as it is.
    place.set("SLUICE_TIMEZONE", "America/Sao_Paulo");
    excel_shows_the_clock_of_the_zone(&place, &engine).await;

    // One that fails midway is no file at all.
    engine.shut_down().await;
    drop(engine);
    place.set("SLUICE_EXPORT_MAX_MIB", "1");
    for arguments in [vec!["leads"], vec!["leads", "--output", &file("cut.csv")]] {
        let (done, output, told) = export(&place, &arguments).await;
        assert!(!done && output.is_empty() && told.contains("not complete"), "{told}");
        assert!(told.contains("SLUICE_EXPORT_MAX_MIB") && !told.contains("after 0 rows"), "{told}");
    }
    let mut left: Vec<String> = fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, ["leads.csv", "leads.ndjson"]);
    place.clean_up().await;
}

const SALES: &str = "chave-de-vendas-1";
const OTHER: &str = "chave-de-outros-1";

/// All parts of a resource, put together.
async fn whole(session: &crate::support::http::Session, uri: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut next = Some(uri.to_owned());
    while let Some(uri) = next {
        let read = session.read_resource(ReadResourceRequestParams::new(uri)).await;
        let mut parts = read.map_err(|error| error.to_string())?.contents.into_iter();
        let Some(ResourceContents::TextResourceContents { text: part, .. }) = parts.next() else {
            panic!("a part is text")
        };
        assert!(part.len() < 40_000, "{} bytes", part.len());
        text.push_str(&part);
        next = parts.next().and_then(|told| match told {
            ResourceContents::TextResourceContents { text, .. } => {
                serde_json::from_str::<Value>(&text).expect("JSON")["next"].as_str().map(str::to_owned)
            }
            _ => None,
        });
    }
    Ok(text)
}

async fn a_client_s_export_is_its_own_until_it_expires_or_somebody_is_erased<P: Place>() {
    let mut place = filled::<P>(600).await;
    let exports = place.settings().data_dir.join("exports");
    let files = |exports: &PathBuf| fs::read_dir(exports).map_or(0, Iterator::count);

    // Over stdio it lies where it says.
    let (client, _) = connect_to(place.command(&["serve", "--without-drains"])).await;
    let made = answer(&client, "export", json!({"table": "leads", "format": "excel"})).await;
    assert_eq!((&made["complete"], &made["rows"]), (&json!(true), &json!(600)), "{made}");
    let path = PathBuf::from(made["path"].as_str().expect("a path"));
    let content = fs::read_to_string(&path).expect("the file");
    assert!(content.starts_with("\u{feff}id;nome;") && !content.contains("joao"), "masked");
    assert_eq!(json!(content.len()), made["bytes"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let rights = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((rights(&path), rights(&exports)), (0o600, 0o700));
    }
    for (arguments, expected) in [
        (json!({}), "give a table"),
        (json!({"table": "pg_shadow"}), "eventos_raw"),
        (json!({"sql": "DELETE FROM leads"}), "SELECT"),
        (json!({"sql": "SELECT 1", "table": "leads"}), "give a table"),
        (json!({"table": "leads", "query": "nada:nada"}), "nada"),
        (json!({"id": id(1)}), "no such export"),
        (json!({"id": id(1), "table": "leads"}), "stands alone"),
    ] {
        let refused = call(&client, "export", arguments).await;
        assert!(refused.is_error == Some(true) && text(&refused).contains(expected), "{}", text(&refused));
    }
    stops_when_it_is_taken_back(&client, &exports).await;
    client.cancel().await.expect("the session closes");

    // Over HTTP it is fetched by whoever had it made.
    place.set("SLUICE_HTTP_TOKENS", &format!("vendas:read:{SALES},outros:full:{OTHER}"));
    place.set("SLUICE_REVEAL_PII_TO", "token:vendas");
    let server = HttpServer::of(place.command(&["serve", "--http", "127.0.0.1:0"])).await;
    let (sales, other) = (server.connect(Some(SALES)).await, server.connect(Some(OTHER)).await);
    let made = ask(&sales, "export", json!({"table": "leads", "query": "score_qualificacao:>=0"})).await;
    let (link, uri) = (made["link"].as_str().expect("a link"), made["uri"].as_str().expect("an address"));
    assert!(made["path"].is_null() && link.starts_with(&server.url), "{made}");
    assert!(made["next_step"].as_str().is_some_and(|told| told.contains("Bearer")), "{made}");
    let fetch = async |token: Option<&str>| {
        let mut asked = reqwest::Client::new().get(link);
        if let Some(token) = token {
            asked = asked.bearer_auth(token);
        }
        asked.send().await.expect("an answer")
    };
    let fetched = fetch(Some(SALES)).await;
    assert_eq!(fetched.status(), 200);
    let header = |name: &str| fetched.headers()[name].to_str().expect("text").to_owned();
    assert!(header("content-disposition").starts_with("attachment; filename=\"leads-"));
    assert_eq!(json!(header("content-length").parse::<u64>().expect("a number")), made["bytes"]);
    let content = fetched.text().await.expect("the file");
    assert!(content.contains("joao42@exemplo.com.br"), "this token sees contacts");
    assert_eq!(content.matches("@exemplo.com.br").count(), 599);
    assert_eq!(whole(&sales, uri).await.expect("the parts"), content);
    assert_eq!(fetch(Some(OTHER)).await.status(), 404, "another's");
    assert_eq!(fetch(None).await.status(), 401);
    assert!(whole(&other, uri).await.expect_err("another's").contains("is not there"));
    let of_other = ask(&other, "export", json!({"table": "leads"})).await;
    assert!(!whole(&other, of_other["uri"].as_str().expect("one")).await.expect("its own").contains("joao"));

    // It expires.
    let described = exports.join(format!("{}.json", of_other["id"].as_str().expect("an id")));
    let mut description: Value =
        serde_json::from_slice(&fs::read(&described).expect("a description")).expect("JSON");
    description["expires_at"] = json!("2026-01-01T00:00:00Z");
    fs::write(&described, description.to_string()).expect("written");
    assert!(whole(&other, of_other["uri"].as_str().expect("one")).await.is_err(), "it has expired");

    // Nobody is left in any of them who was erased.
    let erased = ask(&other, "erase_entity", json!({"table": "leads", "key": id(42), "confirm": true})).await;
    let removed = erased["removed"].as_array().expect("places");
    assert!(
        removed.iter().any(|place| place["place"] == "exports" && place["count"].as_u64() >= Some(3)),
        "{erased}"
    );
    assert!(erased["remains"].to_string().contains("downloaded"), "{erased}");
    assert_eq!((fetch(Some(SALES)).await.status().as_u16(), files(&exports)), (404, 0));
    let again = ask(&sales, "export", json!({"table": "leads"})).await;
    assert!(!whole(&sales, again["uri"].as_str().expect("one")).await.expect("it").contains("joao42@"));

    // One that another machine kept is given to nobody, either.
    let made = ask(&sales, "export", json!({"table": "leads"})).await;
    let described = exports.join(format!("{}.json", made["id"].as_str().expect("an id")));
    let mut description: Value =
        serde_json::from_slice(&fs::read(&described).expect("a description")).expect("JSON");
    description["erasures"] = json!(id(7));
    fs::write(&described, description.to_string()).expect("written");
    assert!(whole(&sales, made["uri"].as_str().expect("one")).await.is_err());
    assert!(!described.exists());
    drop((sales, other));
    drop(server);
    place.clean_up().await;
}

/// The structured content of a success.
async fn ask(session: &crate::support::http::Session, tool: &str, arguments: Value) -> Value {
    let arguments = arguments.as_object().cloned().expect("an object");
    let asked = rmcp::model::CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = session.call_tool(asked).await.expect("a result");
    assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
    result.structured_content.expect("structured content")
}

async fn stops_when_it_is_taken_back(client: &Session, exports: &std::path::Path) {
    use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
    let drafts = || {
        let ends = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("a file").path().extension().is_some_and(|end| end == "part")
        };
        fs::read_dir(exports)
            .expect("the folder")
            .filter(|entry| entry.as_ref().is_ok())
            .map(ends)
            .filter(|is| *is)
            .count()
    };
    let endless = "SELECT a.id FROM leads AS a, leads AS b, leads AS c";
    let arguments = json!({"sql": endless}).as_object().cloned().expect("an object");
    let request = CallToolRequest::new(CallToolRequestParams::new("export").with_arguments(arguments));
    let handle = client
        .send_cancellable_request(
            ClientRequest::CallToolRequest(request),
            rmcp::service::PeerRequestOptions::no_options(),
        )
        .await
        .expect("sent");
    eventually("it is being made", async || drafts() == 1).await;
    handle.cancel(Some("a test".to_owned())).await.expect("cancelled");
    eventually("nothing is left of it", async || drafts() == 0).await;
    // Its place is free again.
    let made = answer(client, "export", json!({"sql": "SELECT count(*) AS n FROM leads"})).await;
    assert_eq!(made["rows"], 1);
}
