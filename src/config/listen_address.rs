//! What an entry of `web.listen_address` says.

use std::fmt;
use std::net::Ipv6Addr;

/// One entry of `web.listen_address`: `HOST:PORT`, or `:PORT` for every address of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address without brackets; empty for every address.
    pub host: String,
    /// 0 for any free port.
    pub port: u16,
}

impl ListenAddress {
    /// Parses `HOST:PORT`, `[IPV6]:PORT` or `:PORT`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok())?,
            None if host.contains([':', ']', '/', ' ', '@']) => return None,
            None => host,
        };
        // `parse` would take a sign.
        let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
        Some(Self { host: bare.to_owned(), port })
    }

    /// Parses a list with commas between its entries.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        text.split(',').map(|entry| Self::parse(entry.trim())).collect()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_exporters_take_is_an_address() {
        for text in [":9100", "localhost:9100", "0.0.0.0:0", "[::1]:9100", "[::]:9100", "host.example:65535"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["9100", "localhost", "", "::1:9100", "[::1]", "[host]:1", "host:", "host:+1", "host:65536", "a b:1"]
        {
            assert_eq!(ListenAddress::parse(text), None, "{text}");
        }
        let list = ListenAddress::parse_list("localhost:1, [::1]:2").unwrap();
        assert_eq!(list, ["localhost:1", "[::1]:2"].map(|entry| ListenAddress::parse(entry).unwrap()));
        assert_eq!(ListenAddress::parse_list(":1,"), None);
    }
}
