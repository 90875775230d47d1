//! The header `Host`.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderMap};
use hyper::{Request, Version};

/// True if a request names the host that it is for as the standard demands (RFC 9112, section 3.2): once, as a name or an
/// address with an optional port. Only HTTP/1.0 may leave it out.
pub fn is_named<B>(request: &Request<B>) -> bool {
    let headers: &HeaderMap = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        _ => false,
    }
}

/// True for `name`, `192.0.2.1` and `[2001:db8::1]`, each with an optional `:port`.
pub fn is_host(text: &str) -> bool {
    let (is_name, rest) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return false,
        Some(Some((address, rest))) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (end > 0 && text[..end].chars().all(is_letter), &text[end..])
        }
    };
    let is_port = |port: &str| port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_name && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in
            ["x", "localhost", "db-1.example:10060", "my_service.ns.svc:80", "192.0.2.1:9", "[::1]", "[::1]:10060"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ":80", "x:", "x:port", "x:99999", "x:+80", "a b", "a,b", "user@x", "x/y", "[::1", "[x]", "[::1]80",
            "::1", "x:1:2", "é",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn it_is_there_once() {
        let request = |version, hosts: &[&str]| {
            let builder = hosts.iter().fold(Request::builder().version(version), |b, host| b.header(HOST, *host));
            is_named(&builder.body(()).unwrap())
        };
        assert!(request(Version::HTTP_11, &["x"]) && request(Version::HTTP_10, &[]));
        assert!(!request(Version::HTTP_11, &[]) && !request(Version::HTTP_10, &["x", "x"]));
        assert!(!request(Version::HTTP_11, &["x", "y"]) && !request(Version::HTTP_11, &["x y"]));
    }
}
