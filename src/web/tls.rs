//! TLS as the web configuration wants it.

use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{self, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslOptions, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{GeneralNameRef, X509, X509Ref};

use super::config::{ClientAuth, Pem, Tls};
use crate::tls_error::reasons;

/// What of `tls_server_config` cannot be used: the key, the file, and why.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// OpenSSL refuses it.
    #[error("{key}{}{}", if key.is_empty() { "" } else { ": " }, reasons(.errors).unwrap_or_else(|| "cannot be used".to_owned()))]
    Refused {
        /// The key, with its file.
        key: String,
        /// What OpenSSL says.
        errors: ErrorStack,
    },
    /// It is not what the key asks for.
    #[error("{0}: {1}")]
    Wrong(String, &'static str),
    /// A file cannot be read.
    #[error("{key}: cannot read {path}: {error}")]
    Unreadable {
        /// The key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// No such cipher suite.
    #[error("cipher_suites: \"{0}\" is not supported")]
    Cipher(String),
}

/// Reads the files and makes a context for connections. Errors name the key and the file.
pub fn context(tls: &Tls) -> Result<SslContext, InvalidTls> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(|e| failed("", e))?;
    let set = |key: &'static str| move |e: ErrorStack| failed(key, e);
    builder.set_min_proto_version(Some(tls.min_version)).map_err(set("min_version"))?;
    builder.set_max_proto_version(Some(tls.max_version)).map_err(set("max_version"))?;
    if tls.prefer_server_cipher_suites {
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    ciphers(&mut builder, &tls.cipher_suites)?;
    if !tls.curves.is_empty() {
        builder.set_groups_list(&tls.curves.join(":")).map_err(set("curve_preferences"))?;
    }
    certificate(&mut builder, tls)?;
    clients(&mut builder, tls)?;
    // Only HTTP/1.1 is spoken; a client that insists on something else is refused as the standard says.
    builder.set_alpn_select_callback(|_, offered| {
        ssl::select_next_proto(b"\x08http/1.1", offered).ok_or(ssl::AlpnError::ALERT_FATAL)
    });
    Ok(builder.build().into_context())
}

fn certificate(builder: &mut SslAcceptorBuilder, tls: &Tls) -> Result<(), InvalidTls> {
    let (name, pem) = tls.certificate.read()?;
    let chain = X509::stack_from_pem(&pem).map_err(|e| failed(&name, e))?;
    let Some((own, chain)) = chain.split_first() else {
        return Err(InvalidTls::Wrong(name, "holds no certificate in PEM"));
    };
    builder.set_certificate(own).map_err(|e| failed(&name, e))?;
    for certificate in chain {
        builder.add_extra_chain_cert(certificate.clone()).map_err(|e| failed(&name, e))?;
    }
    let (name, pem) = tls.key.read()?;
    // With a callback, a key that has a password is an error instead of a question at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
        .map_err(|_| InvalidTls::Wrong(name.clone(), "holds no private key in PEM without a password"))?;
    let fits = builder.set_private_key(&key).and_then(|()| builder.check_private_key());
    fits.map_err(|_| InvalidTls::Wrong(name, "is not the key of the certificate"))
}

fn clients(builder: &mut SslAcceptorBuilder, tls: &Tls) -> Result<(), InvalidTls> {
    let (mode, verifies) = match tls.client_auth {
        ClientAuth::No => return Ok(()),
        ClientAuth::Request => (SslVerifyMode::PEER, false),
        ClientAuth::RequireAny => (SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, false),
        ClientAuth::VerifyIfGiven => (SslVerifyMode::PEER, true),
        ClientAuth::RequireAndVerify => (SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, true),
    };
    // Sessions are resumed only within this context: one made anew has other keys for tickets.
    builder.set_session_id_context(b"rsolv-exporter").map_err(|e| failed("client_auth_type", e))?;
    if let Some(pem) = &tls.client_ca {
        let (name, pem) = pem.read()?;
        let authorities = X509::stack_from_pem(&pem).map_err(|e| failed(&name, e))?;
        if authorities.is_empty() {
            return Err(InvalidTls::Wrong(name, "holds no certificate in PEM"));
        }
        let mut store = X509StoreBuilder::new().map_err(|e| failed(&name, e))?;
        for authority in authorities {
            builder.add_client_ca(&authority).map_err(|e| failed(&name, e))?;
            store.add_cert(authority).map_err(|e| failed(&name, e))?;
        }
        builder.set_verify_cert_store(store.build()).map_err(|e| failed(&name, e))?;
    }
    let allowed = tls.client_allowed_sans.clone();
    builder.set_verify_callback(mode, move |good, store| {
        let is_own = store.error_depth() == 0;
        let is_allowed = || store.current_cert().is_some_and(|certificate| is_for(certificate, &allowed));
        !verifies || good && (!is_own || allowed.is_empty() || is_allowed())
    });
    Ok(())
}

/// True if a certificate is for one of these names, addresses or URIs.
fn is_for(certificate: &X509Ref, allowed: &[String]) -> bool {
    let names = certificate.subject_alt_names();
    names.iter().flatten().any(|name| allowed.iter().any(|allowed| is_same(name, allowed)))
}

/// True if a name in a certificate is the one that is allowed. What that looks like says of which kind it is: an authority
/// that lets people choose their e-mail address does not let them choose a host's name.
fn is_same(name: &GeneralNameRef, allowed: &str) -> bool {
    if let Ok(address) = allowed.parse::<IpAddr>() {
        return match (name.ipaddress(), address) {
            (Some(bytes), IpAddr::V4(address)) => bytes == address.octets(),
            (Some(bytes), IpAddr::V6(address)) => bytes == address.octets(),
            (None, _) => false,
        };
    }
    if allowed.contains(':') {
        name.uri() == Some(allowed)
    } else if allowed.contains('@') {
        name.email() == Some(allowed)
    } else {
        name.dnsname().is_some_and(|name| name.eq_ignore_ascii_case(allowed))
    }
}

/// Restricts the cipher suites to these, named as the standards and Go do.
fn ciphers(builder: &mut SslAcceptorBuilder, names: &[String]) -> Result<(), InvalidTls> {
    let (new, old): (Vec<_>, Vec<_>) = names.iter().partition(|name| !name.contains("_WITH_"));
    let wrong = |name: &str| InvalidTls::Cipher(name.to_owned());
    if !new.is_empty() {
        let list: Vec<&str> = new.iter().map(|name| name.as_str()).collect();
        builder.set_ciphersuites(&list.join(":")).map_err(|_| wrong(&list.join("\", \"")))?;
    }
    let mut list = Vec::new();
    for name in old {
        // Go leaves the hash away from two of them.
        let found =
            [name.clone(), format!("{name}_SHA256")].iter().map(|name| ssl::cipher_name(name)).find(|n| *n != "(NONE)");
        list.push(found.ok_or_else(|| wrong(name))?);
    }
    if !list.is_empty() {
        builder.set_cipher_list(&list.join(":")).map_err(|_| wrong(&list.join("\", \"")))?;
    }
    Ok(())
}

impl Pem {
    /// What errors call it, and the text.
    fn read(&self) -> Result<(String, Vec<u8>), InvalidTls> {
        match self {
            Self::Inline(key, text) => Ok(((*key).to_owned(), text.0.clone().into_bytes())),
            Self::File(key, path) => {
                let name = format!("{key} {}", path.display());
                let unreadable = |error| InvalidTls::Unreadable { key, path: path.display().to_string(), error };
                let text = std::fs::read(path).map_err(unreadable)?;
                Ok((name, text))
            }
        }
    }
}

fn failed(key: &str, errors: ErrorStack) -> InvalidTls {
    InvalidTls::Refused { key: key.to_owned(), errors }
}

#[cfg(test)]
mod tests {
    use openssl::x509::extension::SubjectAlternativeName;

    use super::*;

    /// Adds a name of a kind.
    type Add = fn(&mut SubjectAlternativeName, &str);

    /// A certificate for one name.
    fn certificate(fill: impl FnOnce(&mut SubjectAlternativeName)) -> X509 {
        let mut builder = X509::builder().unwrap();
        let mut names = SubjectAlternativeName::new();
        fill(&mut names);
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.build()
    }

    #[test]
    fn an_allowed_name_is_one_of_its_own_kind() {
        let kinds: [(&str, Add); 4] = [
            ("dns", |names, name| _ = names.dns(name)),
            ("email", |names, name| _ = names.email(name)),
            ("uri", |names, name| _ = names.uri(name)),
            ("ip", |names, name| _ = names.ip(name)),
        ];
        for (own, allowed) in [
            ("dns", "prometheus.example"),
            ("email", "prometheus@example.com"),
            ("uri", "spiffe://example.com/prometheus"),
            ("uri", "urn:prometheus"),
            ("ip", "192.0.2.1"),
            ("ip", "2001:db8::1"),
        ] {
            for (kind, add) in kinds {
                // Nothing else is an address.
                if kind == "ip" && own != "ip" {
                    continue;
                }
                let certificate = certificate(|names| add(names, allowed));
                assert_eq!(is_for(&certificate, &[allowed.to_owned()]), kind == own, "{allowed} as {kind}");
                assert!(!is_for(&certificate, &["other.example".to_owned(), "192.0.2.2".to_owned()]));
            }
        }
        let certificate = certificate(|names| _ = names.dns("Prometheus.Example"));
        assert!(is_for(&certificate, &["x".to_owned(), "prometheus.example".to_owned()]));
    }
}
