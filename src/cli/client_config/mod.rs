//! `sluice client-config`: tells an MCP client of sluice.

mod clients;
mod file;
mod merge;
mod merge_toml;
#[cfg(test)]
mod packaging;
mod variables;

use std::{path::PathBuf, process::ExitCode};

use chrono::Utc;
use clap::{Args, CommandFactory as _, FromArgMatches as _};
use serde_json::{Value, json};
use url::Url;

use super::{Arguments, Command, Failure, environment::Environment, output, takes_negative_numbers};
use crate::config::Variables;
use clients::{Client, Configuration, Places, Server};
use file::ConfigFile;
use merge::Merged;
use variables::Variable;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The client to configure
    client: Client,
    /// Merge it into the client's own file instead of printing it; a backup is kept beside the file
    #[arg(long)]
    write: bool,
    /// The client's file, if it is not where the client keeps it by default
    #[arg(long, requires = "write")]
    path: Option<PathBuf>,
    /// Replace a different server of that name
    #[arg(long, requires = "write")]
    force: bool,
    /// The server's name in the client
    #[arg(long, default_value = "sluice")]
    name: String,
    /// Put secrets into the configuration by value; without it by the name of their variable
    #[arg(long)]
    with_secrets: bool,
    /// Lead the client to a server that runs, for example http://127.0.0.1:8080/mcp, instead of starting one
    #[arg(long, value_name = "URL", value_parser = http_url)]
    http: Option<Url>,
    /// The variable that holds the token that --http needs
    #[arg(long, value_name = "VARIABLE", requires = "http")]
    token: Option<String>,
    /// More arguments for `sluice serve`, such as -- --without-drains
    #[arg(last = true, conflicts_with = "http")]
    arguments: Vec<String>,
}

fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("not a URL starting with http:// or https://".to_owned()),
    }
}

/// Prints or merges the configuration.
pub(super) fn run(options: &Options, environment: &Environment) -> Result<ExitCode, Failure> {
    environment.variables.check()?;
    // A file that was named the server reads itself, so that its secrets stay in one place.
    let handed_on = match environment.named {
        Some(_) => environment.variables.without_file(),
        None => environment.variables.clone(),
    };
    let configuration = configuration(options, &handed_on)?;
    if options.write {
        write(options, &configuration)?;
    } else {
        if options.client.reads_toml() {
            output::lines(merge_toml::whole(&configuration, &options.name)?)?;
        } else {
            output::pretty_json(&whole(&configuration, &options.name))?;
        }
        for name in &configuration.unfilled {
            output::note(format_args!("replace <{name}> by its value, or use --with-secrets"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn configuration(options: &Options, environment: &Variables) -> Result<Configuration, Failure> {
    if let Some(url) = &options.http {
        let token = options
            .token
            .as_deref()
            .map(|name| token(name, environment, options.with_secrets))
            .transpose()?;
        let server = Server::Http { url: url.as_str(), token: token.as_ref() };
        return Ok(options.client.configuration(&server, options.with_secrets)?);
    }
    let program = std::env::current_exe()?;
    let command = program
        .to_str()
        .ok_or("the path of this program is not UTF-8; move it to one that is and try again")?;
    let arguments: Vec<String> =
        std::iter::once("serve".to_owned()).chain(options.arguments.iter().cloned()).collect();
    check(&arguments)?;
    let variables = variables::set(environment);
    let server = Server::Stdio { command, arguments: &arguments, variables: &variables };
    Ok(options.client.configuration(&server, options.with_secrets)?)
}

/// A client does not show why a server ended that it started.
fn check(arguments: &[String]) -> Result<(), Failure> {
    let typed = std::iter::once("sluice").chain(arguments.iter().map(String::as_str));
    let parsed = takes_negative_numbers(Arguments::command())
        .try_get_matches_from(typed)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| {
            let told = error.to_string();
            format!("no server would start with what is behind --: {}", told.trim_start_matches("error: "))
        })?;
    match parsed.command {
        Some(Command::Serve(options)) if options.is_over_stdio() => Ok(()),
        _ => Err("with what is behind -- no server would speak to the client over stdin and stdout; to lead it to one that runs, give --http URL before --".into()),
    }
}

/// A token is secret whatever its variable is called, and only its value has to be there.
fn token(name: &str, environment: &Variables, with_secrets: bool) -> Result<Variable, Failure> {
    match variables::variable(name, environment) {
        Some(found) => Ok(Variable { secret: true, ..found }),
        None if with_secrets => Err(format!("{name} is not set, so its value can't be written").into()),
        None => Ok(Variable { name: name.to_owned(), value: String::new(), secret: true }),
    }
}

/// The file as it would be with nothing else in it.
fn whole(configuration: &Configuration, name: &str) -> Value {
    let mut file = json!({configuration.section: {name: configuration.entry}});
    if !configuration.inputs.is_empty() {
        file["inputs"] = Value::from(configuration.inputs.clone());
    }
    file
}

fn write(options: &Options, configuration: &Configuration) -> Result<(), Failure> {
    if !configuration.unfilled.is_empty() {
        return Err(format!(
            "this client reads no variables, and {} must not be written without your word; add --with-secrets",
            configuration.unfilled.join(", ")
        )
        .into());
    }
    let path = match &options.path {
        Some(path) => path.clone(),
        None => options.client.path(&places())?,
    };
    let file = ConfigFile::read(&path)?;
    let merge = if options.client.reads_toml() { merge_toml::merge } else { merge::merge };
    let merged = merge(file.text(), configuration, &options.name, options.force)
        .map_err(|error| format!("{}: {error}", file.path().display()))?;
    let path = file.path().display();
    match merged {
        Merged::Unchanged => {
            if options.with_secrets {
                file.close_to_others()?;
            }
            output::line(format_args!("{path} has it already"))?;
        }
        Merged::Changed(text) => {
            match file.replace(&text, Utc::now(), options.with_secrets)? {
                Some(backup) => {
                    output::line(format_args!(
                        "{path} is written; what was there is in {}",
                        backup.display()
                    ))?;
                }
                None => output::line(format_args!("{path} is made"))?,
            }
            output::line(format_args!("restart the client to have it see '{}'", options.name))?;
        }
    }
    Ok(())
}

fn places() -> Places {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Places {
        os: std::env::consts::OS,
        home: std::env::home_dir().filter(|path| path.is_absolute()),
        app_data: folder("APPDATA"),
        config_home: folder("XDG_CONFIG_HOME"),
        codex_home: folder("CODEX_HOME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_no_server_over_stdio_starts_with_are_refused() {
        let check = |arguments: &[&str]| {
            let arguments: Vec<String> =
                std::iter::once("serve").chain(arguments.iter().copied()).map(str::to_owned).collect();
            check(&arguments).map_err(|error| error.to_string())
        };
        check(&["--without-drains", "--tools", "all", "--read-only"]).expect("they are taken");
        for (refused, named) in [
            (["--tools", "al"], "'al'"),
            (["--tool", "all"], "--tool"),
            (["--http", "127.0.0.1:1"], "--http URL"),
            (["--read-only", "--list-tools"], "over stdin and stdout"),
        ] {
            let told = check(&refused).expect_err("refused");
            assert!(told.contains(named), "{refused:?}: {told}");
        }
    }
}
