//! What settings are accepted, and how what is wrong with them is told.

use super::*;

fn load(changes: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let mut variables: std::collections::BTreeMap<String, String> = [
        ("SUPABASE_URL", "https://abc.supabase.co"),
        ("SUPABASE_KEY", "sb_secret_segredo"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("DATABASE_URL", "postgres://sluice:senha@localhost/sluice"),
        ("ELASTICSEARCH_URL", "http://localhost:9200"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in changes {
        variables.insert((*name).to_owned(), (*value).to_owned());
    }
    Settings::load(variables)
}

fn problems(changes: &[(&str, &str)]) -> String {
    load(changes).expect_err("settings that can't be right").to_string()
}

#[test]
fn four_addresses_and_a_key_are_enough() {
    let settings = load(&[]).expect("valid settings");
    let kafka = settings.kafka.expect("Kafka is named");
    assert_eq!(kafka.topic, "eventos");
    assert_eq!(kafka.dead_letter_topic, "eventos.dlq");
    assert!(settings.supabase.expect("Supabase is named").include_columns.is_empty());
    let settings = load(&[("SUPABASE_INCLUDE_IP_ADDRESS", "true")]).expect("valid settings");
    assert_eq!(settings.supabase.expect("Supabase is named").include_columns, ["ip_address"]);
}

#[test]
fn every_column_that_a_definition_reads_on_request_has_a_setting_and_no_other_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let definition = "name = 'pessoas'\nabout = 'x'\nentity = 'pessoa'\nkey = { column = 'id', type = 'bigint' }\n\
                      event = { categoria = 'c', evento = 'e' }\n\
                      columns = [{ name = 'cpf', type = 'text', on_request = true }, { name = 'nome', type = 'text' }]";
    std::fs::write(folder.path().join("pessoas.toml"), definition).expect("written");
    let own = ("SLUICE_TABLES_DIR", folder.path().to_str().expect("text"));
    let included =
        |changes: &[(&str, &str)]| load(changes).map(|read| read.supabase.expect("named").include_columns);
    let set = [own, ("SUPABASE_INCLUDE_CPF", "true"), ("SUPABASE_INCLUDE_IP_ADDRESS", "false")];
    assert_eq!(included(&set), Ok(vec!["cpf".to_owned()]));
    for name in ["SUPABASE_INCLUDE_CPFS", "SUPABASE_INCLUDE_NOME"] {
        let text = problems(&[own, (name, "true")]);
        assert!(
            text.contains(&format!("{name}: names no column")) && text.contains("cpf, ip_address"),
            "{text}"
        );
    }
    let text = problems(&[("SLUICE_TABLES_DIR", "/nada/nada"), ("SUPABASE_INCLUDE_CPF", "true")]);
    assert!(!text.contains("SUPABASE_INCLUDE_CPF"), "what there is nobody knows: {text}");
}

#[test]
fn what_is_not_named_is_embedded() {
    let settings = Settings::load([("SLUICE_DATA_DIR".to_owned(), "/data".to_owned())]).expect("valid");
    assert!(settings.supabase.is_none() && settings.kafka.is_none());
    assert!(settings.postgres.is_none() && settings.elasticsearch.is_none());
    assert_eq!(settings.data_dir, PathBuf::from("/data"));
}

#[test]
fn a_forgotten_address_is_no_choice_of_the_embedded_part() {
    for (address, other) in [
        ("SUPABASE_URL", "SUPABASE_KEY"),
        ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC"),
        ("DATABASE_URL", "DATABASE_MAX_CONNECTIONS"),
        ("ELASTICSEARCH_URL", "ELASTICSEARCH_INDEX_PREFIX"),
    ] {
        let error = Settings::load([(other.to_owned(), "5".to_owned())]).expect_err("an address is missing");
        let text = error.to_string();
        assert!(text.contains(&format!("{address}: is not set")) && text.contains(other), "{text}");
    }
}

#[test]
fn generated_rows_reach_a_real_part_only_where_they_are_asked_for_by_name() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    for (name, value) in [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("DATABASE_URL", "postgres://sluice@localhost/sluice"),
        ("ELASTICSEARCH_URL", "http://localhost:9200"),
    ] {
        let text = Settings::load(pairs(&[(name, value)])).expect_err("refused").to_string();
        assert!(text.contains("SUPABASE_URL: is not set") && text.contains(name), "{text}");
        assert!(text.contains("SLUICE_SAMPLE=true"), "{text}");
        let asked = Settings::load(pairs(&[(name, value), ("SLUICE_SAMPLE", "true")])).expect("asked for");
        assert!(asked.supabase.is_none());
    }
    assert!(Settings::load(pairs(&[])).is_ok());
    let refused = Settings::load(pairs(&[("SLUICE_SAMPLE", "false")])).expect_err("refused").to_string();
    assert!(refused.contains("SUPABASE_URL: is not set"), "{refused}");
    assert!(problems(&[("SLUICE_SAMPLE", "true")]).contains("SLUICE_SAMPLE: asks for generated rows"));
    assert!(load(&[("SLUICE_SAMPLE", "false")]).is_ok());
}

#[test]
fn a_misspelt_name_is_listed_with_all_other_problems() {
    let error = Settings::load(
        [("SUPABSE_URL", "x"), ("DATABASE_URL", "nada"), ("SLUICE_REDONLY", "true"), ("KAFKA_HOME", "/opt")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .expect_err("refused");
    for expected in [
        "SUPABSE_URL: is no setting; did you mean SUPABASE_URL?",
        "DATABASE_URL: is not a URL",
        "SUPABASE_URL: is not",
        "SLUICE_REDONLY: is no setting; did you mean SLUICE_READ_ONLY?",
    ] {
        assert_eq!(
            error.problems.iter().filter(|p| p.starts_with(expected)).count(),
            1,
            "{expected} in {error}"
        );
    }
    assert!(!error.to_string().contains("KAFKA_HOME"), "{error}");
}

#[test]
fn a_log_level_that_is_none_is_a_problem_and_no_silence() {
    for right in ["info", "DEBUG", "warn,sluice=debug, librdkafka=info", "off"] {
        assert!(load(&[("SLUICE_LOG", right)]).is_ok(), "{right}");
    }
    for wrong in ["inof", "sluice=verbose", "sluice", "warn,=debug"] {
        assert!(problems(&[("SLUICE_LOG", wrong)]).contains("SLUICE_LOG: must be one of"), "{wrong}");
    }
}

#[test]
fn every_problem_is_listed_at_once() {
    let error = load(&[
        ("SUPABASE_URL", "nada"),
        ("SUPABASE_KEY", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", "nada"),
        ("KAFKA_PARTITIONS", "many"),
        ("DATABASE_URL", "nada"),
        ("ELASTICSEARCH_URL", "nada"),
    ])
    .expect_err("nothing is right");
    for name in [
        "SUPABASE_URL",
        "SUPABASE_KEY",
        "KAFKA_BOOTSTRAP_SERVERS",
        "DATABASE_URL",
        "ELASTICSEARCH_URL",
        "KAFKA_PARTITIONS",
    ] {
        let named = error.problems.iter().filter(|p| p.starts_with(&format!("{name}:"))).count();
        assert_eq!(named, 1, "{name} in {error}");
    }
}

#[test]
fn a_problem_names_the_variable_and_hides_its_value() {
    for (name, value) in [
        ("SUPABASE_URL", "segredo"),
        ("DATABASE_URL", "mysql://u:segredo@h/d"),
        ("KAFKA_BOOTSTRAP_SERVERS", "segredo"),
        ("SUPABASE_INCLUDE_IP_ADDRESS", "segredo"),
        ("SLUICE_BATCH_RECORDS", "0"),
        ("KAFKA_TOPIC", "eventos novos"),
        ("ELASTICSEARCH_INDEX_PREFIX", "_Segredo"),
    ] {
        let text = problems(&[(name, value)]);
        assert!(text.contains(&format!("{name}:")), "{text}");
        assert!(!text.to_lowercase().contains("segredo"), "{text}");
    }
}

#[test]
fn sasl_needs_its_credentials() {
    let text = problems(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]);
    assert!(text.contains("KAFKA_SASL_USERNAME") && text.contains("KAFKA_SASL_PASSWORD"), "{text}");
    let text = problems(&[("KAFKA_SASL_USERNAME", "ana")]);
    assert!(text.contains("KAFKA_SECURITY_PROTOCOL: is plaintext, which logs in nobody"), "{text}");
    let text = problems(&[("KAFKA_SASL_MECHANISM", "PLAIN")]);
    assert!(text.contains("KAFKA_SECURITY_PROTOCOL: is plaintext, which logs in nobody"), "{text}");
}

#[test]
fn authorities_for_brokers_that_are_not_asked_for_a_certificate_are_refused() {
    let authorities = ("KAFKA_SSL_CA_LOCATION", "/ca.pem");
    let text = problems(&[authorities]);
    assert!(text.contains("KAFKA_SECURITY_PROTOCOL: is plaintext, which encrypts nothing"), "{text}");
    assert!(load(&[authorities, ("KAFKA_SECURITY_PROTOCOL", "ssl")]).is_ok());
}

#[test]
fn debug_output_shows_no_secret() {
    for changes in [
        [("ELASTICSEARCH_API_KEY", "chave-segredo"), ("ELASTICSEARCH_URL", "http://es:9200")],
        [("ELASTICSEARCH_URL", "http://ana:segredo@es:9200"), ("DATABASE_URL", "postgres://u:segredo@h/d")],
    ] {
        let text = format!("{:?}", load(&changes).expect("valid settings"));
        assert!(!text.contains("segredo") && !text.contains("senha"), "{text}");
    }
}

#[test]
fn a_value_that_a_file_sets_wrongly_is_not_said_to_be_missing() {
    for (file, name) in [
        ("SUPABASE_URL=https://abc.supabase.co\nSUPABASE_KEY=a$b\n", "SUPABASE_KEY"),
        ("SUPABASE_URL=https://a$b\nSUPABASE_KEY=segredo\n", "SUPABASE_URL"),
    ] {
        let mut variables = Variables::default();
        variables.add_file(std::path::Path::new(".env"), file).expect("a file of settings");
        let text = Settings::from_variables(variables).expect_err("a problem").to_string();
        assert!(text.contains(&format!("{name}: has one of")) && !text.contains("is not set"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_secret_may_stand_in_a_file_or_with_a_command_and_in_one_place_only() {
    use secrecy::ExposeSecret as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    crate::private_files::replace(&path, b"sb_secret_do_arquivo\n").expect("written");
    let path = path.to_string_lossy().into_owned();
    let parts = |more: &[(&str, &str)]| {
        let address = ("SUPABASE_URL", "https://abc.supabase.co");
        let pairs = std::iter::once(&address).chain(more);
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(pairs.collect::<Vec<_>>())
    };
    let key = |settings: Settings| {
        settings.supabase.expect("Supabase is named").key.value().expose_secret().to_owned()
    };
    assert_eq!(key(parts(&[("SUPABASE_KEY_FILE", &path)]).expect("valid")), "sb_secret_do_arquivo");
    assert_eq!(key(parts(&[("SUPABASE_KEY_COMMAND", "echo sb_secret_x")]).expect("valid")), "sb_secret_x");
    let database = parts(&[
        ("SUPABASE_KEY_FILE", &path),
        ("DATABASE_URL_COMMAND", "echo postgres://sluice:senha@localhost/sluice"),
    ]);
    assert!(database.expect("valid").postgres.is_some(), "the address alone names the part");

    for (wrong, told) in [
        (
            &[("SUPABASE_KEY", "x"), ("SUPABASE_KEY_FILE", &path)][..],
            "SUPABASE_KEY: is set in more than one way",
        ),
        (&[("SUPABASE_KEY_FILE", "/nowhere/key")], "SUPABASE_KEY_FILE: "),
        (&[("SUPABASE_KEY_COMMAND", "exit 3")], "SUPABASE_KEY_COMMAND: failed"),
        (&[("SUPABASE_KYE_FILE", &path)], "SUPABASE_KEY: is not set"),
    ] {
        let text = parts(wrong).expect_err("no key").to_string();
        assert!(text.contains(told) && !text.contains("sb_secret_do"), "{told}: {text}");
    }
    assert!(Settings::load([("SUPABASE_KEY_FILE".to_owned(), path)]).is_err(), "without an address");
}

#[test]
fn a_file_of_settings_runs_no_command_and_leads_no_secret_elsewhere() {
    let of = |environment: &[(&str, &str)], text: &str| {
        let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut variables: Variables = pairs.collect();
        variables.add_file(std::path::Path::new("/pasta/.env"), text).expect("a file of settings");
        variables.check().map_err(|error| error.to_string())
    };
    let command = of(&[], "SUPABASE_KEY_COMMAND=touch /tmp/x\n").expect_err("a command");
    assert!(command.contains("SUPABASE_KEY_COMMAND: is taken from the environment alone"), "{command}");
    let apart = of(&[("SUPABASE_KEY_FILE", "/run/key")], "SUPABASE_URL=https://evil.example\n");
    assert!(apart.expect_err("two places").contains("set both in one place"));
}

#[test]
fn a_folder_of_tables_that_can_t_be_read_is_told_though_nobody_named_it() {
    let data = tempfile::tempdir().expect("a folder");
    let data_dir = data.path().display().to_string();
    let of_data = [("SLUICE_DATA_DIR", data_dir.as_str())];
    load(&of_data).expect("no folder of tables is needed");
    std::fs::write(data.path().join("tables"), "").expect("a file in its place");
    let told = problems(&of_data);
    assert!(told.contains("SLUICE_TABLES_DIR: is no folder that can be read"), "{told}");
    // What the data folder is, is told by whoever opens it.
    let file = data.path().join("tables").display().to_string();
    load(&[("SLUICE_DATA_DIR", file.as_str())]).expect("no folder of tables is in a file");
}
