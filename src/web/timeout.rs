//! How long a client may take, for each thing that it does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection_slots::{Rank, Status};

/// From the first byte of a request to its last.
const REQUEST: Duration = Duration::from_secs(10);
/// From then to the first byte of the response: longer than a refusal is held back, see [`super::basic_auth`].
const ANSWER: Duration = Duration::from_secs(120);
/// To take what was written, of a response that is longer than one write each time again.
const WRITE: Duration = Duration::from_secs(30);
/// Between requests: longer than any usual scrape interval, so that a scraper keeps its connection.
const IDLE: Duration = Duration::from_secs(300);

/// What a client is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Its first request.
    New,
    /// Nothing, after a response.
    Idle,
    /// It has sent a part of a request.
    Sending,
    /// It waits for a response.
    Waiting,
    /// It takes a response.
    Taking,
}

/// A connection that fails with [`io::ErrorKind::TimedOut`] when its client takes too long.
#[derive(Debug)]
pub struct TimeoutStream<S> {
    stream: S,
    doing: Doing,
    timer: Pin<Box<Sleep>>,
    status: Arc<Status>,
}

impl<S> TimeoutStream<S> {
    /// Watches over a connection that has just been made and has `first` for its first request to come as a whole.
    pub fn new(stream: S, first: Duration, status: Arc<Status>) -> Self {
        Self { stream, doing: Doing::New, timer: Box::pin(tokio::time::sleep(first)), status }
    }

    fn now(&mut self, doing: Doing) {
        self.doing = doing;
        let limit = match doing {
            Doing::Idle => IDLE,
            Doing::New | Doing::Sending => REQUEST,
            Doing::Waiting => ANSWER,
            Doing::Taking => WRITE,
        };
        self.timer.as_mut().reset(Instant::now() + limit);
    }

    /// What stays pending only as long as there is patience.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.timer.as_mut().poll(cx));
        if matches!(self.doing, Doing::New | Doing::Sending) && self.status.is_answering.load(Ordering::Relaxed) {
            self.now(Doing::Waiting);
            ready!(self.timer.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_pending() {
            return self.wait(cx);
        }
        if buffer.filled().len() > before && self.doing == Doing::Idle {
            self.now(Doing::Sending);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> TimeoutStream<S> {
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.doing != Doing::Taking {
            self.status.is_answering.store(false, Ordering::Relaxed);
            self.now(Doing::Taking);
        }
        let result = write(Pin::new(&mut self.stream), cx);
        if result.is_pending() { self.wait(cx) } else { result }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything so far has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if result.is_pending() {
            return self.wait(cx);
        }
        if self.doing == Doing::Taking {
            self.status.enter(Rank::Served);
            self.now(Doing::Idle);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        if result.is_pending() { self.wait(cx) } else { result }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (TimeoutStream<DuplexStream>, DuplexStream) {
        let (ours, client) = duplex(16);
        (TimeoutStream::new(ours, REQUEST, Arc::new(Status::new(Instant::now()))), client)
    }

    /// How long the future takes by the paused clock, and the kind of its error.
    async fn took<T>(future: impl Future<Output = io::Result<T>>) -> (Duration, Option<io::ErrorKind>) {
        let began = Instant::now();
        let result = future.await;
        (began.elapsed(), result.err().map(|e| e.kind()))
    }

    const TIMED_OUT: Option<io::ErrorKind> = Some(io::ErrorKind::TimedOut);

    #[tokio::test(start_paused = true)]
    async fn a_request_that_drips_is_cut_however_it_drips() {
        let (mut ours, mut client) = pair();
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut buffer = [0; 1000];
        let read = async { ours.read_exact(&mut buffer).await };
        let (after, error) = took(read).await;
        assert_eq!((after.as_secs(), error), (REQUEST.as_secs(), TIMED_OUT));
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_taken_is_cut_however_it_drips() {
        let (mut ours, mut client) = pair();
        let drip = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (after, error) = took(ours.write_all(&[0; 1000])).await;
        assert_eq!((after.as_secs(), error), (WRITE.as_secs(), TIMED_OUT));
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_keeps_its_connection_between_scrapes() {
        let (mut ours, mut client) = pair();
        client.write_all(b"GET").await.unwrap();
        ours.read_exact(&mut [0; 3]).await.unwrap();
        ours.write_all(b"200").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(took(ours.read_u8()).await, (IDLE, TIMED_OUT));
        let (mut fresh, _client) = pair();
        assert_eq!(took(fresh.read_u8()).await, (REQUEST, TIMED_OUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_wait_longer_for_an_answer_than_it_may_take_to_ask() {
        let (mut ours, mut client) = pair();
        client.write_all(b"GET").await.unwrap();
        ours.read_exact(&mut [0; 3]).await.unwrap();
        ours.status.answering();
        assert_eq!(took(ours.read_u8()).await, (REQUEST + ANSWER, TIMED_OUT));
    }
}
