//! Bearer tokens: who may connect, and what each may do.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use crate::{config::reader::Reader, private_files};

pub(super) const TOKENS: &str = "SLUICE_HTTP_TOKENS";
pub(super) const TOKENS_FILE: &str = "SLUICE_HTTP_TOKENS_FILE";

/// What examples call the variable that a client keeps its token in.
pub(super) const CLIENTS_TOKEN: &str = "SLUICE_TOKEN";

/// Fewer characters than this can be guessed.
const SHORTEST: usize = 16;

/// One client's key.
#[derive(Debug, Clone)]
pub struct Token {
    /// Stands for the client in logs and limits.
    pub name: String,
    /// Whether only tools that change nothing may be called.
    pub read_only: bool,
    pub secret: SecretString,
}

/// A file of tokens, which may change while the server runs.
#[derive(Debug, Clone)]
pub struct TokensFile {
    path: PathBuf,
    /// Those that are set besides.
    listed: Vec<Token>,
}

impl TokensFile {
    /// Every token, as the file is now.
    ///
    /// # Errors
    /// What is wrong with them, without any of them.
    pub fn tokens(&self) -> Result<Vec<Token>, String> {
        let mut problems = Problems::new();
        let tokens = all(self.listed.clone(), Some(&self.path), &mut problems);
        let told: Vec<String> =
            problems.into_iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
        if told.is_empty() { Ok(tokens) } else { Err(told.join("; ")) }
    }
}

/// By the variables they are of.
type Problems = Vec<(&'static str, String)>;

/// Every token, from the variable and from the file it may be kept in instead. Whoever set one of them wants nobody let
/// in without a token.
pub(super) fn read(read: &mut Reader) -> (Vec<Token>, Option<TokensFile>) {
    let mut problems = Problems::new();
    let list = read.optional(TOKENS);
    let listed = list.map(|list| parse(&mut problems, TOKENS, list.split(','))).unwrap_or_default();
    let path = read.optional(TOKENS_FILE).map(PathBuf::from);
    let tokens = all(listed.clone(), path.as_deref(), &mut problems);
    for (name, problem) in problems {
        read.problem(name, problem);
    }
    (tokens, path.map(|path| TokensFile { path, listed }))
}

/// Those that are set, and a file's.
fn all(listed: Vec<Token>, path: Option<&Path>, problems: &mut Problems) -> Vec<Token> {
    let mut tokens = listed;
    match path.map(private_files::read_given) {
        None => {}
        Some(Ok(text)) => {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            tokens.extend(parse(problems, TOKENS_FILE, lines));
        }
        Some(Err(error)) => problems.push((TOKENS_FILE, format!("the file can't be read: {error}"))),
    }
    let (mut names, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    if !tokens.iter().all(|token| names.insert(token.name.as_str())) {
        problems.push((TOKENS, "every token needs a name of its own".to_owned()));
    }
    if !tokens.iter().all(|token| secrets.insert(token.secret.expose_secret())) {
        let problem = "every token needs a secret of its own: two clients with one can't be told apart";
        problems.push((TOKENS, problem.to_owned()));
    }
    tokens
}

fn parse<'a>(
    problems: &mut Problems,
    variable: &'static str,
    entries: impl Iterator<Item = &'a str>,
) -> Vec<Token> {
    let mut tokens = Vec::new();
    let entries: Vec<&str> = entries.map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        let problem = "is set and names no token; add one such as claude:full:<what `openssl rand -hex 32` prints>, or remove it";
        problems.push((variable, problem.to_owned()));
    }
    for (number, entry) in entries.into_iter().enumerate() {
        match token(entry) {
            Ok(token) => tokens.push(token),
            Err(problem) => problems.push((variable, format!("token {} {problem}", number + 1))),
        }
    }
    tokens
}

fn token(entry: &str) -> Result<Token, String> {
    let mut parts = entry.splitn(3, ':');
    let (Some(name), Some(rights), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("must be name:full:secret or name:read:secret".to_owned());
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(legal) {
        return Err("needs a name of at most 32 letters, digits, '.', '_' or '-'".to_owned());
    }
    let read_only = match rights {
        "full" => false,
        "read" => true,
        _ => return Err("has rights other than full or read".to_owned()),
    };
    // What the Authorization header can carry.
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if secret.len() < SHORTEST || !secret.chars().all(legal) {
        return Err(format!(
            "needs a secret of at least {SHORTEST} letters, digits or any of -._~+/=, such as `openssl rand -hex 32` makes"
        ));
    }
    Ok(Token { name: name.to_owned(), read_only, secret: SecretString::from(secret) })
}
