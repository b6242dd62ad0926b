//! What the bundle and the registry entry tell clients agrees with what this program reads.

use clap::ValueEnum;
use serde_json::Value;

use super::{
    clients::{Client, Server},
    merge_toml,
    variables::{self, Variable},
    whole,
};

fn manifest() -> Value {
    serde_json::from_str(include_str!("../../../packaging/manifest.json")).expect("the manifest is JSON")
}

fn server() -> Value {
    serde_json::from_str(include_str!("../../../packaging/server.json")).expect("the registry entry is JSON")
}

/// The setting of that name, if sluice has one; the value is one that carries a password where that is possible.
fn setting(name: &str) -> Variable {
    let value = match name {
        "DATABASE_URL" | "DATABASE_READ_URL" => "postgres://u:p@h/d",
        "ELASTICSEARCH_URL" => "https://u:p@h",
        "SUPABASE_URL" => "https://h",
        _ => "x",
    };
    let environment = std::iter::once((name.to_owned(), value.to_owned())).collect();
    let found = variables::set(&environment).pop();
    found.unwrap_or_else(|| panic!("{name} is no setting that .env.example explains"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} is no text"))
}

#[test]
fn every_package_has_the_version_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(text(&manifest(), "/version"), version);
    let server = server();
    assert_eq!(text(&server, "/version"), version);
    assert_eq!(text(&server, "/packages/0/version"), version);
    assert!(text(&server, "/packages/0/identifier").contains(&format!("/v{version}/sluice-{version}-")));
}

#[test]
fn the_bundle_asks_for_settings_that_exist_and_hides_the_secret_ones() {
    let manifest = manifest();
    let asked = manifest["user_config"].as_object().expect("questions");
    let env = manifest.pointer("/server/mcp_config/env").and_then(Value::as_object).expect("variables");
    assert_eq!(asked.len(), env.len());
    for (name, value) in env {
        let key = name.to_lowercase();
        assert_eq!(value, &Value::from(format!("${{user_config.{key}}}")));
        let question = &asked[&key];
        assert_eq!(question["sensitive"].as_bool().unwrap_or(false), setting(name).secret, "{name}");
        // A client leaves the placeholder in where there is no value; an empty one counts as not set.
        assert_eq!(question["default"], "", "{name}");
    }
}

#[test]
fn the_registry_entry_names_the_same_settings_as_the_bundle() {
    let (manifest, server) = (manifest(), server());
    let env = manifest.pointer("/server/mcp_config/env").and_then(Value::as_object).expect("variables");
    let listed =
        server.pointer("/packages/0/environmentVariables").and_then(Value::as_array).expect("variables");
    let mut names: Vec<&str> = listed.iter().map(|variable| text(variable, "/name")).collect();
    for variable in listed {
        let secret = variable["isSecret"].as_bool().unwrap_or(false);
        assert_eq!(secret, setting(text(variable, "/name")).secret, "{variable}");
    }
    names.sort_unstable();
    assert_eq!(names, env.keys().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_registry_entry_keeps_within_the_limits_of_its_schema() {
    let server = server();
    assert_eq!(text(&server, "/$schema").rsplit('/').nth(1), Some("2025-12-11"));
    // A release fills it in.
    let full = text(&server, "/name").replace("$SLUICE_REPOSITORY", "somebody/sluice");
    let (namespace, name) = full.split_once('/').expect("a namespace");
    let legal = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    assert!(namespace.contains('.') && legal(namespace) && legal(name) && !name.is_empty());
    assert!((1..=100).contains(&text(&server, "/description").chars().count()));
    assert!((1..=100).contains(&text(&server, "/title").chars().count()));
    assert_eq!(text(&server, "/packages/0/registryType"), "mcpb");
    assert_eq!(text(&server, "/packages/0/transport/type"), "stdio");
}

#[test]
fn the_examples_are_what_the_program_prints() {
    let environment = [
        ("SUPABASE_URL", "https://abcdefgh.supabase.co"),
        ("SUPABASE_KEY", "x"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker-1:9092"),
        ("DATABASE_URL", "postgres://sluice:x@db:5432/sluice"),
        ("ELASTICSEARCH_URL", "http://search:9200"),
    ];
    let environment =
        environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (arguments, variables) = (["serve".to_owned()], variables::set(&environment));
    for client in Client::value_variants() {
        let server =
            Server::Stdio { command: "/usr/local/bin/sluice", arguments: &arguments, variables: &variables };
        let configuration = client.configuration(&server, false).expect("a configuration");
        let name = client.to_possible_value().expect("a name").get_name().to_owned();
        let ending = if client.reads_toml() { "toml" } else { "json" };
        let path = format!("{}/examples/clients/{name}.{ending}", env!("CARGO_MANIFEST_DIR"));
        let example = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        if client.reads_toml() {
            assert_eq!(example, merge_toml::whole(&configuration, "sluice").expect("TOML"), "{path}");
        } else {
            let printed = whole(&configuration, "sluice");
            assert_eq!(serde_json::from_str::<Value>(&example).expect("JSON"), printed, "{path}");
        }
    }
}
