//! A TLS connection to a server, and what ties the login to it.

use std::error::Error;
use std::ffi::{c_int, c_void};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use foreign_types::ForeignTypeRef;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::Ssl;
use openssl::x509::{X509Ref, X509VerifyResult};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_openssl::SslStream;
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// A TLS connection. Reads are buffered: OpenSSL asks for the five bytes of each record's header first.
pub struct Stream<S>(SslStream<BufReader<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Shakes hands.
    ///
    /// # Errors
    /// If the server refuses, or its certificate is refused; with why it is.
    pub async fn connect(ssl: Ssl, stream: S) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut tls = SslStream::new(ssl, BufReader::new(stream))?;
        match Pin::new(&mut tls).connect().await {
            Ok(()) => Ok(Self(tls)),
            Err(error) => match tls.ssl().verify_result() {
                X509VerifyResult::OK => Err(error.into()),
                refused => Err(format!("{error}: {refused}").into()),
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let certificate = self.0.ssl().peer_certificate();
        let end_point = certificate.and_then(|certificate| end_point(&certificate));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// The certificate's hash by its own digest (RFC 5929, 4.1); none if it has none, as with Ed25519.
fn end_point(certificate: &X509Ref) -> Option<Vec<u8>> {
    let digest = match digest(certificate)? {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        digest => MessageDigest::from_nid(digest)?,
    };
    certificate.digest(digest).ok().map(|hash| hash.to_vec())
}

unsafe extern "C" {
    /// Of OpenSSL 1.1.1 and later; the bindings lack it.
    fn X509_get_signature_info(
        certificate: *mut c_void,
        digest: *mut c_int,
        key: *mut c_int,
        bits: *mut c_int,
        flags: *mut u32,
    ) -> c_int;
}

/// The digest of its signature, which RSA-PSS has among its parameters.
fn digest(certificate: &X509Ref) -> Option<Nid> {
    let (mut digest, mut key, mut bits, mut flags) = (0, 0, 0, 0);
    // SAFETY: the certificate lives through the call, which writes to these four numbers only.
    let found =
        unsafe { X509_get_signature_info(certificate.as_ptr().cast(), &mut digest, &mut key, &mut bits, &mut flags) };
    Some(Nid::from_raw(digest)).filter(|digest| found == 1 && *digest != Nid::UNDEF)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
