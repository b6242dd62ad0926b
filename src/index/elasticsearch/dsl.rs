//! A question in the servers' query language.
//!
//! The text is not sent on as a `query_string`: what was understood here is what is asked there, so that nothing the
//! servers would read differently, or silently find nothing for, gets through.

use std::ops::Bound;

use serde_json::{Value, json};

use crate::index::{
    Field,
    query::{Part, Query, Test},
    words::composed,
};

pub(crate) fn query(asked: &Query) -> Value {
    match asked {
        Query::All => json!({ "match_all": {} }),
        Query::Field(field, test) => tested(field, test),
        Query::Any(choices) => {
            json!({ "dis_max": { "queries": choices.iter().map(query).collect::<Vec<_>>() } })
        }
        Query::Bool(clauses) => {
            let all = |queries: &[Query]| queries.iter().map(query).collect::<Vec<_>>();
            json!({ "bool": {
                "must": all(&clauses.must),
                "should": all(&clauses.should),
                "must_not": all(&clauses.must_not),
            }})
        }
        Query::Boosted(inner, boost) => {
            let mut asked = query(inner);
            // The servers count how deep queries are nested: a group takes its weight itself.
            for group in ["bool", "dis_max"] {
                if let Some(group) = asked.get_mut(group) {
                    group["boost"] = json!(boost);
                    return asked;
                }
            }
            json!({ "bool": { "must": [asked], "boost": boost } })
        }
    }
}

fn tested(field: &Field, test: &Test) -> Value {
    let path = field.path.as_str();
    match test {
        Test::Exists => json!({ "exists": { "field": path } }),
        Test::Phrase(words, slop) => {
            let phrase = |text: &str| json!({ "match_phrase": { path: { "query": text, "slop": slop } } });
            let composed = composed(&words.text);
            if composed == words.text {
                phrase(&composed)
            } else {
                // A server folds no accent that is a sign of its own, in documents as here.
                json!({ "dis_max": { "queries": [phrase(&words.text), phrase(&composed)] } })
            }
        }
        Test::Is(value) => json!({ "term": { path: { "value": value } } }),
        Test::Shape(parts) => json!({ "wildcard": { path: { "value": pattern(parts) } } }),
        Test::Like(word, edits) => {
            // Rewritten otherwise, only the 50 closest terms would count, and each as a clause, of which there may be 1024.
            let fuzzy = json!({ "value": word, "fuzziness": edits, "rewrite": "constant_score" });
            json!({ "fuzzy": { path: fuzzy } })
        }
        Test::Boolean(value) => json!({ "term": { path: { "value": value } } }),
        Test::Texts(low, high) => range(path, low, high, |text| json!(text)),
        Test::Longs(low, high) => range(path, low, high, |long| json!(long)),
        Test::Doubles(low, high) => range(path, low, high, |double| json!(double)),
        Test::Addresses(low, high) => range(path, low, high, |address| json!(address)),
        Test::Dates(low, high) => {
            let mut asked = range(path, low, high, |millis| json!(millis));
            asked["range"][path]["format"] = json!("epoch_millis");
            asked
        }
    }
}

fn range<T>(path: &str, low: &Bound<T>, high: &Bound<T>, value: impl Fn(&T) -> Value) -> Value {
    let mut bounds = json!({});
    match low {
        Bound::Included(low) => bounds["gte"] = value(low),
        Bound::Excluded(low) => bounds["gt"] = value(low),
        Bound::Unbounded => {}
    }
    match high {
        Bound::Included(high) => bounds["lte"] = value(high),
        Bound::Excluded(high) => bounds["lt"] = value(high),
        Bound::Unbounded => {}
    }
    json!({ "range": { path: bounds } })
}

fn pattern(parts: &[Part]) -> String {
    let mut pattern = String::new();
    for part in parts {
        match part {
            Part::One => pattern.push('?'),
            Part::Many => pattern.push('*'),
            Part::Text(text) => {
                for c in text.chars() {
                    if matches!(c, '*' | '?' | '\\') {
                        pattern.push('\\');
                    }
                    pattern.push(c);
                }
            }
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{
        fields::tests::of,
        query::{Clauses, Words},
    };

    /// A pattern as a server reads it.
    fn read(pattern: &str) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let c = match c {
                '?' => {
                    parts.push(Part::One);
                    continue;
                }
                '*' => {
                    parts.push(Part::Many);
                    continue;
                }
                '\\' => chars.next().expect("a sign behind the backslash"),
                c => c,
            };
            match parts.last_mut() {
                Some(Part::Text(text)) => text.push(c),
                _ => parts.push(Part::Text(c.to_string())),
            }
        }
        parts
    }

    #[test]
    fn a_text_whose_accents_are_signs_of_their_own_is_looked_for_as_it_is_and_composed() {
        let asked = |text: &str| {
            let words = Words { text: text.to_owned(), words: vec!["joao".to_owned()] };
            tested(of("leads").get("nome").expect("a field"), &Test::Phrase(words, 0))
        };
        let phrase = |text| json!({ "match_phrase": { "nome": { "query": text, "slop": 0 } } });
        assert_eq!(asked("João"), phrase("João"));
        let both = [phrase("Joa\u{303}o"), phrase("João")];
        assert_eq!(asked("Joa\u{303}o"), json!({ "dis_max": { "queries": both } }));
    }

    #[test]
    fn a_group_takes_its_weight_itself_and_is_not_nested_for_it() {
        let evento = of("eventos").get("evento").expect("a field");
        let one = Query::Field(evento, Test::Exists);
        let group = Query::Bool(Clauses { must: vec![one.clone()], ..Clauses::default() });
        let asked = query(&Query::Boosted(Box::new(group), 2.0));
        assert_eq!(asked["bool"]["boost"], 2.0);
        assert!(asked["bool"]["must"][0].get("exists").is_some(), "{asked}");
        let any = query(&Query::Boosted(Box::new(Query::Any(vec![one.clone()])), 3.0));
        assert_eq!(any["dis_max"]["boost"], 3.0);
        assert_eq!(query(&Query::Boosted(Box::new(one), 0.5))["bool"]["boost"], 0.5);
    }

    proptest! {
        #[test]
        fn a_pattern_is_read_as_it_was_meant(text in r"[a*?\\]{0,8}", more in any::<String>()) {
            let parts = [Part::Text(format!("{text}{more}x")), Part::Many, Part::Text(format!("x{text}")), Part::One];
            prop_assert_eq!(read(&pattern(&parts)), parts);
        }
    }
}
