//! Certificates made for a test.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

const DAY: i64 = 86_400;

/// A certificate with its key.
pub struct Certificate {
    certificate: X509,
    key: PKey<Private>,
}

impl Certificate {
    /// An authority of its own.
    pub fn authority(name: &str) -> Self {
        make(name, &[], (-DAY, DAY), None).expect("a certificate")
    }

    /// One issued by this authority, for a host or a user and further host names or addresses; valid now.
    pub fn issue(&self, name: &str, names: &[&str]) -> Self {
        make(name, names, (-DAY, DAY), Some(self)).expect("a certificate")
    }

    /// One that expired yesterday.
    pub fn issue_expired(&self, name: &str, names: &[&str]) -> Self {
        make(name, names, (-2 * DAY, -DAY), Some(self)).expect("a certificate")
    }

    /// The certificate as PEM.
    pub fn certificate(&self) -> String {
        pem(self.certificate.to_pem())
    }

    /// The key as PEM.
    pub fn key(&self) -> String {
        pem(self.key.private_key_to_pem_pkcs8())
    }

    /// Writes both to `directory`: NAME.crt and NAME.key, which only we can read; returns their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        fs::write(&certificate, self.certificate()).expect("a file for a certificate");
        fs::write(&key, self.key()).expect("a file for a key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a key of our own");
        (certificate, key)
    }
}

fn pem(bytes: Result<Vec<u8>, ErrorStack>) -> String {
    String::from_utf8(bytes.expect("PEM")).expect("PEM is ASCII")
}

/// Valid for these seconds from now; without an authority it is one.
fn make(
    name: &str,
    names: &[&str],
    valid: (i64, i64),
    authority: Option<&Certificate>,
) -> Result<Certificate, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_text("CN", name)?;
    let subject = subject.build();
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(Asn1Integer::from_bn(&serial)?.as_ref())?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(authority.map_or(subject.as_ref(), |authority| authority.certificate.subject_name()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    builder.set_not_before(Asn1Time::from_unix(now + valid.0)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(now + valid.1)?.as_ref())?;
    builder.set_pubkey(&key)?;
    if authority.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    if !names.is_empty() {
        let mut extension = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<IpAddr>().is_ok() {
                extension.ip(name)
            } else {
                extension.dns(name)
            };
        }
        let extension = extension.build(&builder.x509v3_context(None, None))?;
        builder.append_extension(extension)?;
    }
    builder.sign(authority.map_or(&key, |authority| &authority.key), MessageDigest::sha256())?;
    Ok(Certificate { certificate: builder.build(), key })
}
