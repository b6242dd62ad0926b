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
    let explained = || known::names().map(str::to_owned).chain(known::stand_ins());
    let included = variables.names().filter(|name| name.starts_with(known::INCLUDE)).map(str::to_owned);
    let included = included.filter(|name| explained().all(|explained| explained != *name));
    let set = explained().chain(included).filter_map(|name| variable(&name, variables));
    set.map(|variable| Variable { value: from_anywhere(&variable), ..variable }).collect()
}

/// The value that means the same in whatever folder the client starts sluice in.
fn from_anywhere(variable: &Variable) -> String {
    let names_a_place = ["_DIR", "_FILE", "_LOCATION"].iter().any(|end| variable.name.ends_with(end));
    // librdkafka looks for the system's authorities itself where it is told so.
    if !names_a_place || variable.name == "KAFKA_SSL_CA_LOCATION" && variable.value == "probe" {
        return variable.value.clone();
    }
    std::path::absolute(&variable.value)
        .map_or_else(|_| variable.value.clone(), |path| path.display().to_string())
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
    fn a_place_is_handed_on_as_it_is_found_from_anywhere() {
        let places = [
            "SUPABASE_SSL_CA_LOCATION",
            "KAFKA_SSL_CA_LOCATION",
            "ELASTICSEARCH_SSL_CA_LOCATION",
            "SLUICE_DATA_DIR",
            "SLUICE_TABLES_DIR",
            "SLUICE_LOG_DIR",
            "SLUICE_HTTP_TOKENS_FILE",
        ];
        let found = set(&variables(&places.map(|name| (name, "./here"))));
        assert_eq!(found.iter().map(|variable| variable.name.as_str()).collect::<Vec<_>>(), places);
        for variable in &found {
            let path = std::path::Path::new(&variable.value);
            assert!(path.is_absolute() && path.ends_with("here"), "{}", variable.name);
        }
        let found = set(&variables(&[("KAFKA_SSL_CA_LOCATION", "probe"), ("KAFKA_TOPIC", "./here")]));
        let values: Vec<&str> = found.iter().map(|variable| variable.value.as_str()).collect();
        assert_eq!(values, ["./here", "probe"]);
    }

    #[test]
    fn the_columns_to_include_are_handed_on() {
        let found =
            set(&variables(&[("SUPABASE_INCLUDE_CPF", "true"), ("SUPABASE_INCLUDE_IP_ADDRESS", "true")]));
        let names: Vec<&str> = found.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["SUPABASE_INCLUDE_IP_ADDRESS", "SUPABASE_INCLUDE_CPF"]);
    }

    #[test]
    fn a_variable_never_shows_its_value() {
        let found = set(&variables(&[("SUPABASE_KEY", "segredo")]));
        assert!(found[0].secret && !format!("{found:?}").contains("segredo"));
    }
}
