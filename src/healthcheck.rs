//! The command `healthcheck`, for containers without an HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than this, and the exporter does not work.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `/-/healthy` of the exporter that listens at `address`; fails with the reason.
pub async fn run(address: SocketAddr) -> Result<(), String> {
    let address = reachable(address);
    let answer = tokio::time::timeout(TIMEOUT, ask(address)).await;
    let answer = answer.map_err(|_| format!("{address} does not answer within {}s", TIMEOUT.as_secs()))?;
    let answer = answer.map_err(|e| format!("{address}: {e}"))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("{address} answers: {status}")) }
}

/// An address that listens on all interfaces is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
