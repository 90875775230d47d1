//! Clients that mean harm, for tests and measurements: they guess passwords, hang up, and come in crowds.
//!
//! All of it stays on this machine, and stops when it is dropped or half a minute is over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openssl::base64::encode_block;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::process::PATIENCE;

/// Lets this process, and what it starts, have as many files open as a crowd needs.
pub fn more_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct, which lives through them.
    let ok = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max.min(20_000);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    assert!(ok && limit.rlim_cur > 4000, "the hard limit of open files (ulimit -Hn) is too low: {}", limit.rlim_cur);
}

/// The header of a user with a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", encode_block(format!("{user}:{password}").as_bytes()))
}

/// A request as bytes; `head` is further lines.
pub fn request(path: &str, head: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").into_bytes()
}

/// A connection to `address` from another address of this machine.
pub async fn connect(address: &str, from: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
    let stream = socket.connect(address.parse().expect("an address")).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and reads its response; how long that took, and the response.
pub async fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<(Duration, String)> {
    let began = Instant::now();
    stream.write_all(request).await?;
    let (mut response, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let n = stream.read(&mut buffer).await?;
        response.extend(&buffer[..n]);
        if n == 0 || is_whole(&response) {
            break;
        }
    }
    if response.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((began.elapsed(), String::from_utf8_lossy(&response).into_owned()))
}

/// Whether a response has the length that it says.
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    response.len() >= end + 4 + length.unwrap_or(0)
}

/// The same on a connection of its own.
pub async fn ask_from(address: &str, from: &str, request: &[u8]) -> io::Result<(Duration, String)> {
    let began = Instant::now();
    let mut stream = connect(address, from).await?;
    let (_, response) = ask(&mut stream, request).await?;
    Ok((began.elapsed(), response))
}

/// Attackers that go on until this is dropped, or half a minute is over.
pub struct Attack {
    over: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    _clients: JoinSet<()>,
}

impl Attack {
    /// So many clients do the same again and again; `turn` is told where, and how many turns there have been.
    fn of<F>(clients: usize, address: &str, turn: impl Fn(String, u64) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for _ in 0..clients {
            let (over, turns, turn, address) = (over.clone(), turns.clone(), turn.clone(), address.to_owned());
            tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
                    // A refused or cut connection is what such a client has to live with.
                    let _ = turn(address.clone(), turns.fetch_add(1, Ordering::Relaxed)).await;
                }
            });
        }
        Self { over, turns, _clients: tasks }
    }

    /// They guess another password of a user each time and hang up, some of them only when it is being hashed.
    pub fn guess_and_hang_up(clients: usize, address: &str, user: &'static str) -> Self {
        Self::of(clients, address, move |address, turn| async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(&request("/metrics", &basic(user, &turn.to_string()))).await?;
            tokio::time::sleep(Duration::from_millis(turn % 4 * 20)).await;
            Ok(())
        })
    }

    /// They guess another password of a user each time and wait for the answer.
    pub fn guess(clients: usize, address: &str, user: &'static str) -> Self {
        Self::of(clients, address, move |address, turn| async move {
            let mut stream = TcpStream::connect(&address).await?;
            ask(&mut stream, &request("/metrics", &basic(user, &turn.to_string()))).await.map(|_| ())
        })
    }

    /// They send half a request and wait until they are cut; then they come again.
    pub fn half_a_head(clients: usize, address: &str) -> Self {
        Self::of(clients, address, |address, _| async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").await?;
            wait_for_the_end(stream).await
        })
    }

    /// They have one request answered and keep the connection.
    pub fn keep(clients: usize, address: &str) -> Self {
        Self::of(clients, address, |address, _| async move {
            let mut stream = TcpStream::connect(&address).await?;
            ask(&mut stream, &request("/-/healthy", "")).await?;
            wait_for_the_end(stream).await
        })
    }

    /// They ask for the metrics again and again and take nothing.
    pub fn take_nothing(clients: usize, address: &str) -> Self {
        Self::of(clients, address, |address, _| async move {
            let mut stream = TcpStream::connect(&address).await?;
            for _ in 0..100 {
                let request = request("/metrics", "");
                let asked = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&request));
                asked.await.unwrap_or(Ok(()))?;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(())
        })
    }

    /// How often they have done it.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Waits until they have done it so often.
    ///
    /// # Panics
    /// When they have not in time.
    pub async fn reaches(&self, turns: u64) {
        let began = Instant::now();
        while self.turns() < turns {
            assert!(began.elapsed() < PATIENCE, "{} turns", self.turns());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn wait_for_the_end(mut stream: TcpStream) -> io::Result<()> {
    let end = stream.read(&mut [0; 1]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    end.map(|_| ())
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
