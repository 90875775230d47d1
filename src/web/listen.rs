//! Where the web side listens: the addresses of `web.listen_address`, or sockets that a service manager passes on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::ListenAddress;

/// As many connections wait to be accepted as the system allows.
const BACKLOG: i32 = 4096;

/// Listens; a name that has an IPv4 and an IPv6 address gets a socket for each.
///
/// # Errors
/// Fails if none of the addresses can be listened on, or one is in use or not permitted.
pub async fn bind(address: &ListenAddress) -> io::Result<Vec<TcpListener>> {
    if address.host.is_empty() {
        let all = listen((Ipv6Addr::UNSPECIFIED, address.port).into(), true);
        // A machine without IPv6 has only the other family.
        let all = all.or_else(|e| if is_absent(&e) { bind_ipv4(address.port) } else { Err(e) })?;
        return Ok(vec![all]);
    }
    let (mut listeners, mut absent) = (Vec::new(), None);
    for address in resolve(address).await? {
        match listen(address, false) {
            Ok(listener) => listeners.push(listener),
            // `localhost` is ::1 too in the hosts file of a machine without IPv6.
            Err(e) if is_absent(&e) => absent = Some(e),
            Err(e) => return Err(e),
        }
    }
    match absent {
        Some(e) if listeners.is_empty() => Err(e),
        _ => Ok(listeners),
    }
}

fn bind_ipv4(port: u16) -> io::Result<TcpListener> {
    listen((Ipv4Addr::UNSPECIFIED, port).into(), false)
}

/// Where a program on the same machine reaches it, best first.
///
/// # Errors
/// Fails if the name cannot be resolved.
pub async fn reachable(address: &ListenAddress) -> io::Result<Vec<SocketAddr>> {
    let loopback: [SocketAddr; 2] =
        [(Ipv4Addr::LOCALHOST, address.port).into(), (Ipv6Addr::LOCALHOST, address.port).into()];
    if address.host.is_empty() {
        return Ok(loopback.to_vec());
    }
    let addresses = resolve(address).await?.into_iter().map(|address| match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => loopback[0],
        SocketAddr::V6(a) if a.ip().is_unspecified() => loopback[1],
        address => address,
    });
    Ok(addresses.collect())
}

async fn resolve(address: &ListenAddress) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<_> = tokio::net::lookup_host((address.host.as_str(), address.port)).await?.collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Takes the sockets that the service manager has opened, as sd_listen_fds(3) describes it.
///
/// # Errors
/// Fails if there is none, or one that is no TCP socket.
pub fn passed() -> io::Result<Vec<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..sockets.len() {
        let socket = sockets.take_tcp_listener(i).map_err(|e| {
            io::Error::new(e.kind(), format!("socket {i} of the service manager is no TCP socket that listens: {e}"))
        })?;
        let Some(socket) = socket else { continue };
        socket.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(socket)?);
    }
    if listeners.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no socket was passed on (LISTEN_FDS): start it by a systemd socket unit, or unset web.systemd_socket",
        ));
    }
    Ok(listeners)
}

/// Listens on `address`; as `dual`, an IPv6 socket takes IPv4 as well, whatever the system's default is.
fn listen(address: SocketAddr, dual: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if dual {
        socket.set_only_v6(false)?;
    }
    // Connections that a former process has closed must not be in the way.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// True if the machine does not have the address, or its family.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn parse(text: &str) -> ListenAddress {
        ListenAddress::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_port_alone_takes_both_families() {
        let listeners = bind(&parse(":0")).await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        for ip in ["127.0.0.1", "::1"] {
            let client = TcpStream::connect((ip, port)).await;
            // A machine that tests may have no IPv6.
            if ip == "127.0.0.1" || std::net::TcpListener::bind("[::1]:0").is_ok() {
                assert!(client.is_ok(), "{ip}: {client:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_listened_on_and_reached() {
        let listener = &bind(&parse("localhost:0")).await.unwrap()[0];
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let reached = reachable(&parse(&format!("localhost:{}", address.port()))).await.unwrap();
        assert!(reached.contains(&address), "{reached:?}");
    }

    #[tokio::test]
    async fn every_address_is_reached_through_loopback() {
        for (text, reached) in [
            (":7", &["127.0.0.1:7", "[::1]:7"][..]),
            ("0.0.0.0:7", &["127.0.0.1:7"]),
            ("[::]:7", &["[::1]:7"]),
            ("192.0.2.1:7", &["192.0.2.1:7"]),
        ] {
            let addresses = reachable(&parse(text)).await.unwrap();
            assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), reached, "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = bind(&parse("127.0.0.1:0")).await.unwrap();
        let taken = first[0].local_addr().unwrap().to_string();
        assert_eq!(bind(&parse(&taken)).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
