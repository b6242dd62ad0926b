//! Expressions taken apart and put together.

use sqlparser::{
    ast::{
        BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, InTarget, Interval,
        ObjectName, TrimWhereField, Value,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use crate::sql_walk::change_expressions;

/// A text literal's content.
pub(super) fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

pub(super) fn quoted(text: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.into()).into())
}

/// An expression of SQLite's with `_0`, `_1`, … replaced.
pub(super) fn template(sql: &str, parts: &[&Expr]) -> Expr {
    let parsed =
        Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr());
    let Ok(mut made) = parsed else { return quoted(sql) };
    change_expressions(&mut made, |expr| {
        if let Expr::Identifier(name) = expr
            && let Some(part) = name.value.strip_prefix('_').and_then(|n| n.parse::<usize>().ok())
            && let Some(part) = parts.get(part)
        {
            *expr = (*part).clone();
        }
    });
    made
}

/// The library writes a call of `trim` with two arguments as no database reads it.
pub(super) fn trimmed(of: &Expr, what: Option<&Expr>, side: Option<&TrimWhereField>) -> Expr {
    let (left, right) = match side {
        Some(TrimWhereField::Leading) => (true, false),
        Some(TrimWhereField::Trailing) => (false, true),
        _ => (true, true),
    };
    let mut made = of.clone();
    for name in
        [(left, "ltrim"), (right, "rtrim")].into_iter().filter_map(|(wanted, name)| wanted.then_some(name))
    {
        made = match what {
            Some(what) => template(&format!("{name}(_0, _1)"), &[&made, what]),
            None => template(&format!("{name}(_0)"), &[&made]),
        };
    }
    made
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

pub(super) fn function_name(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase()).unwrap_or_default()
}

/// The arguments of a call that has nothing but arguments.
pub(super) fn plain_arguments(arguments: &FunctionArguments) -> Vec<&Expr> {
    let FunctionArguments::List(list) = arguments else { return Vec::new() };
    list.args
        .iter()
        .filter_map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

/// As PostgreSQL names a column that was given no name.
pub(super) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.clone()).unwrap_or_default(),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => column_name(expr),
        Expr::Function(call) => function_name(&call.name),
        Expr::Extract { .. } => "extract".to_owned(),
        other => other.to_string(),
    }
}

/// `now() - '7 days'::interval`: a text beside an interval is a time.
pub(super) fn timed(expr: &Expr) -> Expr {
    if literal(expr).is_some() { template("pg_timestamptz(_0)", &[expr]) } else { expr.clone() }
}

pub(super) fn nested(expr: &Expr) -> Expr {
    Expr::Nested(Box::new(expr.clone()))
}

pub(super) fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

/// An interval's text: `'7 days'`, and `'7' DAY` as `'7' || ' day'`.
pub(super) fn interval_text(interval: &Interval) -> Expr {
    match &interval.leading_field {
        None => (*interval.value).clone(),
        Some(field) => {
            let unit = quoted(format!(" {}", field.to_string().to_lowercase()));
            template("(_0 || _1)", &[&nested(&interval.value), &unit])
        }
    }
}

/// `x = ANY(list)`, or `x <> ALL(list)`, of a list in a column or a written one.
pub(super) fn any_of(left: &Expr, right: &Expr, negated: bool) -> Expr {
    let not = if negated { "NOT " } else { "" };
    match unnested(right) {
        Expr::Array(array) => Expr::In {
            expr: Box::new(left.clone()),
            target: InTarget::List(array.elem.clone()),
            negated,
            global: false,
        },
        // A list that is NULL has no rows, and nothing would be among them.
        list => template(
            &format!(
                "CASE WHEN _1 IS NULL THEN NULL ELSE ({not}_0 IN (SELECT value FROM json_each(_1))) END"
            ),
            &[left, &nested(list)],
        ),
    }
}

/// `json ->> key` as the text that PostgreSQL makes of it; SQLite makes numbers of numbers and 1 of `true`.
pub(super) fn json_text(json: &Expr, key: &Expr) -> Expr {
    let (mut json, mut key) = (json.clone(), key.clone());
    bind(&mut json);
    bind(&mut key);
    template("pg_json_text(_0 -> _1)", &[&json, &key])
}

/// Keeps together what PostgreSQL reads first: SQLite's `||`, `->` and `->>` bind more closely than what reckons.
pub(super) fn bind(side: &mut Expr) {
    if let Expr::BinaryOp { op, .. } = side
        && !matches!(op, BinaryOperator::StringConcat | BinaryOperator::Arrow | BinaryOperator::LongArrow)
    {
        *side = nested(side);
    }
}

/// `{a,0,b}` as `$."a"[0]."b"`, and `{}`, which is all of it, as `$`.
pub(super) fn json_path(text: &str) -> Option<String> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() {
        return Some("$".to_owned());
    }
    let step = |step: &str| {
        let step = step.trim().trim_matches('"');
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("[{step}]")
        } else {
            format!(".\"{step}\"")
        }
    };
    Some(std::iter::once("$".to_owned()).chain(inner.split(',').map(step)).collect())
}
