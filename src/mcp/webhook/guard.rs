//! Keeps webhooks from addresses that only this machine or its network can reach: what answers there trusts who can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Those of the internet.
    Public,
    /// Those that only this machine and its network reach: what goes there needs no TLS.
    Private,
    Any,
}

/// An address that may not be connected to. Neither it nor the name that led there is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Forbidden {
    #[error(
        "its address is not one of the internet (but of this machine, its network or a cloud's inside); \
         SLUICE_ALERT_ALLOW_PRIVATE=true allows that"
    )]
    Private,
    #[error("its address is one of the internet, where http is read by others; use https")]
    Public,
}

impl Allowed {
    /// # Errors
    /// When the address may not be connected to.
    pub(super) fn check(self, address: IpAddr) -> Result<(), Forbidden> {
        match (self, is_public(address)) {
            (Self::Public, false) => Err(Forbidden::Private),
            (Self::Private, true) => Err(Forbidden::Public),
            _ => Ok(()),
        }
    }

    /// An address that is written out is never looked up: it is checked here.
    ///
    /// # Errors
    /// When it may not be connected to.
    pub(super) fn check_literal(self, url: &Url) -> Result<(), Forbidden> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            _ => Ok(()),
        }
    }
}

/// Looks names up and lets only through what may be connected to: the client connects to what it is given here and to
/// nothing else, so that a name can't lead elsewhere between the check and the connection.
pub(super) struct Resolver(pub(super) Allowed);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // A name with one bad address among good ones is not to be trusted.
            found.iter().try_for_each(|address| allowed.check(address.ip()))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match a {
        // This network, private, loopback; multicast, reserved, broadcast.
        0 | 10 | 127 | 224.. => true,
        // Carriers' own.
        100 => (64..128).contains(&b),
        // Link-local, among them what clouds answer their machines at.
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => matches!((b, c), (168, _) | (0, 0 | 2) | (88, 99)),
        // Benchmarks, documentation.
        198 => matches!(b, 18 | 19) || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64 and 6to4 carry an address of the older kind.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => inner(high, low),
        // Protocols' own, Teredo among them; documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything else that is routed; not loopback, link-local, unique local or multicast.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_or_its_network_reaches_is_not_public() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            let parsed: IpAddr = address.parse().expect("an address");
            assert!(!is_public(parsed), "{address}");
            assert!(
                Allowed::Public.check(parsed).is_err() && Allowed::Private.check(parsed).is_ok(),
                "{address}"
            );
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public_and_never_without_tls() {
        for address in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            let parsed: IpAddr = address.parse().expect("an address");
            assert!(is_public(parsed), "{address}");
            assert!(
                Allowed::Public.check(parsed).is_ok() && Allowed::Private.check(parsed).is_err(),
                "{address}"
            );
        }
    }

    #[test]
    fn an_address_in_any_spelling_that_a_url_takes_is_checked() {
        for url in [
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://[::ffff:7f00:1]/",
            "https://0177.0.0.1/",
        ] {
            let url = Url::parse(url).expect("a URL");
            assert!(Allowed::Public.check_literal(&url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_looked_up() {
        let name = || "localhost".parse::<Name>().expect("a name");
        let refused = Resolver(Allowed::Public).resolve(name()).await.err().expect("refused");
        assert!(refused.downcast_ref::<Forbidden>().is_some(), "{refused}");
        assert!(Resolver(Allowed::Any).resolve(name()).await.is_ok());
    }
}
