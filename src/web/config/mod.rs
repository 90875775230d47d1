//! The file of `web.config_file`: TLS, users, headers and a rate limit, in the format of Prometheus' exporter-toolkit.
//!
//! What the toolkit knows and this exporter does not do is an error with a remedy, never ignored.

pub mod loss;
mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use openssl::ssl::SslVersion;
use saphyr::{LoadableYamlNode, Yaml};

use reader::{Reader, Section};

/// Headers that the file may set, as in the toolkit, with the values that are allowed where not all are.
const HEADERS: [(&str, &[&str]); 5] = [
    ("content-security-policy", &[]),
    ("x-frame-options", &["deny", "sameorigin"]),
    ("x-content-type-options", &["nosniff"]),
    ("x-xss-protection", &[]),
    ("strict-transport-security", &[]),
];

/// What the file says, checked; the files that it names have not been read.
#[derive(Debug, Default)]
pub struct WebConfig {
    /// TLS, if it is on.
    pub tls: Option<Tls>,
    /// Bcrypt hashes by user.
    pub users: BTreeMap<String, Secret>,
    /// Headers that every response gets.
    pub headers: HeaderMap,
    /// The rate limit: time between two requests, and how many may come at once.
    pub rate: Option<(Duration, u32)>,
}

/// `tls_server_config`
#[derive(Debug)]
pub struct Tls {
    /// The certificate with its chain.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
    /// Whose certificates clients may present.
    pub client_ca: Option<Pem>,
    /// Whether clients present certificates.
    pub client_auth: ClientAuth,
    /// If not empty, a client's certificate is for one of these names.
    pub client_allowed_sans: Vec<String>,
    /// The oldest version.
    pub min_version: SslVersion,
    /// The newest version.
    pub max_version: SslVersion,
    /// Cipher suites by their standard names; empty for the usual ones.
    pub cipher_suites: Vec<String>,
    /// True if the server's order of cipher suites counts.
    pub prefer_server_cipher_suites: bool,
    /// Groups for the key exchange by OpenSSL's names; empty for the usual ones.
    pub curves: Vec<&'static str>,
}

impl Tls {
    /// True if certificates that clients present are verified.
    pub fn verifies(&self) -> bool {
        matches!(self.client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
    }
}

/// Something in PEM.
#[derive(Debug)]
pub enum Pem {
    /// In a file, named by this key.
    File(&'static str, PathBuf),
    /// In the web configuration itself, under this key.
    Inline(&'static str, Secret),
}

/// `client_auth_type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    No,
    /// Asked for, and not looked at.
    Request,
    /// Any will do.
    RequireAny,
    /// One that is presented must be good.
    VerifyIfGiven,
    /// A good one is needed.
    RequireAndVerify,
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl WebConfig {
    /// True if neither TLS nor a password keeps anyone out.
    pub fn is_open(&self) -> bool {
        self.tls.is_none() && self.users.is_empty()
    }

    /// Reads the text of the file; relative paths in it start at `dir`.
    ///
    /// # Errors
    /// Fails with all that is wrong, by key.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, Vec<String>> {
        let documents = Yaml::load_from_str(text).map_err(|e| {
            // Its words name tokens, never the text of the file, which may be a key.
            vec![format!("line {}, column {}: is not YAML: {}", e.marker().line(), e.marker().col() + 1, e.info())]
        })?;
        if documents.len() > 1 {
            return Err(vec!["holds more than one YAML document".to_owned()]);
        }
        let mut reader = Reader::new(dir);
        let known = ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];
        let top = reader.section("", documents.first(), &known);
        let config = Self {
            tls: tls(&mut reader, top.get("tls_server_config").copied()),
            users: users(&mut reader, top.get("basic_auth_users").copied()),
            headers: http(&mut reader, top.get("http_server_config").copied()),
            rate: rate(&mut reader, top.get("rate_limit").copied()),
        };
        if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
    }
}

fn tls(reader: &mut Reader, node: Option<&Yaml<'_>>) -> Option<Tls> {
    let known = [
        "cert",
        "key",
        "client_ca",
        "cert_file",
        "key_file",
        "client_auth_type",
        "client_ca_file",
        "client_allowed_sans",
        "min_version",
        "max_version",
        "cipher_suites",
        "prefer_server_cipher_suites",
        "curve_preferences",
    ];
    let section = reader.section("tls_server_config", node, &known);
    if section.is_empty() {
        return None;
    }
    let certificate = reader.pem(&section, "cert_file", "cert");
    let key = reader.pem(&section, "key_file", "key");
    let client_ca = reader.pem(&section, "client_ca_file", "client_ca");
    for (missing, keys) in [(certificate.is_none(), "cert_file or cert"), (key.is_none(), "key_file or key")] {
        if missing && reader.problems.is_empty() {
            reader.wrong("tls_server_config", format!("needs {keys}"));
        }
    }
    let client_auth = match reader.text(&section, "client_auth_type").as_deref() {
        None | Some("" | "NoClientCert") => ClientAuth::No,
        Some("RequestClientCert") => ClientAuth::Request,
        Some("RequireAnyClientCert" | "RequireClientCert") => ClientAuth::RequireAny,
        Some("VerifyClientCertIfGiven") => ClientAuth::VerifyIfGiven,
        Some("RequireAndVerifyClientCert") => ClientAuth::RequireAndVerify,
        Some(_) => {
            reader.wrong(
                "tls_server_config.client_auth_type",
                "must be NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven \
                 or RequireAndVerifyClientCert",
            );
            ClientAuth::No
        }
    };
    let verifies = matches!(client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
    if verifies && client_ca.is_none() {
        reader.wrong("tls_server_config.client_auth_type", "needs client_ca_file: who signs good certificates?");
    }
    if client_ca.is_some() && client_auth == ClientAuth::No {
        reader.wrong("tls_server_config.client_ca_file", "needs client_auth_type, such as RequireAndVerifyClientCert");
    }
    let client_allowed_sans = reader.texts(&section, "client_allowed_sans");
    if !client_allowed_sans.is_empty() && !verifies {
        reader.wrong("tls_server_config.client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert");
    }
    let (min_version, max_version) = versions(reader, &section);
    let cipher_suites = reader.texts(&section, "cipher_suites");
    let prefer_server_cipher_suites = reader.flag(&section, "prefer_server_cipher_suites").unwrap_or(true);
    let curves = curves(reader, &section);
    Some(Tls {
        certificate: certificate?,
        key: key?,
        client_ca,
        client_auth,
        client_allowed_sans,
        min_version,
        max_version,
        cipher_suites,
        prefer_server_cipher_suites,
        curves,
    })
}

fn versions(reader: &mut Reader, section: &Section<'_>) -> (SslVersion, SslVersion) {
    let mut version = |key, default| match reader.text(section, key).as_deref() {
        None => default,
        Some("TLS12") => SslVersion::TLS1_2,
        Some("TLS13") => SslVersion::TLS1_3,
        Some("TLS10" | "TLS11") => {
            reader.wrong(
                &format!("tls_server_config.{key}"),
                "TLS 1.0 and 1.1 are broken and not offered: set TLS12 or TLS13",
            );
            default
        }
        Some(_) => {
            reader.wrong(&format!("tls_server_config.{key}"), "must be TLS12 or TLS13");
            default
        }
    };
    let (min, max) = (version("min_version", SslVersion::TLS1_2), version("max_version", SslVersion::TLS1_3));
    if (min, max) == (SslVersion::TLS1_3, SslVersion::TLS1_2) {
        reader.wrong("tls_server_config.max_version", "is below min_version");
    }
    (min, max)
}

fn curves(reader: &mut Reader, section: &Section<'_>) -> Vec<&'static str> {
    let mut curves = Vec::new();
    for name in reader.texts(section, "curve_preferences") {
        match name.as_str() {
            "CurveP256" => curves.push("P-256"),
            "CurveP384" => curves.push("P-384"),
            "CurveP521" => curves.push("P-521"),
            "X25519" => curves.push("X25519"),
            _ => reader.wrong(
                "tls_server_config.curve_preferences",
                format!("\"{name}\" is not one of CurveP256, CurveP384, CurveP521, X25519"),
            ),
        }
    }
    curves
}

fn users(reader: &mut Reader, node: Option<&Yaml<'_>>) -> BTreeMap<String, Secret> {
    let mut users = BTreeMap::new();
    for (user, hash) in reader.pairs("basic_auth_users", node) {
        let is_hash = hash.len() == 60 && hash.parse::<bcrypt::HashParts>().is_ok();
        if user.is_empty() || user.contains(':') {
            reader
                .wrong("basic_auth_users", format!("\"{user}\" cannot be a user's name: it is empty or holds a colon"));
        } else if !is_hash {
            let make = format!("htpasswd -nBC 10 {user}");
            reader.wrong(&format!("basic_auth_users.{user}"), format!("is no bcrypt hash; make one with: {make}"));
        } else {
            users.insert(user, Secret(hash));
        }
    }
    users
}

fn http(reader: &mut Reader, node: Option<&Yaml<'_>>) -> HeaderMap {
    let section = reader.section("http_server_config", node, &["http2", "headers"]);
    if reader.flag(&section, "http2") == Some(true) {
        reader.wrong("http_server_config.http2", "HTTP/2 is not served: leave it out or set it to false");
    }
    let mut headers = HeaderMap::new();
    for (name, value) in reader.pairs("http_server_config.headers", section.get("headers").copied()) {
        let key = format!("http_server_config.headers.{name}");
        let Some((lower, allowed)) = HEADERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
            let known: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
            reader.wrong(&key, format!("cannot be set; known are {}", known.join(", ")));
            continue;
        };
        // Empty stands for unset.
        if value.is_empty() {
            continue;
        }
        if !allowed.is_empty() && !allowed.contains(&value.to_ascii_lowercase().as_str()) {
            reader.wrong(&key, format!("must be {}", allowed.join(" or ")));
        }
        match HeaderValue::from_str(&value) {
            Ok(value) => _ = headers.insert(HeaderName::from_static(lower), value),
            Err(_) => reader.wrong(&key, "holds characters that a header cannot"),
        }
    }
    headers
}

fn rate(reader: &mut Reader, node: Option<&Yaml<'_>>) -> Option<(Duration, u32)> {
    let section = reader.section("rate_limit", node, &["interval", "burst"]);
    let burst = reader.whole(&section, "burst").unwrap_or_default();
    let interval = reader.duration(&section, "interval")?;
    if interval.is_zero() {
        return None;
    }
    if interval > Duration::from_secs(3600) {
        reader.wrong("rate_limit.interval", "must be at most 1h");
    }
    if burst == 0 {
        reader.wrong("rate_limit.burst", "must be at least 1: with 0 no request is answered");
    }
    Some((interval, burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

    fn parse(text: &str) -> Result<WebConfig, String> {
        WebConfig::parse(text, Path::new("/etc/web")).map_err(|problems| problems.join("\n"))
    }

    #[test]
    fn everything_that_is_known_is_read() {
        let text = format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: /keys/server.key\n  client_ca: |\n    -----BEGIN\n  \
               client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus, 10.0.0.1]\n  \
               min_version: TLS13\n  max_version: TLS13\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  \
               prefer_server_cipher_suites: false\n  curve_preferences:\n  - X25519\n  - CurveP256\n\
             http_server_config:\n  http2: false\n  headers:\n    Strict-Transport-Security: max-age=31536000\n    \
               X-Frame-Options: deny\n    X-XSS-Protection: ''\n\
             basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n\
             rate_limit:\n  interval: 250ms\n  burst: 20\n"
        );
        let config = parse(&text).unwrap();
        insta::assert_debug_snapshot!(config);
        assert!(!format!("{config:?}").contains("$2y$"), "no hash is shown");
    }

    #[test]
    fn an_empty_file_protects_nothing() {
        for text in
            ["", "# nothing\n", "tls_server_config:\nbasic_auth_users: {}\n", "rate_limit: {interval: 0, burst: 0}"]
        {
            let config = parse(text).unwrap();
            assert!(config.tls.is_none() && config.users.is_empty() && config.rate.is_none(), "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_said_by_key_and_without_secrets() {
        let cases = [
            "colour: red\nbasic_auth_users:\n  alice: hunter2\n  'a:b': hunter2\nhttp_server_config:\n  http2: true\n  \
             headers: {Server: x, X-Frame-Options: hunter2}\nrate_limit: {interval: soon, burst: -1}\n",
            "tls_server_config:\n  cert_file: a\n  cert: hunter2\n  key_flie: b\n  client_auth_type: Sometimes\n  \
             min_version: TLS10\n  max_version: hunter2\n  cipher_suites: hunter2\n  curve_preferences: [P1]\n  \
             prefer_server_cipher_suites: maybe\n",
            "tls_server_config:\n  cert_file: a\n",
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: VerifyClientCertIfGiven\n  \
             min_version: TLS13\n  max_version: TLS12\n",
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c\n  client_allowed_sans: [x]\n",
            "basic_auth_users: hunter2\n",
            "basic_auth_users:\n  7: hunter2\n",
            "basic_auth_users: {alice: hunter2, alice: hunter2}\n",
            "basic_auth_users:\n\talice: hunter2\n",
            "key: 'hunter2\n",
            "- hunter2\n",
            "--- {}\n--- {}\n",
        ];
        let said: String = cases.map(|text| format!("{}\n\n", parse(text).unwrap_err())).concat();
        assert!(!said.contains("hunter2"), "{said}");
        insta::assert_snapshot!(said);
    }
}
