//! TLS to PostgreSQL, by OpenSSL: the library that libpq uses, so that what it trusts is trusted here as well.

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use postgres_openssl::MakeTlsConnector;

use super::address::{Mode, Tls};

/// A connector for these parameters. Files are read now, so that new certificates count from the next connection on.
pub fn connector(tls: &Tls) -> Result<MakeTlsConnector, String> {
    let say = |what: String| move |e: openssl::error::ErrorStack| format!("{what}: {}", reason(&e));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(say("cannot use TLS".to_owned()))?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(say("cannot use TLS 1.2".to_owned()))?;
    // As in libpq, a root certificate turns "require" into "verify-ca".
    let verify = match tls.mode {
        Mode::VerifyFull | Mode::VerifyCa => true,
        Mode::Require => tls.root.is_some(),
        Mode::Disable | Mode::Prefer => false,
    };
    if !verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if let Some(root) = tls.root.as_ref().filter(|_| verify) {
        // Only these, and not the system's as well.
        let store = openssl::x509::store::X509StoreBuilder::new().map_err(say("cannot use TLS".to_owned()))?;
        builder.set_cert_store(store.build());
        builder.set_ca_file(root).map_err(say(format!("cannot read sslrootcert {}", root.display())))?;
    }
    if let Some(cert) = &tls.cert {
        builder.set_certificate_chain_file(cert).map_err(say(format!("cannot read sslcert {}", cert.display())))?;
    }
    if let Some(key) = &tls.key {
        let shown = format!("cannot use sslkey {} (its password, if it has one, cannot be given)", key.display());
        builder.set_private_key_file(key, SslFiletype::PEM).map_err(say(shown))?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    if tls.mode != Mode::VerifyFull {
        connector.set_callback(|config, _| {
            config.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

/// The first reason of OpenSSL's list, without file and line in its sources.
fn reason(errors: &openssl::error::ErrorStack) -> String {
    let first = errors.errors().first();
    first.and_then(|e| e.reason()).map_or_else(|| "unknown reason".to_owned(), ToOwned::to_owned)
}
