//! Threads that verify passwords and do nothing else, so that no flood of passwords holds up rendering, saving or polls.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::places::network;

/// So many passwords are verified at once; each keeps a processor busy.
pub const AT_ONCE: usize = 2;
/// The failures of so many networks are remembered.
const MAX_NETWORKS: usize = 10_000;

/// Says whether a password is right.
type Work = Box<dyn FnOnce() -> bool + Send>;

/// The threads, and what waits for them.
#[derive(Clone)]
pub struct Pool(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// In the order of arrival.
    jobs: Vec<Job>,
    /// How often each network has failed since it last had a right password.
    failures: HashMap<IpAddr, u32>,
}

struct Job {
    network: IpAddr,
    work: Work,
    answer: oneshot::Sender<bool>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the threads, which live as long as the process.
    ///
    /// # Errors
    /// Fails if the system has no thread to give.
    pub fn start() -> io::Result<Self> {
        let pool = Self(Arc::default());
        for _ in 0..AT_ONCE {
            let queue = pool.0.clone();
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || {
                loop {
                    queue.run_one();
                }
            })?;
        }
        Ok(pool)
    }

    /// Queues work for a client. If the answer is dropped before the work begins, the work is never done.
    pub fn submit(&self, client: IpAddr, work: Work) -> oneshot::Receiver<bool> {
        let (answer, receiver) = oneshot::channel();
        self.0.waiting().jobs.push(Job { network: network(client), work, answer });
        self.0.arrived.notify_one();
        receiver
    }
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job and does it.
    fn run_one(&self) {
        let mut waiting = self.waiting();
        let Job { network, work, answer } = loop {
            match waiting.next() {
                Some(job) => break job,
                None => waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(waiting);
        // A thread that ended would be missed for ever.
        let is_right = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
        let mut waiting = self.waiting();
        if is_right {
            waiting.failures.remove(&network);
        } else {
            if waiting.failures.len() >= MAX_NETWORKS {
                waiting.failures.clear();
            }
            *waiting.failures.entry(network).or_default() += 1;
        }
        // Nobody may be left to hear it.
        let _ = answer.send(is_right);
    }
}

impl Waiting {
    /// The next job: of the network that has failed least, so that one that guesses delays only itself; of its jobs the
    /// newest, since a crowd that arrived together would make whoever comes after it wait for all of it.
    fn next(&mut self) -> Option<Job> {
        self.jobs.retain(|job| !job.answer.is_closed());
        let failures = |job: &Job| self.failures.get(&job.network).copied().unwrap_or_default();
        let (next, _) = self.jobs.iter().enumerate().rev().min_by_key(|(_, job)| failures(job))?;
        Some(self.jobs.remove(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs by the last byte of their address, in the order in which they are done.
    fn order(failures: &[(u8, u32)], arrived: &[u8]) -> (Vec<u8>, Vec<oneshot::Receiver<bool>>) {
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let mut waiting = Waiting::default();
        waiting.failures.extend(failures.iter().map(|(n, failures)| (address(*n), *failures)));
        let mut receivers = Vec::new();
        for &n in arrived {
            let (answer, receiver) = oneshot::channel();
            waiting.jobs.push(Job { network: address(n), work: Box::new(move || n % 2 == 0), answer });
            receivers.push(receiver);
        }
        // The first client hangs up.
        receivers.remove(0);
        let done = std::iter::from_fn(|| waiting.next());
        let last = |job: Job| match job.network {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        (done.map(last).collect(), receivers)
    }

    #[test]
    fn networks_that_guess_wait_for_others_and_who_hung_up_costs_nothing() {
        assert_eq!(order(&[(1, 5), (2, 1)], &[9, 1, 2, 3, 1]).0, [3, 2, 1, 1]);
    }

    #[test]
    fn work_is_done_and_what_came_of_it_is_remembered() {
        let pool = Pool::start().unwrap();
        let address = IpAddr::from([127, 0, 0, 1]);
        let run = |result| pool.submit(address, Box::new(move || result)).blocking_recv().unwrap();
        let failures = || pool.0.waiting().failures.get(&address).copied();
        assert!(!run(false) && !run(false));
        assert_eq!(failures(), Some(2));
        assert!(run(true));
        assert_eq!(failures(), None);
    }
}
