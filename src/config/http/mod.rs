//! How MCP is served over HTTP.

mod limits;
mod names;
mod public_url;
mod tokens;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

pub use limits::HttpLimits;
pub use names::{HostPattern, OriginPattern, is_address};
pub use public_url::PublicUrl;
pub use tokens::{Token, TokensFile};

use super::reader::{Reader, SettingsError};

/// Where clients of this machine, and no others, find the server.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8765);

/// Everything the HTTP side can be told.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub address: SocketAddr,
    /// Who may connect; nobody is asked for one when there is none.
    pub tokens: Vec<Token>,
    /// Where some of them are kept.
    pub tokens_file: Option<TokensFile>,
    /// Whether a client's token is set, which the server does not read.
    clients_token_is_set: bool,
    pub allowed_hosts: Vec<HostPattern>,
    pub allowed_origins: Vec<OriginPattern>,
    /// Whether a page in a browser may change things without a token.
    pub pages_may_write: bool,
    /// Where clients find the server, if that is elsewhere than its own address.
    pub public_url: Option<PublicUrl>,
    pub limits: HttpLimits,
    /// How long a session may lie idle before it ends.
    pub session_idle: Duration,
    /// How long calls under way may take to end once the server is asked to.
    pub grace: Duration,
}

impl HttpSettings {
    pub(super) fn read(read: &mut Reader) -> Self {
        let address = read.optional("SLUICE_HTTP_ADDRESS").map_or(ADDRESS, |text| {
            parse_address(&text).unwrap_or_else(|problem| {
                read.problem("SLUICE_HTTP_ADDRESS", problem);
                ADDRESS
            })
        });
        let hosts = ["localhost", "127.0.0.1", "[::1]"];
        let origins = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];
        let mut allowed_hosts = patterns(
            read,
            "SLUICE_HTTP_ALLOWED_HOSTS",
            &hosts,
            "sluice.example.com or sluice.example.com:8443",
            HostPattern::parse,
        );
        let public_url = PublicUrl::read(read);
        allowed_hosts.extend(public_url.as_ref().and_then(|url| HostPattern::parse(&url.host())));
        let mut allowed_origins = patterns(
            read,
            "SLUICE_HTTP_ALLOWED_ORIGINS",
            &origins,
            "https://app.example.com or http://intranet:*",
            OriginPattern::parse,
        );
        allowed_origins.extend(public_url.as_ref().and_then(|url| OriginPattern::parse(&url.origin())));
        let (tokens, tokens_file) = tokens::read(read);
        Self {
            address,
            tokens,
            tokens_file,
            clients_token_is_set: read.other_is_set(tokens::CLIENTS_TOKEN),
            allowed_hosts,
            allowed_origins,
            pages_may_write: read.flag("SLUICE_HTTP_PAGES_MAY_WRITE", false),
            public_url,
            limits: HttpLimits::read(read),
            session_idle: read.seconds("SLUICE_HTTP_SESSION_IDLE_SECONDS", 1800),
            grace: read.seconds("SLUICE_HTTP_SHUTDOWN_SECONDS", 7),
        }
    }

    /// These settings, on another address if one is given.
    ///
    /// # Errors
    /// When other machines could connect, at the address or through a proxy, and no token would stop them; or when a
    /// token is set that no server reads.
    pub fn on(&self, address: Option<SocketAddr>) -> Result<Self, SettingsError> {
        let address = address.unwrap_or(self.address);
        if self.tokens.is_empty() && self.clients_token_is_set {
            let problem = format!(
                "{}: is a client's, and nobody would be asked for it; did you mean {}? To serve without a token, set it to \
                 nothing",
                tokens::CLIENTS_TOKEN,
                tokens::TOKENS
            );
            return Err(SettingsError { problems: vec![problem] });
        }
        let public = self.public_url.as_ref().is_some_and(|url| !url.is_local());
        let (whence, instead) = if !address.ip().is_loopback() {
            (format!("to serve on {address}"), format!("serve on {ADDRESS}"))
        } else if public {
            ("behind SLUICE_HTTP_PUBLIC_URL".to_owned(), "remove that".to_owned())
        } else {
            return Ok(Self { address, ..self.clone() });
        };
        if self.tokens.is_empty() {
            let problem = format!(
                "{}: is needed {whence}, where other machines can connect; give it a value such as \
                 claude:full:<what `openssl rand -hex 32` prints>, or {instead}",
                tokens::TOKENS
            );
            return Err(SettingsError { problems: vec![problem] });
        }
        Ok(Self { address, ..self.clone() })
    }
}

/// An address to serve on: `address:port`, `localhost:port`, or a port of this machine alone.
///
/// # Errors
/// Says what an address looks like.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(ADDRESS.ip(), port));
    }
    text.parse().map_err(|_| format!("must be an IP address and a port, such as {ADDRESS} or 0.0.0.0:8765"))
}

/// What is always allowed, and what a variable adds to it.
fn patterns<T>(
    read: &mut Reader,
    name: &str,
    always: &[&str],
    example: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let mut patterns: Vec<T> = always.iter().filter_map(|text| parse(text)).collect();
    let added = read.optional(name).unwrap_or_default();
    for text in added.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        match parse(text) {
            Some(pattern) => patterns.push(pattern),
            None => {
                read.problem(name, format_args!("must list values such as {example}, separated by commas"));
            }
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const SECRET: &str = "segredo-de-32-letras-e-numeros-1";

    fn load(changes: &[(&str, &str)]) -> Result<HttpSettings, SettingsError> {
        let variables = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut read = Reader::new(variables.collect());
        let settings = HttpSettings::read(&mut read);
        read.finish().map(|()| settings)
    }

    #[test]
    fn nothing_set_serves_this_machine_without_a_token() {
        let settings = load(&[]).expect("valid settings").on(None).expect("a loopback address");
        assert_eq!(settings.address.to_string(), "127.0.0.1:8765");
        assert!(settings.tokens.is_empty() && !settings.pages_may_write);
        assert_eq!((settings.limits.body_bytes, settings.public_url.clone()), (1024 * 1024, None));
        assert!(settings.limits.requests_per_second.is_some());
        assert_eq!((settings.allowed_hosts.len(), settings.allowed_origins.len()), (3, 3));
    }

    #[test]
    fn an_address_others_can_reach_needs_a_token_whoever_names_it() {
        let open = load(&[("SLUICE_HTTP_ADDRESS", "0.0.0.0:8765")]).expect("readable settings");
        let error = open.on(None).expect_err("no token").to_string();
        assert!(error.contains("SLUICE_HTTP_TOKENS:") && error.contains("0.0.0.0:8765"), "{error}");
        assert!(load(&[]).expect("valid").on(Some("[::]:1".parse().expect("an address"))).is_err());
        let tokens = format!("claude:full:{SECRET}");
        assert!(load(&[("SLUICE_HTTP_TOKENS", &tokens)]).expect("valid").on(Some(open.address)).is_ok());
    }

    #[test]
    fn a_public_url_needs_a_token_although_the_address_is_this_machines() {
        let public = ("SLUICE_HTTP_PUBLIC_URL", "https://sluice.example/a");
        let error = load(&[public]).expect("readable settings").on(None).expect_err("no token").to_string();
        assert!(error.contains("SLUICE_HTTP_TOKENS:") && error.contains("SLUICE_HTTP_PUBLIC_URL"), "{error}");
        let tokens = format!("claude:full:{SECRET}");
        assert!(load(&[public, ("SLUICE_HTTP_TOKENS", &tokens)]).expect("valid").on(None).is_ok());
        let local = load(&[("SLUICE_HTTP_PUBLIC_URL", "http://localhost:8080/a")]).expect("valid");
        assert!(local.on(None).is_ok());
    }

    #[test]
    fn tokens_come_from_the_variable_and_from_a_file() {
        let path = std::env::temp_dir().join(format!("sluice-{}", uuid::Uuid::now_v7()));
        crate::private_files::replace(&path, format!("# who\n\nbot:read:{SECRET}b\n").as_bytes())
            .expect("written");
        let list = format!("claude:full:{SECRET}, painel:read:{SECRET}a");
        let file = path.to_string_lossy().into_owned();
        let settings = load(&[("SLUICE_HTTP_TOKENS", &list), ("SLUICE_HTTP_TOKENS_FILE", &file)]);
        std::fs::remove_file(&path).expect("removed");
        let settings = settings.expect("valid settings");
        let seen: Vec<(&str, bool)> =
            settings.tokens.iter().map(|token| (token.name.as_str(), token.read_only)).collect();
        assert_eq!(seen, [("claude", false), ("painel", true), ("bot", true)]);
        assert_eq!(settings.tokens[0].secret.expose_secret(), SECRET);
        assert!(!format!("{settings:?}").contains("segredo"));
    }

    #[test]
    fn a_wrong_token_is_told_by_its_number_and_never_shown() {
        for wrong in [
            "segredo".to_owned(),
            format!("{SECRET}:full"),
            format!("a:admin:{SECRET}"),
            "a:full:segredo".to_owned(),
            format!("a b:full:{SECRET}"),
            format!("a:full:{SECRET} {SECRET}"),
        ] {
            let text = load(&[("SLUICE_HTTP_TOKENS", &wrong)]).expect_err("a wrong token").to_string();
            assert!(text.contains("SLUICE_HTTP_TOKENS: token 1"), "{text}");
            assert!(!text.contains("segredo"), "{text}");
        }
        for (twice, what) in [
            (format!("a:full:{SECRET},a:read:{SECRET}2"), "name"),
            (format!("a:full:{SECRET},b:read:{SECRET}"), "secret"),
        ] {
            let text = load(&[("SLUICE_HTTP_TOKENS", &twice)]).expect_err("one of two").to_string();
            assert!(text.contains(&format!("every token needs a {what} of its own")), "{text}");
        }
        assert!(load(&[("SLUICE_HTTP_TOKENS_FILE", "/nowhere/tokens")]).is_err());
    }

    #[test]
    fn tokens_that_are_none_do_not_leave_the_server_open() {
        for list in [",", " , ,", ",,"] {
            let text = load(&[("SLUICE_HTTP_TOKENS", list)]).expect_err("no token").to_string();
            assert!(text.contains("SLUICE_HTTP_TOKENS: is set and names no token"), "{text}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        for content in ["", "\n \n", "# claude:full:later\n"] {
            crate::private_files::replace(&path, content.as_bytes()).expect("written");
            let file = path.to_string_lossy();
            let text = load(&[("SLUICE_HTTP_TOKENS_FILE", &file)]).expect_err("no token").to_string();
            assert!(text.contains("SLUICE_HTTP_TOKENS_FILE: is set and names no token"), "{text}");
        }
        let clients = [("SLUICE_TOKEN", "claude:full:segredo-de-32-letras-e-numeros-1")];
        let text = load(&clients).expect("readable settings").on(None).expect_err("no server's").to_string();
        assert!(text.contains("did you mean SLUICE_HTTP_TOKENS?") && !text.contains("segredo"), "{text}");
        let tokens = format!("claude:full:{SECRET}");
        let both = [("SLUICE_TOKEN", SECRET), ("SLUICE_HTTP_TOKENS", tokens.as_str())];
        assert!(load(&both).expect("valid settings").on(None).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_tokens_is_for_its_owner_alone_unless_a_link_leads_to_it() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("tokens"), folder.path().join("link"));
        std::fs::write(&path, format!("claude:full:{SECRET}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("permissions");
        symlink(&path, &link).expect("a link");
        let refused = |path: &std::path::Path| {
            load(&[("SLUICE_HTTP_TOKENS_FILE", &path.to_string_lossy())])
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert!(refused(&path).expect_err("open to all").contains("chmod 600"));
        assert_eq!(refused(&link), Ok(()), "what a cluster mounts is a link to a file that others can read");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("permissions");
        assert!(refused(&link).expect_err("others can write it").contains("chmod go-w"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        assert_eq!((refused(&path), refused(&link)), (Ok(()), Ok(())));
    }

    #[test]
    fn addresses_hosts_and_origins_are_checked() {
        assert_eq!(parse_address("9000"), Ok(SocketAddr::new(ADDRESS.ip(), 9000)));
        assert_eq!(parse_address("localhost:9000"), parse_address("127.0.0.1:9000"));
        assert!(parse_address("[::1]:80").is_ok() && parse_address("example.com:80").is_err());
        for (name, value) in [
            ("SLUICE_HTTP_ADDRESS", "nada"),
            ("SLUICE_HTTP_ALLOWED_HOSTS", "https://sluice.example"),
            ("SLUICE_HTTP_ALLOWED_HOSTS", "*"),
            ("SLUICE_HTTP_ALLOWED_ORIGINS", "sluice.example"),
            ("SLUICE_HTTP_MAX_BODY_KIB", "0"),
            ("SLUICE_HTTP_REQUESTS_PER_SECOND", "-1"),
            ("SLUICE_HTTP_PUBLIC_URL", "sluice.example"),
            ("SLUICE_HTTP_PAGES_MAY_WRITE", "perhaps"),
        ] {
            let text = load(&[(name, value)]).expect_err("a problem").to_string();
            assert!(text.contains(&format!("{name}:")), "{text}");
        }
        let settings = load(&[("SLUICE_HTTP_ALLOWED_HOSTS", "sluice.example")]).expect("valid settings");
        assert!(settings.allowed_hosts.iter().any(|host| host.matches("sluice.example:443")));
        let settings =
            load(&[("SLUICE_HTTP_PUBLIC_URL", "https://sluice.example/a")]).expect("valid settings");
        assert!(settings.allowed_hosts.iter().any(|host| host.matches("sluice.example")), "clients use it");
    }
}
