//! A response body made of parts that responses share: nothing is copied per response.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// A client has this long to take a response; a slower one loses its connection.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The parts go out in pieces of this many bytes, as the time is looked at between them; each costs a system call.
const PIECE: usize = 512 * 1024;
/// Over TLS what is under way is copied.
const TLS_PIECE: usize = 64 * 1024;

/// The body of a response. Its length is known, so that the response says it.
#[derive(Debug)]
pub struct Body {
    parts: VecDeque<Bytes>,
    piece: usize,
    deadline: Instant,
}

impl Body {
    /// A body of these parts, one after the other.
    pub fn of(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let parts = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self { parts, piece: PIECE, deadline: Instant::now() + RESPONSE_TIMEOUT }
    }

    /// It will go out over TLS.
    pub fn over_tls(&mut self) {
        self.piece = TLS_PIECE;
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(whole: T) -> Self {
        Self::of([whole.into()])
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.parts.is_empty() {
            return Poll::Ready(None);
        }
        // hyper polls only after a write: a client that takes nothing at all is not noticed here.
        if Instant::now() > self.deadline {
            return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
        }
        let most = self.piece;
        let piece = self.parts.front_mut().map(|part| part.split_to(part.len().min(most)));
        if self.parts.front().is_some_and(Bytes::is_empty) {
            self.parts.pop_front();
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn parts_arrive_in_order_and_their_length_is_known() {
        let large = Bytes::from(vec![b'x'; 3 * PIECE + 1]);
        let body = Body::of([Bytes::from_static(b"a"), Bytes::new(), large.clone(), Bytes::from_static(b"z")]);
        assert_eq!(body.size_hint().exact(), Some(large.len() as u64 + 2));
        let all = body.collect().await.unwrap().to_bytes();
        assert_eq!([&b"a"[..], &large, b"z"].concat(), all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_ends_with_the_patience() {
        let mut body = Body::of([Bytes::from(vec![0; 2 * PIECE])]);
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::advance(RESPONSE_TIMEOUT * 2).await;
        assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }
}
