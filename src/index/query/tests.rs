use std::ops::Bound::{Excluded, Included, Unbounded};

use proptest::prelude::*;

use super::*;
use crate::index::fields::tests::of;

fn now() -> DateTime<Tz> {
    DateTime::parse_from_rfc3339("2026-11-25T10:20:30Z").expect("a date").with_timezone(&Tz::UTC)
}

fn read(query: &str) -> Query {
    parse(query, of("eventos"), now()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn refused(query: &str) -> QueryError {
    match parse(query, of("eventos"), now()) {
        Err(error) => error,
        Ok(read) => panic!("{query} was read as {read:?}"),
    }
}

fn field(path: &str, test: Test) -> Query {
    Query::Field(of("eventos").get(path).expect("a field"), test)
}

fn written(text: &str, words: &[&str]) -> Words {
    Words { text: text.to_owned(), words: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn words(path: &str, text: &str, words: &[&str]) -> Query {
    field(path, Test::Phrase(written(text, words), 0))
}

fn group(must: &[&Query], should: &[&Query], must_not: &[&Query]) -> Query {
    let owned = |queries: &[&Query]| queries.iter().map(|query| (*query).clone()).collect();
    Query::Bool(Clauses { must: owned(must), should: owned(should), must_not: owned(must_not) })
}

#[test]
fn clauses_are_joined_as_lucene_joins_them() {
    let [a, b, c] = ["a", "b", "c"].map(|word| words("evento", word, &[word]));
    for (query, expected) in [
        ("evento:a", a.clone()),
        ("evento:a evento:b", group(&[], &[&a, &b], &[])),
        ("evento:a OR evento:b", group(&[], &[&a, &b], &[])),
        ("evento:a || evento:b", group(&[], &[&a, &b], &[])),
        ("evento:a AND evento:b", group(&[&a, &b], &[], &[])),
        ("evento:a && evento:b", group(&[&a, &b], &[], &[])),
        ("evento:a OR evento:b AND evento:c", group(&[&b, &c], &[&a], &[])),
        ("evento:a AND NOT evento:b", group(&[&a], &[], &[&b])),
        ("evento:a AND !evento:b", group(&[&a], &[], &[&b])),
        ("+evento:a -evento:b evento:c", group(&[&a], &[&c], &[&b])),
        ("NOT evento:a", group(&[&Query::All], &[], &[&a])),
        ("evento:(a OR b)", group(&[], &[&a, &b], &[])),
        ("evento:(a b) AND (evento:c)", group(&[&group(&[], &[&a, &b], &[]), &c], &[], &[])),
    ] {
        assert_eq!(read(query), expected, "{query}");
    }
}

#[test]
fn terms_phrases_and_patterns_are_read_as_their_fields_are_indexed() {
    let part = |text: &str| Part::Text(text.into());
    for (query, expected) in [
        ("metadata.nome:Joa\u{303}o", words("metadata.nome", "Joa\u{303}o", &["joao"])),
        ("metadata.nome:Joa\u{303}u~1", field("metadata.nome", Test::Like("joau".into(), 1))),
        ("metadata.nome:Conceição", words("metadata.nome", "Conceição", &["conceicao"])),
        ("evento:a,b", words("evento", "a,b", &["a", "b"])),
        ("usuario:joao@exemplo.com", words("usuario", "joao@exemplo.com", &["joao", "exemplo.com"])),
        ("metadata.origem:Google-Ads", words("metadata.origem", "Google-Ads", &["google", "ads"])),
        ("usuario.keyword:joao@exemplo.com", field("usuario.keyword", Test::Is("joao@exemplo.com".into()))),
        ("categoria.keyword:Vendas", field("categoria.keyword", Test::Is("Vendas".into()))),
        (
            "metadata.nome:\"João da Silva\"~2",
            field("metadata.nome", Test::Phrase(written("João da Silva", &["joao", "da", "silva"]), 2)),
        ),
        ("metadata.nome:Conceiç*", field("metadata.nome", Test::Shape(vec![part("conceic"), Part::Many]))),
        (
            r"evento.keyword:l?ad\*_**",
            field("evento.keyword", Test::Shape(vec![part("l"), Part::One, part("ad*_"), Part::Many])),
        ),
        ("metadata.nome:Joãu~1", field("metadata.nome", Test::Like("joau".into(), 1))),
        ("metadata.nome:joao~", field("metadata.nome", Test::Like("joao".into(), 1))),
        ("evento:a^2.5", Query::Boosted(Box::new(words("evento", "a", &["a"])), 2.5)),
        ("evento:*", field("evento", Test::Exists)),
        ("_exists_:metadata.origem", field("metadata.origem", Test::Exists)),
        ("*", Query::All),
        ("*:*", Query::All),
        (r"evento:\(a\)", words("evento", "(a)", &["a"])),
        (r#"usuario.keyword:"a \"b\" \\ c""#, field("usuario.keyword", Test::Is(r#"a "b" \ c"#.into()))),
        (r"evento:\u0061", words("evento", "a", &["a"])),
        ("metadata.is_active:true", field("metadata.is_active", Test::Boolean(true))),
    ] {
        assert_eq!(read(query), expected, "{query}");
    }
    let Query::Any(anywhere) = read("joao") else { panic!("one field was chosen") };
    assert_eq!(anywhere.len(), of("eventos").searched_by_default().count());
    let Query::Any(anywhere) = read("joao@exemplo.com") else { panic!("one field was chosen") };
    let is_whole = |query: &Query| matches!(query, Query::Field(_, Test::Phrase(_, 0) | Test::Is(_)));
    assert!(anywhere.iter().all(is_whole), "{anywhere:?}");
    let Query::Any(members) = read("_exists_:metadata") else { panic!("an object has many members") };
    assert_eq!(members.len(), 15);
}

#[test]
fn ranges_and_comparisons_are_typed_with_their_bounds() {
    let day = |text: &str| instant(text).expect("a date");
    for (query, expected) in [
        ("valor:>50", field("valor", Test::Doubles(Excluded(50.0), Unbounded))),
        ("valor:<=-1.5", field("valor", Test::Doubles(Unbounded, Included(-1.5)))),
        ("valor:[1 TO 2}", field("valor", Test::Doubles(Included(1.0), Excluded(2.0)))),
        ("valor:-3", field("valor", Test::Doubles(Included(-3.0), Included(-3.0)))),
        (
            "metadata.total_messages:{1 TO *]",
            field("metadata.total_messages", Test::Longs(Excluded(1), Unbounded)),
        ),
        (
            "metadata.total_messages:[1.5 TO 3.5]",
            field("metadata.total_messages", Test::Longs(Included(2), Included(3))),
        ),
        (
            "timestamp:[2026-11-24 TO 2026-11-24]",
            field("timestamp", Test::Dates(Included(day("2026-11-24")), Included(day("2026-11-25") - 1))),
        ),
        (
            "timestamp:2026-11",
            field("timestamp", Test::Dates(Included(day("2026-11-01")), Included(day("2026-12-01") - 1))),
        ),
        (
            "timestamp:>2026-11-24",
            field("timestamp", Test::Dates(Excluded(day("2026-11-25") - 1), Unbounded)),
        ),
        (
            "timestamp:>=2026-11-24T10:00:00-03:00",
            field("timestamp", Test::Dates(Included(day("2026-11-24T13:00:00Z")), Unbounded)),
        ),
        (
            "timestamp:{\"2026-11-24T10:00:00Z\" TO now-1d/d}",
            field(
                "timestamp",
                Test::Dates(Excluded(day("2026-11-24T10:00:00Z") + 999), Excluded(day("2026-11-24"))),
            ),
        ),
        (
            "evento.keyword:[a TO b]",
            field("evento.keyword", Test::Texts(Included("a".into()), Included("b".into()))),
        ),
        ("valor:[* TO *]", field("valor", Test::Exists)),
        (
            "evento.keyword:a*??*",
            field(
                "evento.keyword",
                Test::Shape(vec![Part::Text("a".into()), Part::One, Part::One, Part::Many]),
            ),
        ),
    ] {
        assert_eq!(read(query), expected, "{query}");
    }
    let sessions = |query: &str| parse(query, of("chat_sessions"), now()).expect("a network");
    let Query::Field(_, Test::Addresses(Included(first), Included(last))) =
        sessions("ip_address:\"10.1.2.3/8\"")
    else {
        panic!("no range of addresses")
    };
    assert_eq!(
        [first, last].map(|address| address.to_ipv4_mapped().expect("IPv4").to_string()),
        ["10.0.0.0", "10.255.255.255"]
    );
}

#[test]
fn what_is_not_understood_is_refused_with_its_place_and_a_way_out() {
    for (query, at, problem, instead) in [
        ("origem:site", 1, "no field `origem`", "metadata.origem"),
        ("categria:vendas", 1, "no field `categria`", "categoria"),
        ("xyzzy:1", 1, "no field", "the fields are"),
        ("dados:x", 1, "can't be searched", "categoria"),
        ("evento:a AND valor:muito", 20, "`muito` does not fit `valor`", "valor:50.5"),
        ("metadata.total_messages:1.5", 25, "whole number", "50"),
        ("metadata.is_active:sim", 20, "true or false", "true"),
        ("timestamp:ontem", 11, "a date", "now-7d"),
        ("timestamp:2026-11-24T10:00", 24, "colon", "quotes"),
        ("evento:[a TO b]", 8, "no order", "evento.keyword"),
        ("valor:5*", 7, "only text has patterns", "TO *]"),
        ("valor:5~", 7, "only text", "TO *]"),
        ("usuario:*@exemplo.com", 9, "cut into words", "usuario.keyword"),
        ("evento:\"!!\"", 8, "no word", "evento.keyword"),
        ("/joa.*/", 1, "regular expressions", "pattern"),
        ("evento:a&&evento:b", 17, "colon", "quotes"),
        ("evento:a/b", 9, "slash", "quotes"),
        ("(evento:a", 1, "never closed", ")"),
        ("evento:a)", 9, "closes nothing", "\\)"),
        ("\"evento", 1, "never closed", "\""),
        ("valor:[1 TO 2", 7, "never closed", "]"),
        ("valor:[1 2]", 10, "TO is missing", "[a TO b]"),
        ("valor:[TO 2]", 8, "bound", "*"),
        ("[1 TO 2]", 1, "needs a field", "field:"),
        ("evento:a AND", 10, "nothing follows AND", "b"),
        ("OR evento:a", 1, "nothing stands before OR", "b"),
        ("evento:a AND OR evento:b", 10, "two operators", "one"),
        ("evento:a and evento:b", 10, "not an operator", "AND"),
        ("evento:a E evento:b", 10, "not an operator", "AND"),
        ("a OU b", 3, "not an operator", "OR"),
        ("evento:a e evento:b", 10, "not an operator", "AND"),
        ("evento:a e (evento:b OR evento:c)", 10, "not an operator", "AND"),
        ("não evento:a", 1, "not an operator", "NOT"),
        ("evento:", 1, "nothing follows `evento:`", "value"),
        ("", 1, "nothing to look for", "*"),
        ("evento:()", 9, "nothing to look for", "*"),
        ("evento:a^x", 9, "no weight", "^2"),
        ("evento:a~7", 8, "edits", "~2"),
        ("evento:a\\", 9, "backslash", "\\\\"),
        ("evento:a -", 10, "nothing follows", "\\"),
        ("evento:\"a b A\"~2", 8, "twice", "the ~"),
        ("evento:AND", 8, "AND is an operator", "\"AND\""),
        ("evento.keyword:(a && || b)", 19, "two operators", "one"),
        ("NOT NOT evento:a", 1, "two operators", "one"),
        ("+NOT evento:a", 1, "two operators", "one"),
        ("evento:a AND NOT -evento:b", 10, "two operators", "one"),
        ("evento:a^10000000", 9, "more than 1000000", "smaller"),
        ("((evento:a^100000)^100000)", 19, "more than 1000000", "smaller"),
        ("timestamp:now-9999y", 11, "a date", "now-7d"),
        ("timestamp:[-99999999999999999 TO *]", 11, "a date", "now-7d"),
        ("evento:*a???????", 8, "6 ?", "fewer"),
    ] {
        let error = refused(query);
        assert_eq!(error.at, at, "{query}: {error}");
        assert!(error.problem.contains(problem), "{query}: {error}");
        assert!(error.instead.contains(instead), "{query}: {error}");
    }
}

#[test]
fn a_query_too_deep_too_long_or_too_wide_is_refused() {
    assert!(refused(&"(".repeat(16)).problem.contains("brackets"));
    assert!(refused(&format!("evento:{}*", "a".repeat(200))).problem.contains("pattern is too long"));
    assert!(refused(&format!("evento:{}~", "a".repeat(201))).problem.contains("fuzzy"));
    assert!(refused(&format!("evento:\"a\"~{}", "9".repeat(5000))).to_string().len() < 200);
    let words: Vec<String> = (0..1001).map(|n| format!("a{n}")).collect();
    assert!(refused(&format!("evento:({})", words.join(" "))).problem.contains("comparisons"));
    assert!(refused(&"a".repeat(20_000)).problem.contains("longer"));
    assert!(refused(&"joao ".repeat(100)).problem.contains("comparisons"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_query_makes_the_parser_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("AND "), Just("OR "), Just("NOT "), Just("&&"), Just("||"), Just("+"), Just("-"), Just("!"),
                Just("("), Just(")"), Just("["), Just("]"), Just("{"), Just("}"), Just(" TO "), Just("\""), Just("~"),
                Just("^"), Just("*"), Just("?"), Just("\\"), Just("\\u00e9"), Just("/"), Just(":"), Just(" "),
                Just(">"), Just("<="), Just("valor:"), Just("timestamp:"), Just("evento:"), Just("now-1d/d"),
                Just("metadata.total_messages:"), Just("2026-11-24"), Just("||+1M"), Just("9999999999999999999"),
                Just("João"), Just("é"), Just("1.5"), Just("_exists_:"), Just("💥"), Just("\u{0}"), Just("now+2147483647y"),
            ],
            0..14,
        ),
        tail in any::<String>(),
    ) {
        let query = pieces.concat() + &tail;
        if let Err(error) = parse(&query, of("eventos"), now()) {
            prop_assert!(error.at >= 1 && error.at <= query.chars().count() + 1, "{error}");
            prop_assert!(!error.problem.is_empty() && !error.instead.is_empty());
        }
    }

    #[test]
    fn a_quoted_text_is_always_understood_where_it_holds_a_word(text in "[^\"\\\\]{0,30}") {
        let query = format!("usuario.keyword:\"{text}\"");
        prop_assert_eq!(read(&query), field("usuario.keyword", Test::Is(text)));
    }
}

#[test]
fn zero_is_zero_whatever_its_sign() {
    for (query, low, high) in [
        ("valor:0", Included(-0.0_f64), Included(0.0_f64)),
        ("valor:[-0 TO -0]", Included(-0.0), Included(0.0)),
        ("valor:{-0 TO 1}", Excluded(0.0), Excluded(1.0)),
        ("valor:{-1 TO 0}", Excluded(-1.0), Excluded(-0.0)),
    ] {
        let Query::Field(_, Test::Doubles(from, to)) = read(query) else { panic!("{query}") };
        // Zeros are equal: their signs are in their bits.
        let bits = |bound: Bound<f64>| bound.map(f64::to_bits);
        assert_eq!((bits(from), bits(to)), (bits(low), bits(high)), "{query}");
    }
}
