//! TLS to PostgreSQL, by OpenSSL: the library that libpq uses, so that what it trusts is trusted here as well.

mod stream;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslConnector, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509StoreContextRef, X509VerifyResult};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::TlsConnect;

use super::address::{Mode, Tls};
use crate::tls_error::reasons;
use stream::Stream;

/// `X509_V_ERR_IP_ADDRESS_MISMATCH`, for which the bindings have no name.
const IP_ADDRESS_MISMATCH: i32 = 64;

/// TLS with these parameters to a server of this name, prepared when a server has agreed to it: reading the system's
/// certificates takes longer than all the rest of a connection. Files are read then, so that new certificates count from
/// the next connection on.
#[derive(Debug)]
pub struct Connector<'a> {
    /// The parameters.
    pub tls: &'a Tls,
    /// The name that the server's certificate must have.
    pub host: &'a str,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector<'_> {
    type Stream = Stream<S>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Stream<S>, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let ssl = ssl(self.tls, self.host);
        Box::pin(async move { Stream::connect(ssl?, stream).await })
    }
}

/// Looks whether the files that these parameters name can be used.
pub fn check(tls: &Tls) -> Result<(), UnusableTls> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_client()).map_err(refused("cannot use TLS".to_owned()))?;
    configure(&mut builder, tls)
}

/// What of TLS cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum UnusableTls {
    /// OpenSSL refuses it.
    #[error("{what}: {}", reasons(.errors).unwrap_or_else(|| "unknown reason".to_owned()))]
    Refused {
        /// What OpenSSL was asked for.
        what: String,
        /// What it says.
        errors: ErrorStack,
    },
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
    /// The directory of revoked certificates has a name that OpenSSL's bindings do not take.
    #[error("cannot use {0}: its name is not UTF-8")]
    Name(String),
    /// The file of the key holds none.
    #[error("{0}: it is no private key, or sslpassword is not its password")]
    Key(String),
}

fn refused(what: String) -> impl FnOnce(ErrorStack) -> UnusableTls {
    |errors| UnusableTls::Refused { what, errors }
}

fn configure(builder: &mut SslContextBuilder, tls: &Tls) -> Result<(), UnusableTls> {
    let unusable = || refused("cannot use TLS".to_owned());
    let [min, max] = tls.versions;
    builder.set_min_proto_version(min).map_err(unusable())?;
    builder.set_max_proto_version(max).map_err(unusable())?;
    if tls.direct {
        // A server demands it of who does not ask it for TLS first.
        builder.set_alpn_protos(b"\x0apostgresql").map_err(unusable())?;
    }
    // As in libpq, a root certificate turns "require" into "verify-ca", and "prefer" into TLS with a trusted certificate
    // or no TLS.
    let verify = tls.root.is_some() || matches!(tls.mode, Mode::VerifyFull | Mode::VerifyCa);
    if !verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if let Some(root) = &tls.root {
        // Only these, and not the system's as well.
        let store = openssl::x509::store::X509StoreBuilder::new().map_err(unusable())?;
        builder.set_cert_store(store.build());
        let shown = readable("sslrootcert", root)?;
        builder.set_ca_file(root).map_err(refused(format!("cannot read {shown}")))?;
    }
    revoke(builder, tls)?;
    if let Some(cert) = &tls.cert {
        let shown = readable("sslcert", cert)?;
        builder.set_certificate_chain_file(cert).map_err(refused(format!("cannot read {shown}")))?;
    }
    if let Some(file) = &tls.key {
        let shown = format!("cannot use {}", readable("sslkey", file)?);
        let key = private_key(file, &tls.password.0).ok_or_else(|| UnusableTls::Key(shown.clone()))?;
        builder.set_private_key(&key).map_err(refused(shown))?;
    }
    Ok(())
}

/// Refuses the certificates on the lists of revoked ones.
fn revoke(builder: &mut SslContextBuilder, tls: &Tls) -> Result<(), UnusableTls> {
    let [file, directory] = &tls.revoked;
    let store = builder.cert_store_mut();
    if let Some(file) = file {
        let shown = readable("sslcrl", file)?;
        let lookup = store.add_lookup(X509Lookup::file());
        let load = lookup.and_then(|lookup| lookup.load_crl_file(file, SslFiletype::PEM));
        load.map_err(refused(format!("cannot read {shown}")))?;
    }
    if let Some(directory) = directory {
        let shown = readable("sslcrldir", directory)?;
        let name = directory.to_str().ok_or_else(|| UnusableTls::Name(shown.clone()))?;
        let lookup = store.add_lookup(X509Lookup::hash_dir());
        let add = lookup.and_then(|lookup| lookup.add_dir(name, SslFiletype::PEM));
        add.map_err(refused(format!("cannot read {shown}")))?;
    }
    match (file, directory) {
        (None, None) => Ok(()),
        _ => store
            .set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
            .map_err(refused("cannot use TLS".to_owned())),
    }
}

/// The key in a file, PEM or DER as in libpq. OpenSSL would ask the terminal for a password that is not given.
fn private_key(file: &Path, password: &str) -> Option<PKey<Private>> {
    let text = std::fs::read(file).ok()?;
    let pem = PKey::private_key_from_pem_passphrase(&text, password.as_bytes());
    pem.or_else(|_| PKey::private_key_from_der(&text)).ok()
}

fn ssl(tls: &Tls, host: &str) -> Result<Ssl, UnusableTls> {
    let unusable = || refused("cannot use TLS".to_owned());
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(unusable())?;
    configure(&mut builder, tls)?;
    let mut config = builder.build().configure().map_err(unusable())?;
    let full = tls.mode == Mode::VerifyFull;
    config.set_verify_hostname(full);
    // An address without a name is nothing to send.
    config.set_use_server_name_indication(tls.sni && !host.is_empty());
    if full && host.parse::<IpAddr>().is_ok() {
        let host = host.to_owned();
        config.set_verify_callback(SslVerifyMode::PEER, move |good, context| good || is_named(context, &host));
    }
    config.into_ssl(host).map_err(unusable())
}

/// True if all that is wrong with a certificate is that it has the server's address for a common name, and no other
/// names, as one made by the documentation's command has: good enough for libpq.
fn is_named(context: &mut X509StoreContextRef, address: &str) -> bool {
    let is_other_address = context.error().as_raw() == IP_ADDRESS_MISMATCH;
    let named = context.current_cert().filter(|_| is_other_address).is_some_and(|certificate| {
        let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        certificate.subject_alt_names().is_none() && names.any(|name| name.data().as_slice() == address.as_bytes())
    });
    if named {
        context.set_error(X509VerifyResult::OK);
    }
    named
}

/// The parameter and its file, which can be opened: OpenSSL does not say why it could not.
fn readable(parameter: &str, path: &Path) -> Result<String, UnusableTls> {
    let shown = format!("{parameter} {}", path.display());
    match std::fs::File::open(path) {
        Ok(_) => Ok(shown),
        Err(e) => Err(UnusableTls::Unreadable(shown, e)),
    }
}
