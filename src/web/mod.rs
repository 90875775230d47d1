//! The HTTP side: takes connections, answers from what was published, drains at the end.
//!
//! Each connection is a task of its own with a time limit for everything that its client does, and gives up its place
//! when its network holds most of them, so that no client delays another.

mod access;
mod basic_auth;
mod body;
pub mod config;
mod connection_slots;
mod hashing;
pub mod host;
pub mod listen;
mod plain_text;
mod protection;
mod reload;
mod routes;
mod status_page;
mod timeout;
mod tls;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext};
use openssl::x509::X509VerifyResult;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_openssl::SslStream;

pub use access::AccessControl;
use connection_slots::{ConnectionSlot, ConnectionSlots};
use protection::Protection;
pub use routes::AppState;
use timeout::TimeoutStream;

/// The largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// A client that TLS failed with has this long to take the reason.
const LINGER: Duration = Duration::from_secs(1);
/// At the end, responses under way have this long to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// True if it presented a certificate that was verified.
    pub is_certified: bool,
}

/// What a client did wrong, for the debug level.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Library(#[from] ErrorStack),
    #[error("TLS: {0}")]
    Tls(openssl::ssl::Error),
    #[error("TLS was not agreed on in time")]
    Late,
    #[error("stopped")]
    Stopped,
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// Serves until `stop` changes, then lets responses under way finish.
pub async fn run(listeners: Vec<TcpListener>, site: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = ConnectionSlots::of_process();
    loop {
        let accepted = tokio::select! {
            accepted = poll_fn(|context| accept(&listeners, context)) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            // The client has gone before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Usually out of file descriptors: make room, and give others the time to end.
                tracing::warn!(%error, "cannot accept a connection");
                places.evict();
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = tokio::select! {
            place = places.take(address.ip()) => place,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (id, first) = (place.id(), places.first_request());
        let connection = Connection { site: site.clone(), place, first, watcher: graceful.watcher() };
        let stop = stop.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.serve(stream, address, stop).await {
                tracing::debug!(client = %address, %error, "a client's connection ended badly");
            }
        });
        places.runs(id, task.abort_handle());
    }
    drop(listeners);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some clients did not take their responses in time");
    }
}

/// The next connection of any listener.
fn accept(listeners: &[TcpListener], context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    let mut accepted = listeners.iter().map(|listener| listener.poll_accept(context));
    accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
}

/// What a connection needs of the server.
struct Connection {
    site: Arc<AppState>,
    place: ConnectionSlot,
    /// How long the first request may take to come.
    first: Duration,
    watcher: Watcher,
}

impl Connection {
    /// Serves a connection from TLS, if that is on, to its end; fails with what the client did wrong.
    async fn serve(
        self,
        stream: TcpStream,
        address: SocketAddr,
        stop: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError> {
        let protection = self.site.access.current();
        // Without it a small response would wait for the one before to be acknowledged.
        stream.set_nodelay(true)?;
        let Some(context) = &protection.tls else {
            return self.exchange(stream, Client { address, is_certified: false }, protection).await;
        };
        let stream = handshake(context, stream, self.first, stop).await?;
        let ssl = stream.ssl();
        let is_certified = protection.verifies_clients
            && ssl.peer_certificate().is_some()
            && ssl.verify_result() == X509VerifyResult::OK;
        self.exchange(stream, Client { address, is_certified }, protection).await
    }

    /// Answers requests until the client has no more.
    async fn exchange<S>(self, stream: S, client: Client, protection: Arc<Protection>) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { site, place, first, watcher } = self;
        let status = place.status.clone();
        let service = service_fn(move |request| {
            let (site, begun) = (site.clone(), protection.clone());
            status.answering();
            async move {
                let protection = site.access.current();
                let mut response = site.respond(&request, client, &protection).await;
                // A client is held to the TLS of today, not to that of the day it connected.
                if !Arc::ptr_eq(&begun, &protection) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        // Time is kept by `TimeoutStream`, which tells a client that waits from one that is slow.
        http.header_read_timeout(None).max_buf_size(MAX_HEAD);
        let stream = TokioIo::new(TimeoutStream::new(stream, first, place.status.clone()));
        Ok(watcher.watch(http.serve_connection(stream, service)).await?)
    }
}

async fn handshake(
    context: &SslContext,
    stream: TcpStream,
    limit: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<SslStream<TcpStream>, ConnectionError> {
    let ssl = Ssl::new(context)?;
    let mut stream = SslStream::new(ssl, stream)?;
    let accepted = Pin::new(&mut stream).accept();
    let failure = tokio::select! {
        result = accepted => match result {
            Ok(()) => return Ok(stream),
            Err(e) => ConnectionError::Tls(e),
        },
        () = tokio::time::sleep(limit) => return Err(ConnectionError::Late),
        _ = stop.wait_for(|stop| *stop) => return Err(ConnectionError::Stopped),
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
