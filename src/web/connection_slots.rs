//! Places for connections: as many as the process has files for, and who gives way when all are taken.
//!
//! A newcomer never waits for others to leave: the network that holds most places gives one up. So a crowd displaces
//! itself, and everyone else is served.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// More connections than this are never kept.
const MAX_CONNECTIONS: usize = 2048;
/// However few files there are, so many connections are kept.
const MIN_CONNECTIONS: usize = 16;
/// File descriptors that are left for everything else, such as the database.
const OTHER_FILES: usize = 100;
/// A first request has this long to come.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// The same while places are scarce.
const FIRST_REQUEST_SCARCE: Duration = Duration::from_secs(2);

/// The places of a server.
#[derive(Debug)]
pub struct ConnectionSlots {
    most: usize,
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<u64, Holder>>,
    /// Numbers the places that were ever taken.
    number: AtomicU64,
    began: Instant,
}

/// A connection that has a place.
#[derive(Debug)]
struct Holder {
    network: IpAddr,
    status: Arc<Status>,
    task: Option<AbortHandle>,
}

/// How a connection stands: it is written by the connection and read when one has to go.
#[derive(Debug)]
pub struct Status {
    began: Instant,
    /// [`Rank`] in the two highest bits, below it when that began, in microseconds since `began`.
    rank: AtomicU64,
    /// True from the end of a request's head to the first byte of its response.
    pub is_answering: AtomicBool,
}

/// Who gives way first, within a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// No request has come as a whole.
    New,
    /// The first request is being answered.
    First,
    /// A response has been taken.
    Served,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    id: u64,
    places: Arc<ConnectionSlots>,
    /// How its connection stands.
    pub status: Arc<Status>,
    _permit: OwnedSemaphorePermit,
}

impl Status {
    /// A connection that has just been made.
    pub fn new(began: Instant) -> Self {
        let status = Self { began, rank: AtomicU64::new(0), is_answering: AtomicBool::new(false) };
        status.enter(Rank::New);
        status
    }

    /// Notes what the connection is at from now on.
    pub fn enter(&self, rank: Rank) {
        let since = self.began.elapsed().as_micros() as u64 & (u64::MAX >> 2);
        self.rank.store((rank as u64) << 62 | since, Ordering::Relaxed);
    }

    /// Notes that a request has come as a whole.
    pub fn answering(&self) {
        self.is_answering.store(true, Ordering::Relaxed);
        let is_served = self.rank.load(Ordering::Relaxed) >> 62 == Rank::Served as u64;
        self.enter(if is_served { Rank::Served } else { Rank::First });
    }
}

impl ConnectionSlots {
    /// As many places as the process may have files open, less those that it needs for itself.
    pub fn of_process() -> Arc<Self> {
        Self::new(most_connections(getrlimit(Resource::Nofile).current))
    }

    /// So many places.
    pub fn new(most: usize) -> Arc<Self> {
        let (free, taken) = (Arc::new(Semaphore::new(most)), Mutex::default());
        Arc::new(Self { most, free, taken, number: AtomicU64::new(0), began: Instant::now() })
    }

    /// Takes a place for a connection from `address`, if need be that of another one. Only one task may call this.
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    pub async fn take(self: &Arc<Self>, address: IpAddr) -> ConnectionSlot {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.evict();
                // The one that was told to go is on its way.
                self.free.clone().acquire_owned().await.expect("an open semaphore")
            }
        };
        let status = Arc::new(Status::new(self.began));
        let holder = Holder { network: network(address), status: status.clone(), task: None };
        let id = self.number.fetch_add(1, Ordering::Relaxed);
        self.taken().insert(id, holder);
        ConnectionSlot { id, places: self.clone(), status, _permit: permit }
    }

    /// Ends one connection of the network that has most, to make room for another.
    pub fn evict(&self) {
        let mut taken = self.taken();
        let mut networks: HashMap<IpAddr, Vec<(u64, u64)>> = HashMap::new();
        for (id, holder) in taken.iter().filter(|(_, holder)| holder.task.is_some()) {
            networks.entry(holder.network).or_default().push((holder.status.rank.load(Ordering::Relaxed), *id));
        }
        let most = networks.values().map(Vec::len).max();
        // Several can hold as many.
        let mut largest: Vec<_> = networks.into_values().filter(|held| Some(held.len()) == most).flatten().collect();
        largest.sort_unstable();
        let new = largest.partition_point(|(rank, _)| rank >> 62 < Rank::Served as u64);
        // A crowd that never asks gives way before anyone who was served; a few that have just come are no crowd.
        let is_crowd = new >= (self.most / 8).max(1);
        let first = largest.get(if is_crowd { 0 } else { new }).or(largest.first());
        if let Some(task) = first.and_then(|(_, id)| taken.remove(id)).and_then(|holder| holder.task) {
            task.abort();
        }
    }

    /// How long a first request may take to come.
    pub fn first_request(&self) -> Duration {
        let is_scarce = self.free.available_permits() < self.most / 4;
        if is_scarce { FIRST_REQUEST_SCARCE } else { FIRST_REQUEST }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u64, Holder>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the task of the connection that has a place, unless it has ended: from now on it can be told to go.
    pub fn runs(&self, id: u64, task: AbortHandle) {
        if let Some(holder) = self.taken().get_mut(&id) {
            holder.task = Some(task);
        }
    }
}

impl ConnectionSlot {
    /// Which one it is, for [`ConnectionSlots::runs`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.places.taken().remove(&self.id);
    }
}

/// What one client can have many addresses in: the address itself, of IPv6 the first half.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// How many connections are kept by a process that may have so many files open; `None` for any number.
fn most_connections(files: Option<u64>) -> usize {
    files
        .and_then(|files| usize::try_from(files).ok())
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES)
        .clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, most) in [(Some(1024), 924), (None, 2048), (Some(1_048_576), 2048), (Some(64), 16)] {
            assert_eq!(most_connections(files), most, "{files:?}");
        }
    }

    #[test]
    fn a_client_with_many_addresses_is_one() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!((of("::ffff:192.0.2.1"), of("192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }

    /// Takes a place for a connection that stays.
    async fn connect(places: &Arc<ConnectionSlots>, last: u8, rank: Rank) -> tokio::task::JoinHandle<()> {
        let place = places.take(IpAddr::from([192, 0, 2, last])).await;
        place.status.enter(rank);
        let id = place.id();
        let task = tokio::spawn(async move {
            let _place = place;
            std::future::pending::<()>().await;
        });
        places.runs(id, task.abort_handle());
        tokio::time::advance(Duration::from_millis(1)).await;
        task
    }

    /// Which of these connections give way to others, in turn; each is the last byte of an address with a rank.
    async fn gone(most: usize, held: &[(u8, Rank)], newcomers: usize) -> Vec<usize> {
        let places = ConnectionSlots::new(most);
        let mut tasks = Vec::new();
        for (last, rank) in held {
            tasks.push(connect(&places, *last, *rank).await);
        }
        let mut gone: Vec<usize> = Vec::new();
        for _ in 0..newcomers {
            tasks.push(connect(&places, 9, Rank::New).await);
            gone.extend((0..tasks.len()).find(|i| tasks[*i].is_finished() && !gone.contains(i)));
        }
        assert_eq!((places.free.available_permits(), places.taken().len()), (0, most));
        tasks.pop().unwrap().abort();
        tokio::task::yield_now().await;
        assert_eq!((places.free.available_permits(), places.taken().len()), (1, most - 1));
        gone
    }

    #[tokio::test(start_paused = true)]
    async fn the_network_with_most_gives_way_and_in_a_crowd_those_that_were_served_are_spared() {
        use Rank::{First, New, Served};
        let held = [(1, Served), (2, Served), (1, First), (1, New), (1, New), (2, New)];
        assert_eq!(gone(6, &held, 3).await, [3, 4, 5]);
        // Of a network whose connections were all served, the one that was served longest ago, and not who has just come.
        let held: Vec<(u8, Rank)> = (0..16).map(|_| (9, Served)).collect();
        assert_eq!(gone(16, &held, 2).await, [0, 1]);
    }
}
