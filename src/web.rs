//! The HTTP side: takes connections, answers from what was published, drains at the end.
//!
//! Each connection is a task of its own with a time limit for everything that its client does, so that no client
//! delays another.

mod auth;
mod body;
mod config;
mod gate;
mod page;
mod patience;
mod routes;
mod tls;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use openssl::ssl::{Ssl, SslContext};
use openssl::x509::X509VerifyResult;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_openssl::SslStream;

pub use gate::Gate;
use gate::Protection;
use patience::Patience;
pub use routes::Site;

/// The largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// More connections than this wait for others to end.
const MAX_CONNECTIONS: usize = 2048;
/// File descriptors that are left for everything else, such as the database.
const OTHER_FILES: usize = 100;
/// A client has this long to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that TLS failed with has this long to take the reason.
const LINGER: Duration = Duration::from_secs(1);
/// At the end, responses under way have this long to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it presented a certificate that was verified.
    pub is_certified: bool,
}

/// Serves until `stop` changes, then lets responses under way finish.
pub async fn run(listeners: Vec<TcpListener>, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let most = most_connections(std::fs::read_to_string("/proc/self/limits").ok().as_deref());
    let places = Arc::new(Semaphore::new(most));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listeners, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually out of file descriptors: give others the time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = Connection { site: site.clone(), places: (places.clone(), most), watcher: graceful.watcher() };
        let stop = stop.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.serve(stream, address, stop).await {
                tracing::debug!(client = %address, error, "a client's connection ended badly");
            }
            drop(place);
        });
    }
    drop(listeners);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not take their responses in time");
    }
}

async fn accept(
    listeners: &[TcpListener],
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = poll_fn(|context| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(context));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, place))
}

/// As many connections as the process may have files open, less those that it needs for itself.
fn most_connections(limits: Option<&str>) -> usize {
    let line = limits.into_iter().flat_map(str::lines).find_map(|line| line.strip_prefix("Max open files"));
    let files = line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse().ok());
    files.unwrap_or(usize::MAX).saturating_sub(OTHER_FILES).clamp(OTHER_FILES, MAX_CONNECTIONS)
}

/// What a connection needs of the server.
struct Connection {
    site: Arc<Site>,
    places: (Arc<Semaphore>, usize),
    watcher: Watcher,
}

impl Connection {
    /// Serves a connection from TLS, if that is on, to its end; fails with what the client did wrong.
    async fn serve(self, stream: TcpStream, address: SocketAddr, stop: watch::Receiver<bool>) -> Result<(), String> {
        let protection = self.site.gate.current();
        let Some(context) = &protection.tls else {
            return self.exchange(stream, Client { address, is_certified: false }, protection).await;
        };
        let stream = handshake(context, stream, stop).await?;
        let ssl = stream.ssl();
        let is_certified = protection.verifies_clients
            && ssl.peer_certificate().is_some()
            && ssl.verify_result() == X509VerifyResult::OK;
        self.exchange(stream, Client { address, is_certified }, protection).await
    }

    /// Answers requests until the client has no more.
    async fn exchange<S>(self, stream: S, client: Client, protection: Arc<Protection>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let site = self.site;
        let service = service_fn(move |request| {
            let (site, begun) = (site.clone(), protection.clone());
            async move {
                let protection = site.gate.current();
                let mut response = site.respond(&request, client, &protection).await;
                // A client is held to the TLS of today, not to that of the day it connected.
                if !Arc::ptr_eq(&begun, &protection) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        // Time is kept by `Patience`, which tells a client that waits from one that is slow.
        http.header_read_timeout(None).max_buf_size(MAX_HEAD);
        let stream = TokioIo::new(Patience::new(stream, self.places));
        self.watcher.watch(http.serve_connection(stream, service)).await.map_err(|e| e.to_string())
    }
}

async fn handshake(
    context: &SslContext,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> Result<SslStream<TcpStream>, String> {
    let ssl = Ssl::new(context).map_err(|e| e.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|e| e.to_string())?;
    let accepted = Pin::new(&mut stream).accept();
    let failure = tokio::select! {
        result = accepted => match result {
            Ok(()) => return Ok(stream),
            Err(e) => format!("TLS: {e}"),
        },
        () = tokio::time::sleep(HANDSHAKE) => return Err("TLS was not agreed on in time".to_owned()),
        _ = stop.wait_for(|stop| *stop) => return Err("stopped".to_owned()),
    };
    // With what the client has sent meanwhile unread, the system would cut the connection, and the client would not
    // learn why, such as for want of a certificate.
    let stream = stream.get_mut();
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    let drain = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(LINGER, drain).await;
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let limits =
            |soft: &str| format!("Limit   Soft Limit  Hard Limit  Units\nMax open files     {soft}   524288  files\n");
        for (soft, most) in [("1024", 924), ("unlimited", 2048), ("1048576", 2048), ("64", 100)] {
            assert_eq!(most_connections(Some(&limits(soft))), most, "{soft}");
        }
        assert_eq!(most_connections(None), 2048);
    }
}
