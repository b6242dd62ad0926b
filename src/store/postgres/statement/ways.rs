//! What to write for forms of PostgreSQL's that can't be read here, or not be checked.

/// What tells a form, as words in their order, and what says the same.
const WAYS: [(&[&str], &str); 13] = [
    (&["between", "symmetric"], "x BETWEEN least(a, b) AND greatest(a, b)"),
    (&["exclude"], "the frame without EXCLUDE, and take the row's own value off the result"),
    (&["search"], "a column in the recursive query that holds the path, and ORDER BY it"),
    (&["cycle"], "a column path with ARRAY[id], then path || id, and WHERE id <> ALL(path)"),
    (&["not", "like", "all"], "x NOT LIKE 'a%' AND x NOT LIKE 'b%'"),
    (&["like", "all"], "x LIKE 'a%' AND x LIKE '%b'"),
    (&["not", "like", "any"], "x NOT LIKE 'a%' OR x NOT LIKE 'b%'"),
    (&["like", "any"], "x LIKE ANY (ARRAY['a%', 'b%']), with the parentheses, or x LIKE 'a%' OR x LIKE 'b%'"),
    (&["select", "all"], "SELECT without ALL"),
    (&["select", "distinct", "all"], "SELECT without ALL"),
    (&[").*"], "SELECT t.* FROM f(x) AS t, or CROSS JOIN LATERAL f(x) AS t"),
    (&["tablesample"], "WHERE random() < 0.01"),
    (&["table"], "SELECT * FROM the table"),
];

/// The problem, with what to write where the statement has one of the forms.
pub(super) fn with_way(problem: String, sql: &str) -> String {
    let may_be_form = ["sql parser error", "is not understood", "can't be checked", "is not among those"];
    if !may_be_form.iter().any(|words| problem.contains(words)) {
        return problem;
    }
    let sql = sql.to_lowercase();
    match WAYS.iter().find(|(words, _)| has_in_order(&sql, words)) {
        Some((_, way)) => format!("{problem}; write {way}"),
        None => problem,
    }
}

/// Whether the words follow one another; the first may stand anywhere.
fn has_in_order(sql: &str, words: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return true };
    let is_name = |byte: Option<char>| byte.is_some_and(|c| c.is_alphanumeric() || c == '_');
    sql.match_indices(first).any(|(at, _)| {
        let mut behind = &sql[at + first.len()..];
        if first.chars().all(char::is_alphabetic)
            && (is_name(sql[..at].chars().next_back()) || is_name(behind.chars().next()))
        {
            return false;
        }
        rest.iter().enumerate().all(|(i, word)| {
            behind = behind.trim_start();
            // What is compared may stand between the first two.
            if i == 0 && *first == "between" || behind.starts_with(word) {
                let found = behind.find(word);
                behind = found.map_or("", |at| &behind[at + word.len()..]);
                return found.is_some();
            }
            false
        })
    })
}
