//! What a changed web configuration would no longer protect.
//!
//! An emptied file, or one that ends in the middle of a write, is good YAML and asks for nothing. So protection that was
//! in force goes only by a restart.

use openssl::ssl::SslVersion;

use super::{ClientAuth, Tls, WebConfig};

/// What `new` lacks of the protection of `old`, by key.
pub fn losses(old: &WebConfig, new: &WebConfig) -> Vec<String> {
    let mut losses = Vec::new();
    let mut check = |is_lost: bool, key: &str, what: &str| {
        if is_lost {
            losses.push(format!("{key}: {what}"));
        }
    };
    match (&old.tls, &new.tls) {
        (Some(_), None) => check(true, "tls_server_config", "TLS would be off"),
        (Some(old), Some(new)) => {
            let is_lost = |has: fn(&Tls) -> bool| has(old) && !has(new);
            let is_for_names = |tls: &Tls| !tls.client_allowed_sans.is_empty();
            let wants_12 = |tls: &Tls| tls.min_version == SslVersion::TLS1_2;
            for (is_lost, key, what) in [
                (is_lost(requires), "client_auth_type", "clients would need no certificate"),
                (is_lost(Tls::verifies), "client_auth_type", "certificates of clients would not be verified"),
                (is_lost(is_for_names), "client_allowed_sans", "certificates for any name would do"),
                (!wants_12(old) && wants_12(new), "min_version", "older versions of TLS would be offered"),
                (is_lost(|tls| !tls.cipher_suites.is_empty()), "cipher_suites", "any would be offered"),
                (is_lost(|tls| !tls.curves.is_empty()), "curve_preferences", "any would be offered"),
            ] {
                check(is_lost, &format!("tls_server_config.{key}"), what);
            }
        }
        (None, _) => {}
    }
    check(!old.users.is_empty() && new.users.is_empty(), "basic_auth_users", "nobody would need a password");
    check(old.rate.is_some() && new.rate.is_none(), "rate_limit", "there would be none");
    for name in old.headers.keys() {
        check(!new.headers.contains_key(name), &format!("http_server_config.headers.{name}"), "would not be sent");
    }
    losses
}

fn requires(tls: &Tls) -> bool {
    matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

    fn full() -> String {
        format!(
            "basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n\
             rate_limit:\n  interval: 1s\n  burst: 20\n\
             tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c\n  min_version: TLS13\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans:\n  - x\n  cipher_suites:\n  - y\n  \
             curve_preferences:\n  - X25519\n"
        )
    }

    fn losses_of(old: &str, new: &str) -> Result<Vec<String>, Vec<String>> {
        let parse = |text: &str| WebConfig::parse(text, Path::new("/"));
        Ok(losses(&parse(old)?, &parse(new)?))
    }

    #[test]
    fn whatever_is_taken_away_is_named() {
        let all = full();
        let rest = "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c, \
                    client_auth_type: VerifyClientCertIfGiven}\n";
        let said = [losses_of(&all, "").unwrap(), losses_of(&all, rest).unwrap()].concat();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn nothing_is_lost_by_other_changes() {
        let all = full();
        let fewer = all.replace(&format!("  bob: {HASH}\n"), "").replace("interval: 1s", "interval: 2s");
        assert!(losses_of(&all, &fewer).unwrap().is_empty());
        assert!(losses_of("", &all).unwrap().is_empty() && losses_of(&all, &all).unwrap().is_empty());
    }

    /// However much of a file is there, it is an error, a loss, or everything.
    #[test]
    fn no_part_of_a_file_protects_less() {
        let all = full();
        for end in 0..all.len() - 1 {
            // The last value is a list: without its last item it would be stricter, and with a part of one an error.
            if let Ok(losses) = losses_of(&all, &all[..end]) {
                assert!(!losses.is_empty(), "cut at {end}: {}", &all[..end]);
            }
        }
    }
}
