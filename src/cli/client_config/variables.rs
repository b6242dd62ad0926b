//! The settings to hand on to a client: those that are set now.

use crate::config::{Variables, known};

/// A setting that is set.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) secret: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Those of sluice's settings that have a value, in the order they are explained in, and where others of them are kept.
pub(super) fn set(variables: &Variables) -> Vec<Variable> {
    let named = known::names().filter_map(|name| variable(name, variables));
    let kept = known::stand_ins().filter_map(|name| variable(&name, variables)).map(|mut kept| {
        // The client starts sluice in a folder of its own.
        if kept.name.ends_with("_FILE")
            && let Ok(path) = std::path::absolute(&kept.value)
        {
            kept.value = path.display().to_string();
        }
        kept
    });
    named.chain(kept).collect()
}

/// One variable by its name; none where it has no value.
pub(super) fn variable(name: &str, variables: &Variables) -> Option<Variable> {
    variables.get(name).map(|value| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
        secret: known::is_secret(name, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_sluice_reads_and_what_has_a_value_is_handed_on() {
        let found = set(&variables(&[
            ("PATH", "/bin"),
            ("KAFKA_TOPIC", "eventos"),
            ("SUPABASE_KEY", " "),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("SUPABASE_URL", "https://abc.supabase.co"),
        ]));
        let names: Vec<&str> = found.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["SUPABASE_URL", "KAFKA_TOPIC"]);
    }

    #[test]
    fn where_a_secret_is_kept_is_handed_on() {
        let found = set(&variables(&[("DATABASE_URL_FILE", "url"), ("SUPABASE_KEY_COMMAND", "op read x")]));
        let [command, file] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*command.name, &*command.value), ("SUPABASE_KEY_COMMAND", "op read x"));
        assert!(file.name == "DATABASE_URL_FILE" && std::path::Path::new(&file.value).is_absolute());
    }

    #[test]
    fn a_variable_never_shows_its_value() {
        let found = set(&variables(&[("SUPABASE_KEY", "segredo")]));
        assert!(found[0].secret && !format!("{found:?}").contains("segredo"));
    }
}
