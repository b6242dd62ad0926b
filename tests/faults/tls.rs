//! Certificates, and a door that speaks TLS in front of a server that does not.

use std::path::PathBuf;

use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_native_tls::{TlsAcceptor, TlsStream, native_tls};

use crate::support::folder::TestFolder;

/// An authority that nobody trusts unasked, and the certificate that it gave to this machine.
pub struct Certificates {
    folder: TestFolder,
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

fn named(name: &str) -> X509Name {
    let mut named = X509NameBuilder::new().expect("a name");
    named.append_entry_by_text("CN", name).expect("a name");
    named.build()
}

fn begun(subject: &X509Name, issuer: &X509Name, key: &PKey<Private>) -> X509Builder {
    let mut serial = BigNum::new().expect("a number");
    serial.rand(128, MsbOption::MAYBE_ZERO, false).expect("a number");
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    builder.set_serial_number(&serial.to_asn1_integer().expect("a number")).expect("a number");
    builder.set_subject_name(subject).expect("a name");
    builder.set_issuer_name(issuer).expect("a name");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::days_from_now(2).expect("a time")).expect("a time");
    builder.set_pubkey(key).expect("a key");
    builder
}

impl Certificates {
    pub fn new() -> Self {
        let (authority_key, key) = (new_key(), new_key());
        let (authority_name, name) = (named("sluice's tests"), named("localhost"));
        let mut authority = begun(&authority_name, &authority_name, &authority_key);
        let is_authority = BasicConstraints::new().critical().ca().build().expect("an extension");
        authority.append_extension(is_authority).expect("an extension");
        authority.sign(&authority_key, MessageDigest::sha256()).expect("signed");
        let authority = authority.build();
        let mut certificate = begun(&name, &authority_name, &key);
        let context = certificate.x509v3_context(Some(&authority), None);
        let names = SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").build(&context);
        certificate.append_extension(names.expect("names")).expect("an extension");
        certificate.sign(&authority_key, MessageDigest::sha256()).expect("signed");
        let made = Self {
            folder: TestFolder::new(),
            certificate: certificate.build().to_pem().expect("PEM"),
            key: key.private_key_to_pem_pkcs8().expect("PEM"),
        };
        std::fs::write(made.authority(), authority.to_pem().expect("PEM")).expect("written");
        let whole = [&made.key[..], &made.certificate[..]].concat();
        std::fs::write(made.keystore(), whole).expect("written");
        made
    }

    /// The authority's file.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A file with key and certificate.
    pub fn keystore(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }
}

/// Ends TLS and passes on what comes, to a server that need not speak it.
pub struct Door {
    pub address: String,
    task: JoinHandle<()>,
}

impl Door {
    /// To `target`, a host and a port. Where `asks` is given, each connection's first request must hold that header.
    pub async fn to(target: &str, certificates: &Certificates, asks: Option<&'static str>) -> Self {
        let identity = native_tls::Identity::from_pkcs8(&certificates.certificate, &certificates.key);
        let acceptor = native_tls::TlsAcceptor::new(identity.expect("an identity")).expect("an acceptor");
        let acceptor = TlsAcceptor::from(acceptor);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let target = target.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate hangs up here.
                    let Ok(client) = acceptor.accept(client).await else { return };
                    pass(client, &target, asks).await.ok();
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TlsStream<TcpStream>, target: &str, asks: Option<&str>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    if let Some(header) = asks {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        if !text.lines().any(|line| line.eq_ignore_ascii_case(header)) {
            let refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            client.write_all(refusal).await?;
            return client.shutdown().await;
        }
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
