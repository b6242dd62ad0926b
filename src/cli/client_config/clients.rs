//! What each MCP client wants to be told, and where it keeps it. Pure: the environment is handed in.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::variables::Variable;

/// An MCP client whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    /// Claude Desktop
    #[value(name = "claude-desktop", alias = "claude")]
    Claude,
    /// Claude Code, for the user
    ClaudeCode,
    /// Cursor, for the user
    Cursor,
    /// Visual Studio Code, for the user
    #[value(name = "vscode")]
    VsCode,
    /// Windsurf
    Windsurf,
    /// Zed
    Zed,
    /// Gemini CLI, for the user
    Gemini,
    /// Codex: the CLI, the app and the extension, for the user
    Codex,
    /// JetBrains' Junie, for the user; AI Assistant takes the same, pasted into its settings
    #[value(name = "jetbrains")]
    JetBrains,
}

/// How the client is to reach sluice.
pub(super) enum Server<'a> {
    /// Started by the client, spoken to over stdin and stdout.
    Stdio { command: &'a str, arguments: &'a [String], variables: &'a [Variable] },
    /// Running already; the token is sent with every request.
    Http { url: &'a str, token: Option<&'a Variable> },
}

/// What goes into the client's file.
#[derive(Debug, PartialEq)]
pub(super) struct Configuration {
    /// The member of the file's object that holds the servers.
    pub(super) section: &'static str,
    pub(super) entry: Value,
    /// Questions the client asks once and keeps the answers of; only VS Code has them.
    pub(super) inputs: Vec<Value>,
    /// Variables whose place is held by their name because the client reads no environment.
    pub(super) unfilled: Vec<String>,
}

/// Why a client can't be told to do what was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "claude_desktop_config.json takes no URL: add the server under Settings > Connectors in Claude Desktop, \
         or leave --http out"
    )]
    NoHttp,
    #[error(
        "{0} is not set, so it is unknown where the client keeps its configuration; name the file with --path"
    )]
    NoHome(&'static str),
}

/// Where things are on this machine.
pub(super) struct Places {
    /// `linux`, `macos` or `windows`, as `std::env::consts::OS` names them.
    pub(super) os: &'static str,
    pub(super) home: Option<PathBuf>,
    /// `APPDATA` on Windows.
    pub(super) app_data: Option<PathBuf>,
    /// `XDG_CONFIG_HOME` elsewhere.
    pub(super) config_home: Option<PathBuf>,
    /// `CODEX_HOME`.
    pub(super) codex_home: Option<PathBuf>,
}

impl Client {
    /// What to write for a server, secrets as values or by their names.
    ///
    /// # Errors
    /// When the client can't reach a server that way.
    pub(super) fn configuration(
        self,
        server: &Server,
        with_secrets: bool,
    ) -> Result<Configuration, ClientError> {
        let mut secrets =
            Secrets { client: self, shown: with_secrets, inputs: Vec::new(), unfilled: Vec::new() };
        let mut entry = match server {
            Server::Stdio { command, arguments, variables } => {
                // Codex hands on by their names what its own environment holds.
                let (named, valued): (Vec<&Variable>, Vec<&Variable>) = variables
                    .iter()
                    .partition(|variable| self == Self::Codex && variable.secret && !with_secrets);
                let env: serde_json::Map<String, Value> = valued
                    .into_iter()
                    .map(|variable| (variable.name.clone(), Value::from(secrets.text(variable))))
                    .collect();
                let mut entry = json!({"command": command, "args": arguments, "env": env});
                if !named.is_empty() {
                    entry["env_vars"] = named.iter().map(|variable| variable.name.as_str()).collect();
                }
                entry
            }
            Server::Http { url, token } => {
                let mut entry = match self {
                    Self::Claude => return Err(ClientError::NoHttp),
                    Self::Windsurf => json!({"serverUrl": url}),
                    Self::Gemini => json!({"httpUrl": url}),
                    _ => json!({"url": url}),
                };
                if self == Self::Codex {
                    match token {
                        Some(token) if with_secrets => {
                            entry["http_headers"] =
                                json!({"Authorization": format!("Bearer {}", token.value)});
                        }
                        Some(token) => entry["bearer_token_env_var"] = Value::from(token.name.as_str()),
                        None => {}
                    }
                } else if let Some(token) = token {
                    entry["headers"] = json!({"Authorization": format!("Bearer {}", secrets.text(token))});
                }
                entry
            }
        };
        if matches!(self, Self::ClaudeCode | Self::VsCode) {
            let kind = if matches!(server, Server::Stdio { .. }) { "stdio" } else { "http" };
            entry["type"] = Value::from(kind);
        }
        let section = match self {
            Self::VsCode => "servers",
            Self::Zed => "context_servers",
            Self::Codex => "mcp_servers",
            _ => "mcpServers",
        };
        Ok(Configuration { section, entry, inputs: secrets.inputs, unfilled: secrets.unfilled })
    }

    /// Whether the client's file is TOML.
    pub(super) fn reads_toml(self) -> bool {
        self == Self::Codex
    }

    /// The file the client reads.
    ///
    /// # Errors
    /// When the environment does not tell where it would be.
    pub(super) fn path(self, places: &Places) -> Result<PathBuf, ClientError> {
        let home = || places.home.clone().ok_or(ClientError::NoHome("HOME"));
        // Where programs with a window keep their settings.
        let settings = || match places.os {
            "macos" => Ok(home()?.join("Library/Application Support")),
            "windows" => places.app_data.clone().ok_or(ClientError::NoHome("APPDATA")),
            _ => match &places.config_home {
                Some(folder) => Ok(folder.clone()),
                None => Ok(home()?.join(".config")),
            },
        };
        Ok(match self {
            Self::Claude => settings()?.join("Claude/claude_desktop_config.json"),
            Self::ClaudeCode => home()?.join(".claude.json"),
            Self::Cursor => home()?.join(".cursor/mcp.json"),
            Self::VsCode => settings()?.join("Code/User/mcp.json"),
            Self::Windsurf => home()?.join(".codeium/windsurf/mcp_config.json"),
            Self::Zed if places.os == "macos" => home()?.join(".config/zed/settings.json"),
            Self::Zed if places.os == "windows" => settings()?.join("Zed/settings.json"),
            Self::Zed => settings()?.join("zed/settings.json"),
            Self::Gemini => home()?.join(".gemini/settings.json"),
            Self::Codex => match &places.codex_home {
                Some(folder) => folder.join("config.toml"),
                None => home()?.join(".codex/config.toml"),
            },
            Self::JetBrains => home()?.join(".junie/mcp/mcp.json"),
        })
    }
}

/// Turns variables into what the client resolves, and remembers what that takes.
struct Secrets {
    client: Client,
    shown: bool,
    inputs: Vec<Value>,
    unfilled: Vec<String>,
}

impl Secrets {
    fn text(&mut self, variable: &Variable) -> String {
        if self.shown || !variable.secret {
            return variable.value.clone();
        }
        let name = &variable.name;
        match self.client {
            Client::ClaudeCode | Client::Gemini => format!("${{{name}}}"),
            Client::Cursor | Client::Windsurf => format!("${{env:{name}}}"),
            Client::VsCode => {
                let id = format!("sluice-{}", name.to_lowercase().replace('_', "-"));
                self.inputs.push(json!({
                    "type": "promptString", "id": id, "description": format!("{name} for sluice"), "password": true,
                }));
                format!("${{input:{id}}}")
            }
            // Codex is given names, so it never comes here.
            Client::Claude | Client::Zed | Client::Codex | Client::JetBrains => {
                self.unfilled.push(name.clone());
                format!("<{name}>")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<Variable> {
        vec![
            Variable { name: "KAFKA_TOPIC".into(), value: "eventos".into(), secret: false },
            Variable { name: "SUPABASE_KEY".into(), value: "sb_secret_segredo".into(), secret: true },
        ]
    }

    fn stdio(client: Client, with_secrets: bool) -> Configuration {
        let arguments = ["serve".to_owned()];
        let server = Server::Stdio { command: "/opt/sluice", arguments: &arguments, variables: &variables() };
        client.configuration(&server, with_secrets).expect("every client starts programs")
    }

    fn linux() -> Places {
        Places {
            os: "linux",
            home: Some("/home/ana".into()),
            app_data: None,
            config_home: None,
            codex_home: None,
        }
    }

    #[test]
    fn every_client_is_told_the_program_and_the_settings() {
        for client in Client::value_variants() {
            let entry = stdio(*client, false).entry;
            assert_eq!(entry["command"], "/opt/sluice", "{client:?}");
            assert_eq!(entry["args"], json!(["serve"]), "{client:?}");
            assert_eq!(entry["env"]["KAFKA_TOPIC"], "eventos", "{client:?}");
        }
    }

    #[test]
    fn a_secret_is_named_in_the_words_of_the_client_and_never_shown() {
        for (client, text) in [
            (Client::Claude, "<SUPABASE_KEY>"),
            (Client::ClaudeCode, "${SUPABASE_KEY}"),
            (Client::Cursor, "${env:SUPABASE_KEY}"),
            (Client::VsCode, "${input:sluice-supabase-key}"),
            (Client::Windsurf, "${env:SUPABASE_KEY}"),
            (Client::Zed, "<SUPABASE_KEY>"),
            (Client::Gemini, "${SUPABASE_KEY}"),
            (Client::JetBrains, "<SUPABASE_KEY>"),
        ] {
            let configuration = stdio(client, false);
            assert_eq!(configuration.entry["env"]["SUPABASE_KEY"], text, "{client:?}");
            assert!(!format!("{configuration:?}").contains("segredo"), "{client:?}");
            let fills = matches!(client, Client::Claude | Client::Zed | Client::JetBrains);
            assert_eq!(!configuration.unfilled.is_empty(), fills, "{client:?}");
        }
    }

    #[test]
    fn secrets_are_shown_when_they_are_asked_for() {
        for client in Client::value_variants() {
            let configuration = stdio(*client, true);
            assert_eq!(configuration.entry["env"]["SUPABASE_KEY"], "sb_secret_segredo", "{client:?}");
            assert!(configuration.inputs.is_empty() && configuration.unfilled.is_empty(), "{client:?}");
        }
    }

    #[test]
    fn codex_is_given_the_names_of_secrets_and_hands_on_their_values() {
        let configuration = stdio(Client::Codex, false);
        assert_eq!(configuration.section, "mcp_servers");
        assert_eq!(configuration.entry["env"], json!({"KAFKA_TOPIC": "eventos"}));
        assert_eq!(configuration.entry["env_vars"], json!(["SUPABASE_KEY"]));
        assert!(configuration.unfilled.is_empty() && !format!("{configuration:?}").contains("segredo"));
        let token = Variable { name: "TOKEN".into(), value: "segredo".into(), secret: true };
        let server = Server::Http { url: "https://sluice.example/mcp", token: Some(&token) };
        let entry = |with_secrets| Client::Codex.configuration(&server, with_secrets).expect("URLs").entry;
        assert_eq!(
            entry(false),
            json!({"url": "https://sluice.example/mcp", "bearer_token_env_var": "TOKEN"})
        );
        assert_eq!(entry(true)["http_headers"]["Authorization"], "Bearer segredo");
    }

    #[test]
    fn vs_code_asks_for_each_secret_once() {
        let configuration = stdio(Client::VsCode, false);
        assert_eq!(configuration.section, "servers");
        assert_eq!(configuration.entry["type"], "stdio");
        assert_eq!(
            configuration.inputs,
            [json!({
                "type": "promptString", "id": "sluice-supabase-key",
                "description": "SUPABASE_KEY for sluice", "password": true,
            })]
        );
    }

    #[test]
    fn a_url_goes_where_each_client_looks_for_it() {
        let token = Variable { name: "TOKEN".into(), value: "segredo".into(), secret: true };
        for (client, member, header) in [
            (Client::ClaudeCode, "url", "Bearer ${TOKEN}"),
            (Client::Cursor, "url", "Bearer ${env:TOKEN}"),
            (Client::VsCode, "url", "Bearer ${input:sluice-token}"),
            (Client::Windsurf, "serverUrl", "Bearer ${env:TOKEN}"),
            (Client::Zed, "url", "Bearer <TOKEN>"),
            (Client::Gemini, "httpUrl", "Bearer ${TOKEN}"),
            (Client::JetBrains, "url", "Bearer <TOKEN>"),
        ] {
            let server = Server::Http { url: "https://sluice.example/mcp", token: Some(&token) };
            let entry = client.configuration(&server, false).expect("a client that takes URLs").entry;
            assert_eq!(entry[member], "https://sluice.example/mcp", "{client:?}");
            assert_eq!(entry["headers"]["Authorization"], header, "{client:?}");
            assert_eq!(entry.get("command"), None, "{client:?}");
        }
        let server = Server::Http { url: "https://sluice.example/mcp", token: None };
        assert_eq!(Client::Claude.configuration(&server, false), Err(ClientError::NoHttp));
    }

    #[test]
    fn each_system_has_its_own_place_for_the_file() {
        let path = |client: Client, places: &Places| {
            client.path(places).expect("a place").to_string_lossy().replace('\\', "/")
        };
        assert_eq!(path(Client::Claude, &linux()), "/home/ana/.config/Claude/claude_desktop_config.json");
        assert_eq!(path(Client::ClaudeCode, &linux()), "/home/ana/.claude.json");
        assert_eq!(path(Client::Zed, &linux()), "/home/ana/.config/zed/settings.json");
        let moved = Places { config_home: Some("/cfg".into()), ..linux() };
        assert_eq!(path(Client::VsCode, &moved), "/cfg/Code/User/mcp.json");
        let mac = Places { os: "macos", home: Some("/Users/ana".into()), ..linux() };
        assert_eq!(
            path(Client::Claude, &mac),
            "/Users/ana/Library/Application Support/Claude/claude_desktop_config.json"
        );
        assert_eq!(path(Client::Zed, &mac), "/Users/ana/.config/zed/settings.json");
        assert_eq!(path(Client::Codex, &linux()), "/home/ana/.codex/config.toml");
        let codex = Places { codex_home: Some("/cfg/codex".into()), ..linux() };
        assert_eq!(path(Client::Codex, &codex), "/cfg/codex/config.toml");
        assert_eq!(path(Client::JetBrains, &linux()), "/home/ana/.junie/mcp/mcp.json");
        let windows =
            Places { os: "windows", app_data: Some("C:/Users/ana/AppData/Roaming".into()), ..linux() };
        assert_eq!(path(Client::VsCode, &windows), "C:/Users/ana/AppData/Roaming/Code/User/mcp.json");
    }

    #[test]
    fn an_unknown_home_is_told_with_the_way_around_it() {
        let nowhere = Places { home: None, ..linux() };
        let error = Client::Cursor.path(&nowhere).expect_err("no home");
        assert!(error.to_string().contains("--path"), "{error}");
    }
}
