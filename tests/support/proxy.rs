//! A TCP proxy that breaks the network on command.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::ports::free_port;

/// What happens to connections, those that are open as well as new ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Every chunk of bytes waits this long in either direction.
    Delay(Duration),
    /// New connections are accepted, but all bytes vanish, both ways. A
    /// connection that has lost bytes stays dead when the fault ends.
    BlackHole,
    /// Connections are answered with RST.
    Reset,
    /// Nobody listens; connections that are open live on, see
    /// [`Proxy::cut`].
    Refuse,
    /// Only so many bytes pass per interval, in either direction.
    Drip(usize, Duration),
}

/// Counts of client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// The most that were ever open at once.
    pub peak: usize,
    /// Accepted since the start.
    pub accepted: usize,
}

/// A proxy in front of a server, on a port of 127.0.0.1.
///
/// It runs in a thread of its own, so that a test that blocks does not stop it.
pub struct Proxy {
    port: u16,
    control: watch::Sender<Control>,
    counts: Arc<Counts>,
    /// One message for each order that the listener has carried out.
    done: Mutex<mpsc::Receiver<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Control {
    fault: Fault,
    /// The server's port on 127.0.0.1.
    upstream: u16,
    /// Goes up with every [`Proxy::cut`].
    cuts: u64,
    stop: bool,
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    peak: AtomicUsize,
    accepted: AtomicUsize,
}

impl Proxy {
    /// A proxy to `upstream` on 127.0.0.1, without a fault at first.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to(upstream: u16) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], free_port())), upstream)
    }

    /// The same at an address of its own.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn at(address: SocketAddr, upstream: u16) -> Self {
        let port = address.port();
        let (control, orders) = watch::channel(Control { fault: Fault::None, upstream, cuts: 0, stop: false });
        let counts = Arc::new(Counts::default());
        let (report, done) = mpsc::channel();
        let shared = Arc::clone(&counts);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .and_then(|runtime| runtime.block_on(serve(address, orders, shared, report)))
                .expect("a proxy that listens");
        });
        done.recv().expect("a proxy that listens");
        Self { port, control, counts, done: Mutex::new(done), thread: Some(thread) }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Switches the fault; in force for the listener when this returns.
    pub fn set(&self, fault: Fault) {
        self.order(|control| control.fault = fault);
    }

    /// Resets the connections that are open now.
    pub fn cut(&self) {
        self.order(|control| control.cuts += 1);
    }

    /// Sends new connections to another server; those that are open live on.
    pub fn redirect(&self, upstream: u16) {
        self.order(|control| control.upstream = upstream);
    }

    fn order(&self, change: impl FnOnce(&mut Control)) {
        // Held throughout: two orders at once would be carried out as one.
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        self.control.send_modify(change);
        done.recv().expect("a proxy that listens");
    }

    /// How many clients there are and were.
    pub fn connections(&self) -> Connections {
        Connections {
            open: self.counts.open.load(Ordering::SeqCst),
            peak: self.counts.peak.load(Ordering::SeqCst),
            accepted: self.counts.accepted.load(Ordering::SeqCst),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.send_modify(|control| control.stop = true);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; a second one would abort the test.
            let _ = thread.join();
        }
    }
}

/// Accepts connections until told to stop; reports each order carried out.
async fn serve(
    address: SocketAddr,
    mut orders: watch::Receiver<Control>,
    counts: Arc<Counts>,
    report: mpsc::Sender<()>,
) -> io::Result<()> {
    let mut listener = Some(TcpListener::bind(address).await?);
    loop {
        // Nobody listens any more when the proxy is being dropped.
        let _ = report.send(());
        let control = loop {
            tokio::select! {
                biased;
                _ = orders.changed() => break *orders.borrow_and_update(),
                client = accept(listener.as_ref()) => {
                    tokio::spawn(carry(client?, orders.clone(), Arc::clone(&counts)));
                }
            }
        };
        if control.stop {
            return Ok(());
        }
        if control.fault == Fault::Refuse {
            if let Some(listener) = listener.take() {
                // Closing alone would leave it listening in children that have
                // not run their program yet.
                SockRef::from(&listener).shutdown(Shutdown::Both)?;
            }
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await?);
        }
    }
}

/// The next client; never, when nobody listens.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Serves one client to its end.
async fn carry(mut client: TcpStream, orders: watch::Receiver<Control>, counts: Arc<Counts>) {
    counts.accepted.fetch_add(1, Ordering::SeqCst);
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.peak.fetch_max(open, Ordering::SeqCst);
    let reset = tokio::select! {
        biased;
        () = until_reset(orders.clone()) => true,
        outcome = converse(&mut client, orders) => outcome.is_err(),
    };
    if reset {
        // Closing without lingering sends RST. A socket that refuses the
        // option is closed already.
        let _ = client.set_zero_linger();
    }
    drop(client);
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

/// Waits until connections that are open now are to be reset.
async fn until_reset(mut orders: watch::Receiver<Control>) {
    let cuts = orders.borrow().cuts;
    // An error means that the proxy has gone, and its runtime with it.
    let _ = orders.wait_for(|now| now.cuts != cuts || now.fault == Fault::Reset).await;
}

/// Carries bytes both ways until one side closes.
async fn converse(client: &mut TcpStream, orders: watch::Receiver<Control>) -> io::Result<()> {
    let dead = AtomicBool::new(false);
    if orders.borrow().fault == Fault::BlackHole {
        dead.store(true, Ordering::SeqCst);
        let (from, _to) = client.split();
        return pump(from, None, orders, &dead).await;
    }
    let upstream = orders.borrow().upstream;
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let answers = async {
        let outcome = pump(from_server, Some(to_client), orders.clone(), &dead).await;
        if dead.load(Ordering::SeqCst) || orders.borrow().fault == Fault::BlackHole {
            // The news that the server has closed is lost like everything else.
            std::future::pending::<()>().await;
        }
        outcome
    };
    tokio::select! {
        outcome = pump(from_client, Some(to_server), orders.clone(), &dead) => outcome,
        outcome = answers => outcome,
    }
}

/// Carries bytes one way until the sender closes. Once bytes were lost the
/// connection is `dead`: later ones would make no sense to the receiver.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: Option<WriteHalf<'_>>,
    mut orders: watch::Receiver<Control>,
    dead: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..size];
        while !rest.is_empty() {
            let fault = orders.borrow_and_update().fault;
            if fault == Fault::BlackHole {
                dead.store(true, Ordering::SeqCst);
            }
            let Some(to) = to.as_mut().filter(|_| !dead.load(Ordering::SeqCst)) else { break };
            let (size, wait) = match fault {
                Fault::Delay(wait) => (rest.len(), wait),
                Fault::Drip(size, wait) => (size.clamp(1, rest.len()), wait),
                _ => (rest.len(), Duration::ZERO),
            };
            if !wait.is_zero() {
                tokio::select! {
                    biased;
                    _ = orders.changed() => continue, // what is left meets the new fault
                    () = tokio::time::sleep(wait) => {}
                }
            }
            to.write_all(&rest[..size]).await?;
            rest = &rest[size..];
        }
    }
}
