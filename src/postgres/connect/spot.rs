//! One address of a server: found by its name, and opened.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::postgres::address::{Address, Host, Location};
use crate::postgres::failure::{Failure, Reason};

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// Over the network.
    Tcp(SocketAddr),
    /// A socket of this machine.
    Socket(PathBuf),
}

/// All addresses of a host, in the resolver's order or in random order.
pub async fn resolve(host: &Host, shuffled: bool) -> Result<Vec<Spot>, Failure> {
    match &host.place {
        Location::Address(address) => Ok(vec![Spot::Tcp((*address, host.port).into())]),
        Location::Socket(directory) => {
            let path = PathBuf::from(format!("{directory}/.s.PGSQL.{}", host.port));
            Ok(vec![Spot::Socket(path)])
        }
        Location::Name(name) => {
            let found = lookup_host((name.as_str(), host.port)).await;
            let found = found.map_err(|e| Failure::new(Reason::Connect, format!("the name is not resolved: {e}")))?;
            let mut spots: Vec<Spot> = Vec::new();
            for spot in found.map(Spot::Tcp) {
                if !spots.contains(&spot) {
                    spots.push(spot);
                }
            }
            if shuffled {
                fastrand::shuffle(&mut spots);
            }
            Ok(spots)
        }
    }
}

impl Spot {
    /// The host as the URL has it, and its address if the URL has a name.
    pub fn name(&self, host: &Host) -> String {
        match self {
            Self::Tcp(address) if host.name.is_empty() || host.name.parse() == Ok(address.ip()) => address.to_string(),
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => format!("{host} ({ip})"),
                IpAddr::V6(ip) => format!("{host} ([{ip}])"),
            },
            Self::Socket(_) => self.to_string(),
        }
    }
}

/// Opens a connection over the network.
pub async fn open(at: SocketAddr, address: &Address) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = &address.keepalive {
        socket.set_tcp_keepalive(keepalive)?;
    }
    if address.user_timeout.is_some() {
        socket.set_tcp_user_timeout(address.user_timeout)?;
    }
    Ok(stream)
}

/// Opens a socket of this machine; `@` begins the name of an abstract one.
pub async fn open_socket(path: &Path) -> io::Result<UnixStream> {
    match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => UnixStream::connect(format!("\0{name}")).await,
        None => UnixStream::connect(path).await,
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_beside_its_host_and_in_brackets_if_it_has_colons() {
        let named = |place: Location, name: &str, address: &str| {
            let host = Host { place, name: name.to_owned(), port: 5432, password: None };
            Spot::Tcp(SocketAddr::new(address.parse().unwrap(), 5432)).name(&host)
        };
        let db = || Location::Name("db".to_owned());
        assert_eq!(named(db(), "db", "10.0.0.7"), "db:5432 (10.0.0.7)");
        assert_eq!(named(db(), "db", "fd00::1"), "db:5432 ([fd00::1])");
        assert_eq!(named(Location::Address("::1".parse().unwrap()), "::1", "::1"), "[::1]:5432");
        assert_eq!(named(Location::Address("::1".parse().unwrap()), "", "::1"), "[::1]:5432");
    }
}
