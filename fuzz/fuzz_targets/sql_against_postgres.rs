//! What the SQL check let pass, read by Postgres' own parser: the same tables, functions, types, names and texts, and
//! nothing else.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sluice::{
    domain::Catalog,
    fuzzing::{self, PassedSql},
    store::Readable,
};

fuzz_target!(|text: &str| {
    let Some(passed) = fuzzing::passed_sql(text, &Readable::of(Catalog::built_in())) else { return };
    // What Postgres can't read can't run.
    let Ok(parsed) = pg_query::parse(&passed.sql, pg_query::ParserOptions::default()) else { return };
    let tree = serde_json::to_value(&parsed.protobuf).expect("a tree");
    let statements = tree["stmts"].as_array().expect("statements");
    assert_eq!(statements.len(), 1, "{:?}", passed.sql);
    assert!(statements[0]["stmt"]["node"].get("SelectStmt").is_some(), "{:?}", passed.sql);
    let mut names = BTreeSet::new();
    collect_names(&tree, &mut names);
    let mut reading = Reading { passed: &passed, names, texts: Vec::new() };
    reading.walk(&statements[0], &[]);
    for text in &passed.texts {
        let found = reading.texts.iter().position(|other| other == text);
        let found = found.unwrap_or_else(|| panic!("{text:?} is another text to Postgres: {:?}", passed.sql));
        reading.texts.swap_remove(found);
    }
});

/// Functions that the grammar itself puts in, always with their schema.
const OF_GRAMMAR: [&str; 12] = [
    "btrim", "extract", "is_normalized", "like_escape", "ltrim", "overlaps", "overlay", "position", "rtrim",
    "similar_to_escape", "substring", "timezone",
];

/// Postgres' own names of types that have others in SQL, and what the grammar makes of `interval '1' day`.
const OTHER_TYPES: [&str; 1] = ["bit"];

/// Fields that hold statements' parts that nothing may have.
const EMPTY: [&str; 5] = ["into_clause", "locking_clause", "use_op", "search_clause", "cycle_clause"];

/// Nodes that may not appear.
const FORBIDDEN: [&str; 12] = [
    "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "ParamRef", "XmlExpr", "XmlSerialize", "RangeTableFunc",
    "RangeTableSample", "JsonTable", "CurrentOfExpr", "NextValueExpr",
];

struct Reading<'a> {
    passed: &'a PassedSql,
    /// Everything that the statement or a table gives a name.
    names: BTreeSet<String>,
    texts: Vec<String>,
}

impl Reading<'_> {
    fn fail(&self, what: &str) -> ! {
        panic!("{what}: {:?}", self.passed.sql)
    }

    fn walk(&mut self, value: &Value, scope: &[String]) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, scope)),
            Value::Object(fields) if fields.contains_key("with_clause") && fields.contains_key("target_list") => {
                self.query(fields, scope);
            }
            Value::Object(fields) => self.fields(fields, scope),
            _ => {}
        }
    }

    /// A query's names are in scope in it, and in its `WITH` from the next one on, or everywhere with RECURSIVE.
    fn query(&mut self, fields: &Map<String, Value>, scope: &[String]) {
        let mut scope = scope.to_vec();
        let with = &fields["with_clause"];
        let ctes: Vec<&Value> =
            with["ctes"].as_array().into_iter().flatten().map(|cte| &cte["node"]["CommonTableExpr"]).collect();
        let named = |cte: &Value| cte["ctename"].as_str().expect("a name").to_owned();
        let recursive = with["recursive"] == Value::Bool(true);
        if recursive {
            scope.extend(ctes.iter().map(|cte| named(cte)));
        }
        for cte in ctes {
            self.walk(cte, &scope);
            if !recursive {
                scope.push(named(cte));
            }
        }
        for (name, value) in fields {
            if name != "with_clause" {
                self.field(name, value, &scope);
            }
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, scope: &[String]) {
        for (name, value) in fields {
            self.field(name, value, scope);
        }
    }

    fn field(&mut self, name: &str, value: &Value, scope: &[String]) {
        if EMPTY.contains(&name) && !(value.is_null() || value.as_array().is_some_and(Vec::is_empty)) {
            self.fail(name);
        }
        if FORBIDDEN.contains(&name) {
            self.fail(name);
        }
        match name {
            "RangeVar" => self.table(value, scope),
            "FuncCall" => self.function(&strings(&value["funcname"])),
            "type_name" | "TypeName" if !value.is_null() => self.kind(&strings(&value["names"])),
            "ColumnRef" => self.column(&value["fields"]),
            "AIndirection" => {
                for name in strings(&value["indirection"]) {
                    self.attribute(&name, false);
                }
            }
            "AExpr" if strings(&value["name"]).len() > 1 => self.fail("an operator with a schema"),
            "SqlvalueFunction" if !(1..=9).contains(&value["op"].as_i64().expect("a number")) => {
                self.fail("a name that tells of the server")
            }
            "Sval" => self.texts.extend(value["sval"].as_str().map(str::to_owned)),
            _ => {}
        }
        self.walk(value, scope);
    }

    fn table(&self, table: &Value, scope: &[String]) {
        let part = |name: &str| table[name].as_str().unwrap_or_default();
        let fine = match (part("catalogname"), part("schemaname")) {
            ("", "") => scope.iter().any(|known| known == part("relname")),
            ("", schema) => {
                schema == fuzzing::SCHEMA && readable_columns(part("relname")).is_some()
            }
            _ => false,
        };
        if !fine {
            self.fail(&format!("the table {table}"));
        }
    }

    fn function(&self, name: &[String]) {
        let fine = match name {
            [function] => fuzzing::is_allowed_function(function),
            [schema, function] => {
                schema == "pg_catalog"
                    && (fuzzing::is_allowed_function(function) || OF_GRAMMAR.contains(&function.as_str()))
            }
            _ => false,
        };
        if !fine {
            self.fail(&format!("the function {name:?}"));
        }
    }

    fn kind(&self, name: &[String]) {
        let fine = match name {
            [kind] => fuzzing::is_allowed_type(kind),
            [schema, kind] => {
                schema == "pg_catalog"
                    && (fuzzing::is_allowed_type(kind) || OTHER_TYPES.contains(&kind.as_str()))
            }
            _ => false,
        };
        if !fine {
            self.fail(&format!("the type {name:?}"));
        }
    }

    fn column(&self, fields: &Value) {
        let parts = strings(fields);
        let starred = fields.as_array().is_some_and(|fields| fields.iter().any(|f| f["node"].get("AStar").is_some()));
        match (parts.as_slice(), starred) {
            ([_] | [], _) => {}
            ([schema, table], true) | ([schema, table, _], false) => {
                let columns = readable_columns(table).filter(|_| schema == fuzzing::SCHEMA);
                let Some(columns) = columns else { self.fail(&format!("the column {parts:?}")) };
                if let [_, _, name] = parts.as_slice()
                    && !columns.contains(name)
                {
                    self.attribute(name, false);
                }
            }
            ([_, name], false) => self.attribute(name, true),
            _ => self.fail(&format!("the column {parts:?}")),
        }
    }

    /// Anything behind a dot is allowed to be called, or is a column somebody named, or the server is asked.
    fn attribute(&self, name: &str, behind_a_source: bool) {
        let fine = fuzzing::is_allowed_function(name)
            || fuzzing::is_allowed_type(name)
            || self.passed.attributes.contains(name)
            || (behind_a_source && self.names.contains(name));
        if !fine {
            self.fail(&format!("the attribute {name}"));
        }
    }
}

fn readable_columns(table: &str) -> Option<Vec<String>> {
    Readable::of(Catalog::built_in()).columns(table).map(<[_]>::to_vec)
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item["node"]["String"]["sval"].as_str().map(str::to_owned)).collect()
}

/// Names of columns that the statement gives, and those of the tables.
fn collect_names(tree: &Value, names: &mut BTreeSet<String>) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "ResTarget" => names.extend(value["name"].as_str().map(str::to_owned)),
                    "colnames" | "aliascolnames" => names.extend(strings(value)),
                    "ColumnRef" => {
                        // Of `x.f` the output is called f, but that is not what makes f a column of x.
                        let parts = strings(&value["fields"]);
                        if parts.len() == 1 {
                            names.extend(parts);
                        }
                    }
                    "RangeVar" => names.extend(
                        value["relname"].as_str().and_then(readable_columns).into_iter().flatten(),
                    ),
                    _ => {}
                }
                collect_names(value, names);
            }
        }
        _ => {}
    }
}
