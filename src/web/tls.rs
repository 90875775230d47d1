//! TLS as the web configuration wants it.

use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{self, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslOptions, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref};

use super::config::{ClientAuth, Pem, Tls};

/// Reads the files and makes a context for connections. Errors name the key and the file.
pub fn context(tls: &Tls) -> Result<SslContext, String> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(|e| failed("", &e))?;
    let set = |key: &'static str| move |e: ErrorStack| failed(key, &e);
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

fn certificate(builder: &mut SslAcceptorBuilder, tls: &Tls) -> Result<(), String> {
    let (name, pem) = tls.certificate.read()?;
    let chain = X509::stack_from_pem(&pem).map_err(|e| failed(&name, &e))?;
    let Some((own, chain)) = chain.split_first() else {
        return Err(format!("{name}: holds no certificate in PEM"));
    };
    builder.set_certificate(own).map_err(|e| failed(&name, &e))?;
    for certificate in chain {
        builder.add_extra_chain_cert(certificate.clone()).map_err(|e| failed(&name, &e))?;
    }
    let (name, pem) = tls.key.read()?;
    // With a callback, a key that has a password is an error instead of a question at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
        .map_err(|_| format!("{name}: holds no private key in PEM without a password"))?;
    let fits = builder.set_private_key(&key).and_then(|()| builder.check_private_key());
    fits.map_err(|_| format!("{name}: is not the key of the certificate"))
}

fn clients(builder: &mut SslAcceptorBuilder, tls: &Tls) -> Result<(), String> {
    let (mode, verifies) = match tls.client_auth {
        ClientAuth::No => return Ok(()),
        ClientAuth::Request => (SslVerifyMode::PEER, false),
        ClientAuth::RequireAny => (SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, false),
        ClientAuth::VerifyIfGiven => (SslVerifyMode::PEER, true),
        ClientAuth::RequireAndVerify => (SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, true),
    };
    // Sessions are resumed only within this context: one made anew has other keys for tickets.
    builder.set_session_id_context(b"rsolv-exporter").map_err(|e| failed("client_auth_type", &e))?;
    if let Some(pem) = &tls.client_ca {
        let (name, pem) = pem.read()?;
        let authorities = X509::stack_from_pem(&pem).map_err(|e| failed(&name, &e))?;
        if authorities.is_empty() {
            return Err(format!("{name}: holds no certificate in PEM"));
        }
        let mut store = X509StoreBuilder::new().map_err(|e| failed(&name, &e))?;
        for authority in authorities {
            builder.add_client_ca(&authority).map_err(|e| failed(&name, &e))?;
            store.add_cert(authority).map_err(|e| failed(&name, &e))?;
        }
        builder.set_verify_cert_store(store.build()).map_err(|e| failed(&name, &e))?;
    }
    let allowed = tls.client_allowed_sans.clone();
    builder.set_verify_callback(mode, move |good, store| {
        let is_own = store.error_depth() == 0;
        let is_allowed = || store.current_cert().is_some_and(|certificate| is_for(certificate, &allowed));
        !verifies || good && (!is_own || allowed.is_empty() || is_allowed())
    });
    Ok(())
}

/// Whether a certificate is for one of these names, addresses or URIs.
fn is_for(certificate: &X509Ref, allowed: &[String]) -> bool {
    let names = certificate.subject_alt_names();
    names.iter().flatten().any(|name| {
        let text = name.dnsname().or_else(|| name.email()).or_else(|| name.uri());
        let address = name.ipaddress().and_then(|bytes| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        });
        allowed.iter().any(|a| text == Some(a) || address.is_some_and(|address| a.parse() == Ok(address)))
    })
}

/// Restricts the cipher suites to these, named as the standards and Go do.
fn ciphers(builder: &mut SslAcceptorBuilder, names: &[String]) -> Result<(), String> {
    let (new, old): (Vec<_>, Vec<_>) = names.iter().partition(|name| !name.contains("_WITH_"));
    let wrong = |name: &str| format!("cipher_suites: \"{name}\" is not supported");
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
    fn read(&self) -> Result<(String, Vec<u8>), String> {
        match self {
            Self::Inline(key, text) => Ok(((*key).to_owned(), text.0.clone().into_bytes())),
            Self::File(key, path) => {
                let name = format!("{key} {}", path.display());
                let text = std::fs::read(path).map_err(|e| format!("{key}: cannot read {}: {e}", path.display()))?;
                Ok((name, text))
            }
        }
    }
}

/// The library's reason without its file names and line numbers.
fn failed(key: &str, error: &ErrorStack) -> String {
    let reasons: Vec<&str> = error.errors().iter().filter_map(openssl::error::Error::reason).collect();
    let reasons = if reasons.is_empty() { "cannot be used".to_owned() } else { reasons.join(", ") };
    if key.is_empty() { reasons } else { format!("{key}: {reasons}") }
}
