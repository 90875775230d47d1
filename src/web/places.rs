//! Places for connections: as many as the process has files for, and who gives way when all are taken.
//!
//! A newcomer never waits for others to leave: the network that holds most places gives one up. So a crowd displaces
//! itself, and everyone else is served.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
pub struct Places {
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
    /// [`Rank`] in the two highest bits, below it when that began, in milliseconds since `began`.
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
pub struct Place {
    id: u64,
    places: Arc<Places>,
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
        let since = self.began.elapsed().as_millis() as u64 & (u64::MAX >> 2);
        self.rank.store((rank as u64) << 62 | since, Ordering::Relaxed);
    }

    /// Notes that a request has come as a whole.
    pub fn answering(&self) {
        self.is_answering.store(true, Ordering::Relaxed);
        let is_served = self.rank.load(Ordering::Relaxed) >> 62 == Rank::Served as u64;
        self.enter(if is_served { Rank::Served } else { Rank::First });
    }
}

impl Places {
    /// As many places as the process may have files open, less those that it needs for itself.
    pub fn of_process() -> Arc<Self> {
        Self::new(most_connections(std::fs::read_to_string("/proc/self/limits").ok().as_deref()))
    }

    /// So many places.
    pub fn new(most: usize) -> Arc<Self> {
        let (free, taken) = (Arc::new(Semaphore::new(most)), Mutex::default());
        Arc::new(Self { most, free, taken, number: AtomicU64::new(0), began: Instant::now() })
    }

    /// Takes a place for a connection from `address`, if need be that of another one. Only one task may call this.
    pub async fn take(self: &Arc<Self>, address: IpAddr) -> Place {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.evict();
                // The one that was told to go is on its way. The semaphore is never closed.
                self.free.clone().acquire_owned().await.expect("an open semaphore")
            }
        };
        let status = Arc::new(Status::new(self.began));
        let holder = Holder { network: network(address), status: status.clone(), task: None };
        let id = self.number.fetch_add(1, Ordering::Relaxed);
        self.taken().insert(id, holder);
        Place { id, places: self.clone(), status, _permit: permit }
    }

    /// Ends one connection of the network that has most, to make room for another.
    pub fn evict(&self) {
        let mut taken = self.taken();
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for holder in taken.values() {
            *counts.entry(holder.network).or_default() += 1;
        }
        let order = |holder: &Holder| (counts[&holder.network], !holder.status.rank.load(Ordering::Relaxed));
        let first = taken.iter().filter(|(_, holder)| holder.task.is_some()).max_by_key(|(_, holder)| order(holder));
        let first = first.map(|(id, _)| *id);
        if let Some(task) = first.and_then(|id| taken.remove(&id)).and_then(|holder| holder.task) {
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

impl Place {
    /// Which one it is, for [`Places::runs`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Place {
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

fn most_connections(limits: Option<&str>) -> usize {
    let line = limits.into_iter().flat_map(str::lines).find_map(|line| line.strip_prefix("Max open files"));
    let files = line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse().ok());
    files.unwrap_or(usize::MAX).saturating_sub(OTHER_FILES).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let limits =
            |soft: &str| format!("Limit   Soft Limit  Hard Limit  Units\nMax open files     {soft}   524288  files\n");
        for (soft, most) in [("1024", 924), ("unlimited", 2048), ("1048576", 2048), ("64", 16)] {
            assert_eq!(most_connections(Some(&limits(soft))), most, "{soft}");
        }
        assert_eq!(most_connections(None), 2048);
    }

    #[test]
    fn a_client_with_many_addresses_is_one() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!((of("::ffff:192.0.2.1"), of("192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }

    /// Takes a place for a connection that stays.
    async fn connect(places: &Arc<Places>, last: u8, rank: Rank) -> tokio::task::JoinHandle<()> {
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

    #[tokio::test(start_paused = true)]
    async fn the_network_with_most_gives_way_and_spares_those_that_were_served() {
        let places = Places::new(6);
        let mut held = Vec::new();
        for (last, rank) in
            [(1, Rank::Served), (2, Rank::Served), (1, Rank::First), (1, Rank::New), (1, Rank::New), (2, Rank::New)]
        {
            held.push(connect(&places, last, rank).await);
        }
        let mut gone = Vec::new();
        for _ in 0..3 {
            held.push(connect(&places, 3, Rank::Served).await);
            let ended = |i: &usize| held[*i].is_finished() && !gone.contains(i);
            gone.extend((0..held.len()).find(ended));
        }
        assert_eq!(gone, [3, 4, 5], "the oldest new one of the largest each time");
        assert_eq!(places.free.available_permits(), 0);
        held.swap_remove(0).abort();
        tokio::task::yield_now().await;
        assert_eq!((places.free.available_permits(), places.taken().len()), (1, 5));
    }
}
