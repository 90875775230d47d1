//! OpenSSL's errors in its own words, without places in its sources. Pure.

use openssl::error::{Error, ErrorStack};

/// OpenSSL's errors in a text reduced to their reasons: `error:CODE:library:function:reason:file:line:data`.
pub fn shorten(text: &str) -> String {
    let Some((before, rest)) = text.split_once("error:") else { return text.to_owned() };
    let fields: Vec<&str> = rest.splitn(7, ':').collect();
    match fields[..] {
        [code, _, _, reason, _, _, data] if code.len() == 8 && code.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let data = shorten(data.trim_start_matches([':', ',', ' ']));
            format!("{before}{reason}{}{data}", if data.is_empty() { "" } else { ": " })
        }
        _ => text.to_owned(),
    }
}

/// The reasons of a list of errors, if there are any.
pub fn reasons(errors: &ErrorStack) -> Option<String> {
    let reasons: Vec<&str> = errors.errors().iter().filter_map(Error::reason).collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_without_places_in_openssls_sources() {
        let refused = "handshake: error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify \
                       failed:../ssl/statem/statem_clnt.c:1889:: self-signed certificate";
        assert_eq!(shorten(refused), "handshake: certificate verify failed: self-signed certificate");
        let two = format!("error:03000098:digital envelope routines:f:EVP lib:a.c:1:, {refused}");
        assert_eq!(shorten(&two), "EVP lib: handshake: certificate verify failed: self-signed certificate");
        assert_eq!(shorten("an error: of another kind"), "an error: of another kind");
    }
}
