//! Masks e-mail addresses, phone numbers and IP addresses: by the names of fields wherever a name stands beside a
//! value, and by their shape in every other text.
//!
//! It keeps an assistant from seeing contacts by accident; it is no access control: whoever may write SQL may also ask
//! for the letters of an address one by one. What only looks similar (ids, instants, offsets, numbers) stays as it is.

mod fields;
mod fold;
mod lineage;
mod phone;
mod text;
mod tree;

use std::collections::BTreeMap;

use serde_json::Value;

use self::{fields::FIELDS, lineage::Dialect, tree::Tree};
use crate::{
    domain::{Catalog, ColumnKind},
    store::{QueryAnswer, tables},
};

/// What stands for a masked value as a whole.
const MASK: &str = "***";

/// When the value of a field is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mcp) enum Rule {
    /// Where it looks like an e-mail address, a phone number or an IP address.
    IfPersonal,
    /// Whatever text it is; beside other values its looks tell it apart. Numbers by the name of a contact may count
    /// something.
    Always,
    /// Whatever text it is: a definition says that it is personal, and its looks tell nothing.
    Declared,
    /// Whatever it is: a definition says that it is personal.
    Hidden,
}

impl Rule {
    fn applies_to(self, value: &str) -> bool {
        self >= Self::Always || text::is_personal(value)
    }
}

/// Which fields are masked.
#[derive(Debug)]
pub(crate) struct Masking {
    fields: BTreeMap<String, Rule>,
}

impl Default for Masking {
    fn default() -> Self {
        Self::new(FIELDS.iter().map(|(name, rule)| ((*name).to_owned(), *rule)))
    }
}

impl Masking {
    /// Masks the fields of these names, which are in small letters, and others named after them: `email` is also
    /// `lead.email`, `contatoEmail` and `email_2`.
    pub(in crate::mcp) fn new(fields: impl IntoIterator<Item = (String, Rule)>) -> Self {
        Self { fields: fields.into_iter().collect() }
    }

    /// Masks what contacts are commonly named, and what a table's definition says is personal: the column by its name
    /// here and in the project, and what of an event is made of it.
    pub(crate) fn of(catalog: Catalog) -> Self {
        let mut masking = Self::default();
        for table in catalog.tables() {
            let definition = table.definition();
            for column in definition.columns.iter().filter(|column| column.masked) {
                let is_text = matches!(column.kind, ColumnKind::Text | ColumnKind::List);
                let is_contact = masking.rule(&column.name).is_some();
                let is_known_by_looks = masking.rule(&column.name) == Some(Rule::Always);
                let rule = match (is_text, is_known_by_looks) {
                    (true, true) => Rule::Always,
                    (true, false) => Rule::Declared,
                    (false, _) => Rule::Hidden,
                };
                let repeated = definition.event.metadata.iter().filter(|(_, of)| **of == column.name);
                let names = std::iter::once(&column.name).chain(&column.from).chain(&column.formerly);
                for name in names.chain(repeated.map(|(name, _)| name)) {
                    masking.add(name, rule);
                }
                if definition.event.valor.as_ref() == Some(&column.name) {
                    masking.add("valor", rule);
                }
                // A contact is known by its looks, and the name that stands for a missing one may be seen.
                if !is_contact && definition.event.usuario.contains(&column.name) {
                    masking.add("usuario", rule);
                }
            }
        }
        masking
    }

    /// A field of this name is masked so, or as another table's of that name is where that hides more.
    fn add(&mut self, name: &str, rule: Rule) {
        let known = self.fields.entry(name.to_lowercase()).or_insert(rule);
        *known = rule.max(*known);
    }

    /// What hides whichever of the fields it is.
    fn strictest(&self) -> Rule {
        self.fields.values().copied().max().unwrap_or(Rule::Always).max(Rule::Always)
    }

    /// Masks the value of a field in place.
    pub(crate) fn field(&self, name: &str, value: &mut Value) {
        self.by_rule(value, self.rule(name));
    }

    /// Masks a value in place, at any depth.
    pub(crate) fn value(&self, value: &mut Value) {
        self.by_rule(value, None);
    }

    /// Masks what a statement answered: a masked field is masked by whatever name the statement gave it.
    pub(crate) fn answer(&self, catalog: Catalog, store: &str, sql: &str, answer: &mut QueryAnswer) {
        let dialect = if store == "postgres" { Dialect::Postgres } else { Dialect::Sqlite };
        let tables = tables::tables(catalog);
        let columns: Vec<String> = answer.columns.iter().map(|column| column.name.clone()).collect();
        self.rows(sql, dialect, &tables, &columns, &mut answer.rows);
    }

    /// The text with what is personal in it masked; `None` when nothing is. What a text of JSON says otherwise, to its
    /// last digit and space, stays.
    pub(in crate::mcp) fn text(&self, given: &str) -> Option<String> {
        match Tree::read(given) {
            Some(tree) => self.json(given, &tree),
            None => self.sentence(given),
        }
    }
}

/// What stands for a value: enough is left of an address or a number to tell two of them apart.
fn masked(given: &str) -> String {
    if is_masked(given) {
        return given.to_owned();
    }
    let given = given.trim();
    if given.contains('@') {
        return match given.chars().next().filter(|c| c.is_alphanumeric()) {
            Some(first) => format!("{first}{MASK}@{MASK}"),
            None => MASK.to_owned(),
        };
    }
    let digits: Vec<char> = given.chars().filter(char::is_ascii_digit).collect();
    match digits.as_slice() {
        [.., a, b]
            if digits.len() >= phone::MIN_DIGITS && phone::looks_like(given) && text::ip(given).is_none() =>
        {
            format!("{MASK}{a}{b}")
        }
        _ => MASK.to_owned(),
    }
}

/// What was masked before stays as it is: a value may pass here twice.
fn is_masked(given: &str) -> bool {
    match given.split_once(MASK) {
        Some(("", rest)) => {
            rest.is_empty() || (rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit()))
        }
        Some((first, rest)) => first.chars().count() == 1 && rest == "@***",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(given: &str) -> String {
        Masking::default().text(given).unwrap_or_else(|| given.to_owned())
    }

    fn value(given: &mut Value) {
        Masking::default().value(given);
    }

    #[test]
    fn members_are_masked_by_their_names() {
        let mut given = json!({
            "email": "maria@exemplo.com.br", "lead": {"telefone": 11_987_654_321_u64, "contato_email": "sem arroba"},
            "ip_address": "fe80::1", "by_email": 12, "phones": 3, "telefone_total": 31_235_678, "fone": 31_235_678, "emails": ["a@b.co"], "nome": "Maria",
        });
        value(&mut given);
        assert_eq!(
            given,
            json!({
                "email": "m***@***", "lead": {"telefone": "***21", "contato_email": "***"},
                "ip_address": "***", "by_email": 12, "phones": 3, "telefone_total": 31_235_678, "fone": "***78", "emails": ["a***@***"], "nome": "Maria",
            })
        );
    }

    #[test]
    fn cells_are_masked_by_their_columns() {
        let mut given =
            json!({"columns": ["id", {"name": "telefone"}], "rows": [[1, "32211234"], [2, null]]});
        value(&mut given);
        assert_eq!(given["rows"], json!([[1, "***34"], [2, null]]));
    }

    #[test]
    fn brazilian_phones_are_found_in_free_text() {
        for phone in [
            "+55 11 912345678",
            "+55 (11) 91234-5678",
            "+5511912345678",
            "(11) 91234-5678",
            "(11)3123-5678",
            "(011) 3123 5678",
            "11 91234-5678",
            "11 91234 5678",
            "11 912345678",
            "91234-5678",
            "55 11 91234-5678",
            "11912345678",
            "5511912345678",
        ] {
            assert_eq!(of(phone), "***78", "{phone}");
            assert_eq!(of(&format!("ligar para {phone}, hoje")), "ligar para ***78, hoje", "{phone}");
        }
        assert_eq!(of("telefone=3123 5678"), "telefone=***78");
    }

    #[test]
    fn phones_of_other_countries_are_found_in_free_text() {
        for phone in [
            "+44 20 7946 0958",
            "+44 (0)20 7946 0958",
            "+1 (415) 555-2671",
            "+14155552671",
            "+351 912 345 678",
            "+49 1512 3456789",
            "+33 1 42 68 53 00",
            "+81-3-1234-5678",
            "(415) 555-2671",
            "1-415-555-2671",
            "415.555.2671",
            "020 7946 0958",
            "07911 123456",
            "0044 20 7946 0958",
            "00 55 11 91234-5678",
            "+55 11 9 1234 5678",
            "55 (11) 9 1234-5678",
            "0 11 3123-5678",
            "01511 91234-5678",
            "11\u{a0}91234\u{2011}5678",
            "11.91234.5678",
        ] {
            let end = &phone[phone.len() - 2..];
            assert_eq!(
                of(&format!("ligar para {phone}, hoje 2 vezes")),
                format!("ligar para ***{end}, hoje 2 vezes"),
                "{phone}"
            );
        }
    }

    #[test]
    fn addresses_of_the_sixth_version_are_masked_in_sentences() {
        for (text, told) in [
            ("visitante de 2804:14c:5bb1:8f5e::1003 ontem", "visitante de *** ontem"),
            ("2001:db8:85a3:0:0:8a2e:370:7334.", "***."),
            ("ip=2001:db8::7;", "ip=***;"),
            ("de [2001:db8::7], ok", "de [***], ok"),
            ("::ffff:203.0.113.9 veio", "*** veio"),
        ] {
            assert_eq!(of(text), told, "{text}");
        }
        for kept in [
            "http://[2001:db8::7]:9092/",
            "às 10:20:30",
            "std::net::Ipv6Addr",
            "a::b",
            "aa:bb:cc:dd:ee:ff",
            "fe80::1 e fd00::1 e ::1",
            "1:2:3",
        ] {
            assert_eq!(of(kept), kept);
        }
    }

    #[test]
    fn counts_and_pairs_are_masked_by_the_field_they_are_of() {
        let mut given = json!({"counts": [
            {"field": "telefone", "others": 0, "values": [{"value": "3123-5678", "count": 2}]},
            {"field": "usuario.keyword", "values": [{"value": "ana@localhost", "count": 1}, {"value": "Ana", "count": 1}]},
            {"field": "origem", "values": [{"value": "site", "count": 9}]},
        ], "campos": [{"name": "contato_email", "value": "sem arroba"}, {"name": "cor", "value": "azul"}]});
        value(&mut given);
        let masked = json!({"counts": [
            {"field": "telefone", "others": 0, "values": [{"value": "***78", "count": 2}]},
            {"field": "usuario.keyword", "values": [{"value": "a***@***", "count": 1}, {"value": "Ana", "count": 1}]},
            {"field": "origem", "values": [{"value": "site", "count": 9}]},
        ], "campos": [{"name": "contato_email", "value": "***"}, {"name": "cor", "value": "azul"}]});
        assert_eq!(given, masked);
        let before = given.clone();
        value(&mut given);
        assert_eq!(given, before, "masking twice is masking once");
    }

    #[test]
    fn a_column_s_conditions_and_values_are_masked_and_its_counts_are_not() {
        let mut given = json!({
            "conditions": [{"column": "telefone", "compare": "eq", "value": "3123-5678"}],
            "misfits": [{"column": "telefone", "expected": "text", "values": 31_235_678}],
            "breakdowns": [{"column": "telefone", "values": [{"name": "3123-5678", "count": 31_235_678}]}],
        });
        value(&mut given);
        let masked = json!({
            "conditions": [{"column": "telefone", "compare": "eq", "value": "***78"}],
            "misfits": [{"column": "telefone", "expected": "text", "values": 31_235_678}],
            "breakdowns": [{"column": "telefone", "values": [{"name": "***78", "count": 31_235_678}]}],
        });
        assert_eq!(given, masked);
    }

    #[test]
    fn fields_named_after_others_are_masked_where_they_hold_what_those_do() {
        let mut given = json!({
            "usuario": "joão da silva@interno", "contatoEmail": "sem arroba", "email_2": "nenhum", "telefone_fixo": "3123-5678",
            "telefone_tipo": "celular", "email_enviado_em": "2026-11-24 10:00", "ipAddress": "198.51.100.7",
            "telefone": {"numero": "312-5678", "ddd": ["11"]}, "whatsapp": null, "tem_email": true,
        });
        value(&mut given);
        let masked = json!({
            "usuario": "j***@***", "contatoEmail": "***", "email_2": "***", "telefone_fixo": "***78",
            "telefone_tipo": "celular", "email_enviado_em": "2026-11-24 10:00", "ipAddress": "***",
            "telefone": {"numero": "***", "ddd": ["***"]}, "whatsapp": null, "tem_email": true,
        });
        assert_eq!(given, masked);
    }

    #[test]
    fn names_of_members_are_masked_as_values_are_and_none_is_lost() {
        let mut given =
            json!({"por_pessoa": {"ana@x.com": 1, "aldo@y.com": 2, "11 91234-5678": 3, "outros": 4}});
        value(&mut given);
        assert_eq!(given["por_pessoa"], json!({"a***@***": 2, "a***@*** (2)": 1, "***78": 3, "outros": 4}));
    }

    #[test]
    fn the_fields_are_those_that_it_is_given() {
        let masking = Masking::new([("cpf".to_owned(), Rule::Always)]);
        let mut given =
            json!({"cpf": "123.456.789-09", "email": "sem arroba", "texto": "cpf: \"123\" de ana@x.com"});
        masking.value(&mut given);
        assert_eq!(
            given,
            json!({"cpf": "***09", "email": "sem arroba", "texto": "cpf: \"***\" de a***@***"})
        );
    }

    #[test]
    fn columns_that_a_definition_calls_personal_are_masked_by_every_name_they_have() {
        let toml = r#"
            name = "fichas"
            about = "records"
            entity = "ficha"
            [key]
            column = "id"
            type = "bigint"
            [event]
            categoria = "fichas"
            evento = "ficha"
            usuario = ["apelido"]
            valor = "salario"
            [event.metadata]
            alcunha = "apelido"
            [[columns]]
            name = "apelido"
            from = "nickname"
            formerly = ["tratamento"]
            type = "text"
            masked = true
            [[columns]]
            name = "salario"
            type = "number"
            masked = true
            [[columns]]
            name = "cor"
            type = "text"
        "#;
        let definition = crate::domain::Definition::parse(toml).expect("a definition");
        let masking = Masking::of(Catalog::of(vec![definition], chrono_tz::Tz::UTC));
        let mut given = json!({
            "row": {"apelido": "Zeca", "salario": 5000, "cor": "azul"}, "dados": {"nickname": "Zeca"},
            "metadata": {"alcunha": "Zeca"}, "usuario": "Zeca", "email": "sem arroba", "tratamento": "Zeca",
            "valor": 5000.0, "soma_valor": 5000.0,
        });
        masking.value(&mut given);
        let masked = json!({
            "row": {"apelido": "***", "salario": "***", "cor": "azul"}, "dados": {"nickname": "***"},
            "metadata": {"alcunha": "***"}, "usuario": "***", "email": "***", "tratamento": "***",
            "valor": "***", "soma_valor": "***",
        });
        assert_eq!(given, masked);
        let mut rows = [vec![json!(5000), json!("Zeca")]];
        let sql = "SELECT salario AS s, upper(apelido) AS a FROM fichas";
        masking.rows(sql, Dialect::Sqlite, &[], &["s".to_owned(), "a".to_owned()], &mut rows);
        assert_eq!(rows[0], [json!("***"), json!("***")]);
        let either = "SELECT coalesce(apelido, cor) AS a FROM fichas";
        let mut rows = [vec![json!("Zeca")]];
        masking.rows(either, Dialect::Sqlite, &[], &["a".to_owned()], &mut rows);
        assert_eq!(rows[0], [json!("***")], "its looks tell nothing");
        let built_in = Masking::of(Catalog::built_in());
        assert_eq!(built_in.rule("usuario"), Some(Rule::IfPersonal), "a lead's name may be seen");
    }

    #[test]
    fn a_field_is_known_behind_its_object_and_with_what_an_index_adds() {
        let declared = ["data de nascimento", "endereco", "data_nascimento"];
        let masking = Masking::new(declared.map(|name| (name.to_owned(), Rule::Declared)));
        for name in [
            "Data de Nascimento",
            "dados.Data de Nascimento",
            "metadata.data_nascimento",
            "data_nascimento.keyword",
            "metadata.endereco.keyword",
            "cliente_endereco",
        ] {
            assert_eq!(masking.rule(name), Some(Rule::Declared), "{name}");
        }
        assert_eq!(masking.rule("data de cadastro"), None);
    }

    #[test]
    fn payloads_are_masked_inside_even_where_they_are_cut_off() {
        assert_eq!(of(r#"{"telefone":"31235678","n":1}"#), r#"{"telefone":"***78","n":1}"#);
        assert_eq!(of(r#"{"telefone":"31235678","n":"#), r#"{"telefone":"***78","n":"#);
        assert_eq!(of(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(of(r#"row {"email":"ana em casa","n":"#), r#"row {"email":"***","n":"#);
        assert_eq!(of(r#"{\"email\":\"ana@loca"#), r#"{\"email\":\"a***@***"#);
        assert_eq!(of("Key (telefone)=(3123-5678) already exists"), "Key (telefone)=(***78) already exists");
    }

    #[test]
    fn visitors_addresses_are_masked_and_servers_are_not() {
        assert_eq!(of("from 203.0.113.9"), "from ***");
        assert_eq!(of("2001:db8::7"), "***");
        for kept in ["127.0.0.1:9092", "10.0.0.7", "203.0.113.9:9092", "version 1.2.3.4.5", "::1"] {
            assert_eq!(of(kept), kept);
        }
    }

    #[test]
    fn what_only_looks_alike_is_kept() {
        for kept in [
            "12345678-1234-1234-1234-123456789012",
            "00-11111111111191234567899999999999-1191234567890123-01",
            "offset 1191234567, 1795551234567 ms, versao 1795551234567890",
            "2026-07-28 11:12:13.123456-03:00",
            "localhost:8765",
            "rows 1000-2000 of 40000",
            "01310-100",
            "@decorator",
            "CPF 123.456.789-09, CNPJ 12.345.678/0001-90",
            "de 01/02/2026 10:20 a 05-02-2026",
            "meses 01 02 03 04 05, 2024-2026",
            "lat -23.55052012, lng 46.63330812",
            "R$ 350.000,00 a 3000-5000",
            "email: a combinar, tel: depois",
        ] {
            assert_eq!(of(kept), kept);
        }
    }

    /// What a mail server would take, and a little more.
    fn email() -> impl Strategy<Value = String> {
        "[A-Za-z0-9éãç_%+-]{1,12}(\\.[a-z0-9]{1,5}){0,2}@[a-z0-9ç-]{1,12}(\\.[a-z]{2,6}){1,3}"
    }

    proptest! {
        #[test]
        fn no_email_survives(before in "[ -~]{0,20}", email in email(), after in "[ -~]{0,20}") {
            let masked = of(&format!("{before} {email} {after}"));
            prop_assert!(!masked.contains(&email), "{}", masked);
            let mut nested = json!({"a": [{"texto": format!("{before}<{email}>{after}")}]});
            value(&mut nested);
            prop_assert!(!nested.to_string().contains(&email), "{}", nested);
        }

        #[test]
        fn ids_instants_and_numbers_are_untouched(id in any::<u128>(), seconds in 1_000_000_000i64..4_000_000_000, micros in 0u32..1_000_000, count in 0u64..1_000_000_000) {
            let id = uuid::Uuid::from_u128(id).to_string();
            let at = chrono::DateTime::from_timestamp(seconds, micros * 1000).expect("an instant");
            for kept in [id.clone(), at.to_rfc3339(), at.to_string(), format!("{id} at {} of {count}", at.format("%Y-%m-%dT%H:%M:%S%.6fZ")), at.timestamp_micros().to_string()] {
                prop_assert_eq!(of(&kept), kept);
            }
            let mut numbers = json!({"offset": count, "versao": at.timestamp_micros(), "id": id, "score": 11_987_654_321_u64});
            let before = numbers.clone();
            value(&mut numbers);
            prop_assert_eq!(numbers, before);
        }

        #[test]
        fn masking_twice_is_masking_once(given in any::<String>()) {
            let once = of(&given);
            prop_assert_eq!(of(&once), once);
        }
    }
}
