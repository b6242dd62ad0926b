//! What a question may be made of: the clauses, expressions, functions and types that Postgres has and that only read.
//!
//! Everything is allowed by name. What a new release of the parser adds is refused until somebody has thought about
//! it, and a new field of a clause does not compile.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, Cte, CteAsMaterialized, DataType, Distinct, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Ident, InTarget, Join, JoinConstraint, JoinOperator, LimitClause, NamedWindowExpr,
    ObjectName, OrderBy, OrderByExpr, OrderByKind, OrderBySort, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetQuantifier, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value, ValueWithSpan, Visitor, WildcardAdditionalOptions, With,
};

use super::{
    folded_names,
    functions::{is_allowed_function, is_allowed_type},
    refuse,
};

type Flow = ControlFlow<String>;

/// What Postgres keeps of a name.
const MAX_NAME_BYTES: usize = 63;

const FINE: Flow = ControlFlow::Continue(());

/// Walks a statement and breaks with what is wrong.
pub(super) struct Vocabulary;

impl Visitor for Vocabulary {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch: _,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if !locks.is_empty() {
            return refuse("FOR UPDATE and FOR SHARE lock rows");
        }
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty()
        {
            return foreign("a clause after the query");
        }
        for cte in with.iter().flat_map(|With { cte_tables, .. }| cte_tables) {
            let Cte { alias, query: _, from, materialized, closing_paren_token: _ } = cte;
            known_alias(alias)?;
            if *materialized == Some(CteAsMaterialized::NotMaterialized) {
                // PostgreSQL would write it out as often as it is read.
                return refuse("NOT MATERIALIZED can't be checked; leave it out");
            }
            if from.is_some() {
                return foreign("FROM after a query of WITH");
            }
        }
        if let Some(OrderBy { kind, interpolate }) = order_by
            && (matches!(kind, OrderByKind::All(_)) || interpolate.is_some())
        {
            return foreign("ORDER BY ALL or INTERPOLATE");
        }
        match limit_clause {
            None | Some(LimitClause::LimitOffset { .. }) => {}
            Some(LimitClause::OffsetCommaLimit { .. }) => return foreign("LIMIT with a comma"),
        }
        known_body(body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        if into.is_some() {
            return refuse("SELECT INTO makes a table");
        }
        let only_elsewhere = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || qualify.is_some()
            || value_table_mode.is_some()
            || *flavor != SelectFlavor::Standard;
        if only_elsewhere || matches!(distinct, Some(Distinct::All)) {
            return foreign("a clause of SELECT");
        }
        match group_by {
            GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => {}
            _ => return foreign("GROUP BY ALL or a modifier of GROUP BY"),
        }
        if named_window.iter().any(|window| matches!(window.1, NamedWindowExpr::NamedWindow(_))) {
            return foreign("a window without parentheses");
        }
        projection.iter().try_for_each(known_item)?;
        from.iter().try_for_each(known_joins)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality: _,
                partitions,
                json_path,
                sample,
                index_directives,
                inheritance: _,
            } => {
                alias.iter().try_for_each(known_alias)?;
                let only_elsewhere = !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_directives.is_empty();
                if only_elsewhere || sample.is_some() {
                    return refuse(
                        "a table in FROM has an option that can't be checked, such as TABLESAMPLE",
                    );
                }
                match args {
                    None => FINE,
                    Some(args) if args.settings.is_some() => foreign("SETTINGS"),
                    Some(args) => {
                        known_function(name)?;
                        args.args.iter().try_for_each(known_argument)
                    }
                }
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                alias.iter().try_for_each(known_alias)?;
                known_function(name)?;
                args.iter().try_for_each(known_argument)
            }
            TableFactor::Derived { lateral: _, subquery: _, alias, sample: None } => {
                alias.iter().try_for_each(known_alias)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs: _,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: _,
            } => alias.iter().try_for_each(known_alias),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                alias.iter().try_for_each(known_alias)?;
                known_joins(table_with_joins)
            }
            _ => refuse("FROM holds something else than tables, subqueries and functions"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::IsJson { .. }
            | Expr::IsNormalized { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { trim_characters: None, .. }
            | Expr::Overlay { .. }
            | Expr::Collate { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..)
            | Expr::In { target: InTarget::List(_) | InTarget::Subquery(_), global: false, .. } => FINE,
            Expr::CompoundFieldAccess { root: _, access_chain } => {
                let plain = |access: &AccessExpr| {
                    matches!(access, AccessExpr::Dot(Expr::Identifier(_)) | AccessExpr::Subscript(_))
                };
                if access_chain.iter().all(plain) { FINE } else { foreign("what stands behind a dot") }
            }
            Expr::UnaryOp { op, .. } => known_prefix(*op),
            Expr::BinaryOp { op, .. }
            | Expr::AnyOp { compare_op: op, .. }
            | Expr::AllOp { compare_op: op, .. } => known_operator(op),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, data_type, format: None, .. } => {
                known_type(data_type)
            }
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => known_type(&typed.data_type),
            Expr::Function(call) => known_call(call),
            _ => foreign(&expr.to_string()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Flow {
        match value.value {
            Value::Number(_, false)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => FINE,
            Value::Placeholder(_) => refuse("it has parameters; write the values into it"),
            _ => foreign(&value.to_string()),
        }
    }

    fn pre_visit_ident(&mut self, name: &Ident) -> Flow {
        if name.value.len() <= MAX_NAME_BYTES {
            return FINE;
        }
        // It would be cut, and then be another.
        refuse(format!("the name {name} is longer than {MAX_NAME_BYTES} bytes"))
    }

    fn pre_visit_order_by_expr(&mut self, order: &OrderByExpr) -> Flow {
        match (&order.options.sort, &order.with_fill) {
            (None | Some(OrderBySort::Asc | OrderBySort::Desc), None) => FINE,
            _ => refuse("ORDER BY takes ASC or DESC, and no operator"),
        }
    }
}

/// A query's body is made of SELECT and VALUES only.
fn known_body(body: &SetExpr) -> Flow {
    match body {
        SetExpr::Values(values) if values.explicit_row || values.value_keyword => foreign("VALUE or ROW"),
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => FINE,
        SetExpr::SetOperation {
            left,
            op: _,
            set_quantifier: SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None,
            right,
        } => {
            known_body(left)?;
            known_body(right)
        }
        SetExpr::SetOperation { .. } => foreign("BY NAME"),
        SetExpr::Table(_) => refuse("TABLE can't be checked; write SELECT * FROM"),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            refuse("it would change something")
        }
    }
}

fn known_item(item: &SelectItem) -> Flow {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => FINE,
        SelectItem::ExprWithAliases { .. } => foreign("several names for one expression"),
        SelectItem::Wildcard(options) => known_wildcard(options),
        SelectItem::QualifiedWildcard(kind, options) => match kind {
            SelectItemQualifiedWildcardKind::ObjectName(_) | SelectItemQualifiedWildcardKind::Expr(_) => {
                known_wildcard(options)
            }
        },
    }
}

fn known_wildcard(options: &WildcardAdditionalOptions) -> Flow {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let plain = opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none();
    if plain { FINE } else { foreign("what stands behind *") }
}

fn known_joins(table: &TableWithJoins) -> Flow {
    table.joins.iter().try_for_each(|Join { relation: _, global, join_operator }| match join_operator {
        _ if *global => foreign("GLOBAL"),
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => match constraint {
            // The alias would be one more name for some of the columns.
            JoinConstraint::UsingAlias(..) => refuse("USING with an alias can't be checked"),
            _ => FINE,
        },
        _ => foreign("a kind of join"),
    })
}

fn known_alias(alias: &TableAlias) -> Flow {
    if alias.at.is_some() {
        return foreign("AT behind an alias");
    }
    alias.columns.iter().filter_map(|column| column.data_type.as_ref()).try_for_each(known_type)
}

fn known_call(call: &Function) -> Flow {
    let Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        within_group: _,
        filter: _,
        null_treatment,
        over: _,
    } = call;
    known_function(name)?;
    if *uses_odbc_syntax || *parameters != FunctionArguments::None || null_treatment.is_some() {
        return foreign(&call.to_string());
    }
    let FunctionArguments::List(list) = args else { return FINE };
    if list.clauses.iter().any(|clause| !matches!(clause, FunctionArgumentClause::OrderBy(_))) {
        return foreign(&call.to_string());
    }
    list.args.iter().try_for_each(known_argument)
}

fn known_argument(argument: &FunctionArg) -> Flow {
    let (given, operator) = match argument {
        FunctionArg::Unnamed(given) => (given, None),
        FunctionArg::Named { arg, operator, .. } | FunctionArg::ExprNamed { arg, operator, .. } => {
            (arg, Some(operator))
        }
    };
    let by_name = match operator {
        None | Some(FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment) => true,
        Some(_) => false,
    };
    if by_name && !matches!(given, FunctionArgExpr::WildcardWithOptions(_)) {
        FINE
    } else {
        foreign(&argument.to_string())
    }
}

fn known_function(name: &ObjectName) -> Flow {
    let allowed = match folded_names(name).as_slice() {
        [function] => is_allowed_function(function),
        [schema, function] => schema == "pg_catalog" && is_allowed_function(function),
        _ => false,
    };
    if allowed {
        return FINE;
    }
    refuse(format!(
        "the function {name} is not among those that only compute; aggregates, window functions and those of text, \
         numbers, times and json are"
    ))
}

fn known_type(data_type: &DataType) -> Flow {
    let spelled = data_type.to_string();
    // Without lengths, precisions and brackets: VARCHAR(9)[] is varchar.
    let mut name = String::new();
    let mut depth = 0_u32;
    for character in spelled.chars() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => name.push(character.to_ascii_lowercase()),
            _ => {}
        }
    }
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if is_allowed_type(&name) {
        return FINE;
    }
    refuse(format!("nothing can be turned into {spelled} here"))
}

fn known_prefix(operator: UnaryOperator) -> Flow {
    match operator {
        UnaryOperator::Plus
        | UnaryOperator::Minus
        | UnaryOperator::Not
        | UnaryOperator::BitwiseNot
        | UnaryOperator::PGAbs
        | UnaryOperator::PGCubeRoot
        | UnaryOperator::PGSquareRoot => FINE,
        _ => foreign(&format!("the operator {operator}")),
    }
}

fn known_operator(operator: &BinaryOperator) -> Flow {
    match operator {
        BinaryOperator::Plus
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::Modulo
        | BinaryOperator::StringConcat
        | BinaryOperator::Gt
        | BinaryOperator::Lt
        | BinaryOperator::GtEq
        | BinaryOperator::LtEq
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::And
        | BinaryOperator::Or
        | BinaryOperator::BitwiseOr
        | BinaryOperator::BitwiseAnd
        | BinaryOperator::PGBitwiseXor
        | BinaryOperator::PGBitwiseShiftLeft
        | BinaryOperator::PGBitwiseShiftRight
        | BinaryOperator::PGExp
        | BinaryOperator::PGOverlap
        | BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch
        | BinaryOperator::PGLikeMatch
        | BinaryOperator::PGILikeMatch
        | BinaryOperator::PGNotLikeMatch
        | BinaryOperator::PGNotILikeMatch
        | BinaryOperator::PGStartsWith
        | BinaryOperator::Arrow
        | BinaryOperator::LongArrow
        | BinaryOperator::HashArrow
        | BinaryOperator::HashLongArrow
        | BinaryOperator::AtAt
        | BinaryOperator::AtArrow
        | BinaryOperator::ArrowAt
        | BinaryOperator::HashMinus
        | BinaryOperator::AtQuestion
        | BinaryOperator::Question
        | BinaryOperator::QuestionAnd
        | BinaryOperator::QuestionPipe
        | BinaryOperator::Overlaps => FINE,
        BinaryOperator::PGCustomBinaryOperator(_) => refuse("OPERATOR() names an operator of another schema"),
        _ => foreign(&format!("the operator {operator}")),
    }
}

/// What Postgres does not have, or nobody has thought about.
fn foreign(what: &str) -> Flow {
    refuse(format!("{what} is not understood; write it the plain way PostgreSQL has it"))
}
