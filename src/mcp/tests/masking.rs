//! Whatever way a contact could leave by, it leaves masked, unless the operator wants it seen.

use rmcp::model::{CompletionContext, GetPromptRequestParams, ReadResourceRequestParams};
use serde_json::json;

use super::{facts::beside, *};
use crate::source::sample::{Beginning, SampleColumn, SampleProject, SampleServer, keys};

const LEAD: &str = "00000000-0000-4000-8000-000000000001";

/// A lead that carries its contacts everywhere.
fn lead() -> serde_json::Map<String, Value> {
    let lead = json!({
        "id": LEAD, "nome": format!("{} ana@exemplo.com.br", "x".repeat(990)), "email": "ana@interno", "telefone": "3123-5678",
        "origem": "indicada por ana@exemplo.com.br", "status_lead": "ana@exemplo.com.br", "score_qualificacao": 70,
        "interesse": ["falar com 2804:14c:5bb1::77 ou +44 20 7946 0958"], "localizacao": {"ana@exemplo.com.br": {"fone": "312-5678"}},
        "contato_extra": "31 3123-5678", "updated_at": chrono::Utc::now().to_rfc3339(),
        "created_at": chrono::Utc::now().to_rfc3339(),
    });
    lead.as_object().cloned().expect("an object")
}

/// One that no event can be made of, whose address stands where its letter's excerpt ends.
fn broken() -> serde_json::Map<String, Value> {
    let lead = json!({
        "aaa": "x".repeat(473), "email": "ana@exemplo.com.br", "id": null,
        "interesse": {"telefone": "3123-5678"}, "updated_at": chrono::Utc::now().to_rfc3339(),
    });
    lead.as_object().cloned().expect("an object")
}

/// Everything that a client can be told, by the way it was asked.
async fn everything(bench: &Bench, offer: &Offer) -> Vec<(String, String)> {
    let connection = connect(bench.server(offer), Client::default(), Era::Sessions).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;
    let letters =
        call(&connection, "list_dead_letters", json!({})).await.structured_content.expect("letters");
    let letter =
        letters["letters"].as_array().expect("letters").iter().max_by_key(|letter| letter["bytes"].as_u64());
    let letter = letter.expect("the long letter")["id"].as_str().expect("an id").to_owned();
    let mut told = Vec::new();
    let sql = |sql: &str| ("query_store", json!({"sql": format!("{sql} WHERE id = '{LEAD}'")}));
    for (tool, arguments) in [
        ("get_supabase_dashboard", json!({})),
        ("get_lead", json!({"id": LEAD})),
        ("get_lead", json!({"id": LEAD, "history": true})),
        ("lead_report", json!({"period": "last_2_days", "group_by": ["origem", "email"]})),
        ("search_elasticsearch", json!({"filters": [{"field": "status_lead", "op": "eq", "value": "nada"}]})),
        ("get_entity", json!({"table": "leads", "key": LEAD})),
        ("query_raw_events", json!({"entidade_id": LEAD})),
        ("query_raw_events", json!({"entidade_id": LEAD, "include_dados": true})),
        (
            "search_elasticsearch",
            json!({"query": format!("id:\"{LEAD}\""), "index": "leads", "detail": "detailed"}),
        ),
        (
            "search_elasticsearch",
            json!({"index": "leads", "limit": 1, "count_by": ["telefone", "email", "origem", "status_lead"]}),
        ),
        (
            "search_elasticsearch",
            json!({"index": "eventos", "limit": 100, "count_by": ["usuario", "metadata.telefone"]}),
        ),
        ("list_dead_letters", json!({"detailed": true, "limit": 100})),
        ("get_lead", json!({"email": "ninguem ana@exemplo.com.br"})),
        sql("SELECT * FROM leads"),
        sql("SELECT email AS a, telefone AS b, lower(email) FROM leads"),
        sql("SELECT group_concat(telefone || ' ' || email) AS x FROM leads"),
        sql("SELECT json_object('x', telefone, 'y', email) AS j, substr(nome, 980) AS n FROM leads"),
        (
            "query_store",
            json!({"sql": "SELECT telefone, count(*) AS n FROM leads GROUP BY telefone ORDER BY n"}),
        ),
        (
            "query_store",
            json!({"sql": format!("SELECT usuario AS quem, dados FROM eventos_raw WHERE entidade_id = '{LEAD}'")}),
        ),
        ("search_elasticsearch", json!({"index": "leads", "query": "score_qualificacao:ana@exemplo.com.br"})),
        ("get_sync", json!({"sync_id": "ana@exemplo.com.br"})),
    ] {
        let result = call(&connection, tool, arguments.clone()).await;
        told.push((format!("{tool} {arguments}"), serde_json::to_string(&result).expect("JSON")));
    }
    for uri in [
        format!("sluice://leads/{LEAD}"),
        format!("sluice://dead-letters/{letter}"),
        "sluice://leads/ana@exemplo.com.br".to_owned(),
    ] {
        let read = connection.read_resource(ReadResourceRequestParams::new(&uri)).await;
        told.push((
            uri,
            read.map_or_else(
                |error| error.to_string(),
                |read| serde_json::to_string(&read.contents).expect("JSON"),
            ),
        ));
    }
    for (prompt, arguments) in [
        ("daily_lead_report", json!({"status": "ana@exemplo.com.br", "origin": "tel: 3123-5678"})),
        ("investigate_lead", json!({"ana@exemplo.com.br": "x"})),
        ("ana@exemplo.com.br", json!({})),
    ] {
        let arguments = arguments.as_object().cloned().expect("an object");
        let got = connection.get_prompt(GetPromptRequestParams::new(prompt).with_arguments(arguments)).await;
        told.push((
            prompt.to_owned(),
            got.map_or_else(|error| error.to_string(), |got| serde_json::to_string(&got).expect("JSON")),
        ));
    }
    for (argument, typed) in [("status", "a"), ("origin", "indicada")] {
        let values = connection
            .complete_prompt_argument("daily_lead_report", argument, typed, None::<CompletionContext>)
            .await;
        told.push((format!("complete {argument}"), values.expect("values").values.join("\n")));
    }
    let unknown = connection.call_tool(CallToolRequestParams::new("ana@exemplo.com.br")).await;
    told.push(("a tool".to_owned(), unknown.expect_err("no such tool").to_string()));
    told
}

/// The contacts as they would be seen, whole or cut off.
const CONTACTS: [&str; 6] = ["ana@e", "ana@i", "123-5678", "312-5678", "2804:14c", "7946 0958"];

#[tokio::test(flavor = "multi_thread")]
async fn no_contact_leaves_by_any_way_unless_the_operator_wants_it_seen() {
    let (bench, _source) = beside(vec![lead(), broken()]).await;
    for (way, told) in everything(&bench, &Offer::default()).await {
        for contact in CONTACTS {
            assert!(!told.contains(contact), "{way} tells {contact}: {told}");
        }
    }
    let revealing = Offer { reveal_pii: true, ..Offer::default() };
    let mut seen = 0;
    for (way, told) in everything(&bench, &revealing).await {
        // What was only asked for comes back in refusals alone.
        let some = CONTACTS.iter().any(|contact| told.contains(contact));
        assert!(
            some || way.starts_with("get_sync") || way.starts_with("get_lead {\"email"),
            "there was nothing to mask in {way}: {told}"
        );
        seen += usize::from(some);
    }
    assert!(seen > 20);
    bench.engine.shut_down().await;
}

/// A table whose masked columns look like nothing.
const RECORDS: &str = r#"
    name = "fichas"
    about = "records"
    entity = "ficha"
    [key]
    column = "id"
    type = "bigint"
    [time]
    created = "created_at"
    modified = "updated_at"
    [event]
    categoria = "fichas"
    evento = "ficha"
    [[columns]]
    name = "documento"
    from = "doc_cliente"
    type = "text"
    masked = true
    [[columns]]
    name = "salario"
    type = "number"
    masked = true
    [[columns]]
    name = "cor"
    type = "text"
    [[columns]]
    name = "created_at"
    type = "timestamp"
    [[columns]]
    name = "updated_at"
    type = "timestamp"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_masked_column_held_before_and_after_a_change_is_masked() {
    let tables = tempfile::tempdir().expect("a folder");
    std::fs::write(tables.path().join("fichas.toml"), RECORDS).expect("written");
    let origin = "name = \"origem\"\ntype = \"text\"\n";
    let leads =
        include_str!("../../../tables/leads.toml").replace(origin, &format!("{origin}masked = true\n"));
    std::fs::write(tables.path().join("leads.toml"), leads).expect("written");
    let source = SampleServer::start(0).await.expect("a source");
    source.set_project(SampleProject::new(Beginning::now(1, 60, 20)));
    let settings = [
        ("SUPABASE_URL", source.url()),
        ("SUPABASE_KEY", keys::SECRET.to_owned()),
        ("SLUICE_TABLES_DIR", tables.path().display().to_string()),
    ];
    let bench = Bench::with(settings.map(|(name, value)| (name.to_owned(), value))).await;
    bench.engine.start_drains().await;
    let [leads, records] =
        ["leads", "fichas"].map(|name| bench.engine.catalog.get(name).expect("a defined table"));
    let now = chrono::Utc::now().to_rfc3339();
    let record = json!({
        "id": 7, "doc_cliente": "AB-1234", "salario": 5151, "cor": "azul", "created_at": now, "updated_at": now,
    });
    source.upsert(leads, vec![lead()]);
    source
        .create_table("public", "fichas", SampleColumn::of(records), &[record.to_string()])
        .expect("an object");
    let masking = connect(bench.server(&Offer::default()), Client::default(), Era::Sessions).await;
    let sync = async || {
        for table in ["leads", "fichas"] {
            let done = call(&masking, "sync_table", json!({"table": table, "hours_ago": 10_000})).await;
            assert_ne!(done.is_error, Some(true), "{}", text(&done));
        }
    };
    sync().await;
    source.change(leads, &json!(LEAD), json!({"telefone": "3123-9999", "email": "bia@interno"}));
    source.change(records, &json!(7), json!({"doc_cliente": "CD-5678", "salario": 6262, "cor": "verde"}));
    sync().await;
    let revealing = Offer { reveal_pii: true, ..Offer::default() };
    let revealing = connect(bench.server(&revealing), Client::default(), Era::Sessions).await;
    for (asked, before, after) in [
        (json!({"changed": "telefone"}), "3123-5678", "3123-9999"),
        (json!({"tipo_evento": "lead", "changed": "email"}), "ana@interno", "bia@interno"),
        (json!({"tipo_evento": "ficha", "changed": "documento"}), "AB-1234", "CD-5678"),
        (json!({"changed": "documento"}), "AB-1234", "CD-5678"),
        (json!({"tipo_evento": "ficha", "changed": "salario"}), "5151", "6262"),
    ] {
        let told = |result: &CallToolResult| serde_json::to_string(result).expect("JSON");
        let shown = told(&call(&revealing, "query_raw_events", asked.clone()).await);
        assert!(shown.contains(before) && shown.contains(after), "{asked} has nothing to mask: {shown}");
        let masked = told(&call(&masking, "query_raw_events", asked.clone()).await);
        assert!(!masked.contains(before) && !masked.contains(after), "{asked}: {masked}");
        assert!(masked.contains("\"before\":") && masked.contains("***"), "{asked}: {masked}");
    }
    for (client, argument, offers) in
        [(&revealing, "origin", true), (&masking, "origin", false), (&masking, "status", true)]
    {
        let offered = client
            .complete_prompt_argument("daily_lead_report", argument, "", None::<CompletionContext>)
            .await;
        assert_eq!(!offered.expect("values").values.is_empty(), offers, "{argument}");
    }
    let seen = call(&masking, "query_raw_events", json!({"tipo_evento": "ficha", "changed": "cor"})).await;
    assert!(text(&seen).contains("azul") && text(&seen).contains("verde"), "{}", text(&seen));
    // Both tables have it, and either alone would be half of an answer.
    let refused = call(&masking, "query_raw_events", json!({"changed": "updated_at"})).await;
    assert!(
        refused.is_error == Some(true)
            && text(&refused).contains("tipo_evento")
            && text(&refused).contains("ficha"),
        "{}",
        text(&refused)
    );
    bench.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_may_show_contacts_shows_them_and_no_other_does() {
    let (bench, _source) = beside(vec![lead()]).await;
    let offer = Offer { reveal_to: ["get_lead".to_owned()].into(), ..Offer::default() };
    let connection = connect(bench.server(&offer), Client::default(), Era::Stateless).await;
    call(&connection, "sync_leads_from_supabase", json!({"hours_ago": 10_000, "limit": 1000})).await;
    let sql = format!("SELECT email FROM leads WHERE id = '{LEAD}'");
    let rows = call(&connection, "query_store", json!({"sql": sql})).await;
    assert!(!text(&rows).contains("ana@"), "{}", text(&rows));
    let shown = call(&connection, "get_lead", json!({"id": LEAD})).await;
    assert!(text(&shown).contains("ana@"), "{}", text(&shown));
    assert!(shown.structured_content.is_some_and(|shown| shown.to_string().contains("ana@")));
    bench.engine.shut_down().await;
}
