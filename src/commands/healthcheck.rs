//! The command `healthcheck`, for containers without an HTTP client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Command;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::{CommandError, Invocation, Subcommand, block_on};
use crate::config::{ListenAddress, Web};
use crate::web::listen;

/// Longer than this, and the exporter does not work.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a server says that wants a certificate of its clients (RFC 8446, section 6.2): it works.
const WANTS_CERTIFICATE: [&str; 2] = ["certificate required", "handshake failure"];

/// Why the exporter is not healthy, as far as can be told from here.
#[derive(Debug, thiserror::Error)]
enum Unhealthy {
    #[error("web.listen_address names no address")]
    NoAddress,
    #[error("{0} (web.listen_address): {1}")]
    Unresolved(ListenAddress, io::Error),
    #[error("{0} does not answer within {limit}s", limit = TIMEOUT.as_secs())]
    Silent(SocketAddr),
    #[error("{0}: {1}")]
    Connection(SocketAddr, io::Error),
    #[error("{0} answers: {1}")]
    Status(SocketAddr, String),
}

/// The command.
pub const COMMAND: Subcommand =
    Subcommand { name: "healthcheck", settings: &["web.listen_address", "web.config_file"], define, run };

fn define(command: Command) -> Command {
    command.about("Exit with 0 if the exporter at web.listen_address works").after_long_help(
        "\
For containers without an HTTP client. It needs no settings but those of the web.

Examples:
  rsolv-exporter healthcheck
  rsolv-exporter healthcheck --web.listen-address 127.0.0.1:10061",
    )
}

fn run(invocation: &Invocation) -> Result<ExitCode, CommandError> {
    // It knows the environment of a container, but not the server's command line, which may name the database.
    let web = invocation.web()?;
    block_on(async { ask_any(&web).await.map(|()| ExitCode::SUCCESS).map_err(CommandError::failed) })
}

/// Asks `/-/healthy` of the exporter that listens where the settings say, at each address until one answers; fails with
/// the last reason.
async fn ask_any(web: &Web) -> Result<(), Unhealthy> {
    let mut failure = Unhealthy::NoAddress;
    for listened in &web.listen_addresses {
        let addresses = listen::reachable(listened).await.map_err(|e| Unhealthy::Unresolved(listened.clone(), e))?;
        for address in addresses {
            match check(address, web).await {
                Ok(()) => return Ok(()),
                Err(e) => failure = e,
            }
        }
    }
    Err(failure)
}

async fn check(address: SocketAddr, web: &Web) -> Result<(), Unhealthy> {
    let answer = tokio::time::timeout(TIMEOUT, ask(address, web.config_file.is_some())).await;
    let answer = answer.map_err(|_| Unhealthy::Silent(address))?;
    let answer = match answer {
        Err(e) if WANTS_CERTIFICATE.iter().any(|words| e.to_string().contains(words)) => return Ok(()),
        answer => answer.map_err(|e| Unhealthy::Connection(address, e))?,
    };
    let status = answer.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(Unhealthy::Status(address, status.to_owned())) }
}

/// With a web configuration TLS is tried first: the file says what is served now only if it is a good one.
async fn ask(address: SocketAddr, maybe_tls: bool) -> io::Result<String> {
    if maybe_tls && let Some(stream) = encrypted(TcpStream::connect(address).await?).await? {
        return request(stream, address).await;
    }
    request(TcpStream::connect(address).await?, address).await
}

/// None when the other side does not speak TLS.
async fn encrypted(stream: TcpStream) -> io::Result<Option<SslStream<TcpStream>>> {
    let mut connector = SslConnector::builder(SslMethod::tls())?;
    // Nothing secret is said, and the exporter's certificate is seldom for its loopback address.
    connector.set_verify(SslVerifyMode::NONE);
    let connector = connector.build().configure()?.verify_hostname(false).use_server_name_indication(false);
    let mut stream = SslStream::new(connector.into_ssl("localhost")?, stream)?;
    match Pin::new(&mut stream).connect().await {
        Ok(()) => Ok(Some(stream)),
        Err(e) if e.to_string().contains("wrong version number") => Ok(None),
        Err(e) => Err(io::Error::other(e)),
    }
}

async fn request(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) -> io::Result<String> {
    stream
        .write_all(format!("GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
