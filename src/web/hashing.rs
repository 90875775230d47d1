//! Threads that verify passwords and do nothing else, so that no flood of passwords holds up rendering, saving or polls.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::connection_slots::network;

/// So many passwords are verified at once; each keeps a processor busy.
pub const AT_ONCE: usize = 2;
/// The failures of so many guessers are remembered.
const MAX_GUESSERS: usize = 10_000;

/// Whose attempts are held against each other: a network, and the user that it says it is.
type Guesser = (IpAddr, String);

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
    /// How often each has failed since the last right password.
    failures: HashMap<Guesser, u32>,
}

struct Job {
    guesser: Guesser,
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

    /// Queues work for a client that says it is `user`. If the answer is dropped before the work begins, the work is never
    /// done.
    pub fn submit(&self, client: IpAddr, user: &str, work: Work) -> oneshot::Receiver<bool> {
        let (answer, receiver) = oneshot::channel();
        self.0.waiting().jobs.push(Job { guesser: (network(client), user.to_owned()), work, answer });
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
        let Job { guesser, work, answer } = loop {
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
            waiting.failures.remove(&guesser);
        } else {
            if waiting.failures.len() >= MAX_GUESSERS {
                waiting.failures.clear();
            }
            *waiting.failures.entry(guesser).or_default() += 1;
        }
        // Nobody may be left to hear it.
        let _ = answer.send(is_right);
    }
}

impl Waiting {
    /// The next job: of whoever has failed least, so that those who guess delay only each other; of these jobs the newest,
    /// since a crowd that arrived together would make whoever comes after it wait for all of it.
    fn next(&mut self) -> Option<Job> {
        self.jobs.retain(|job| !job.answer.is_closed());
        let failures = |job: &Job| self.failures.get(&job.guesser).copied().unwrap_or_default();
        let (next, _) = self.jobs.iter().enumerate().rev().min_by_key(|(_, job)| failures(job))?;
        Some(self.jobs.remove(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesser((last, user): (u8, &str)) -> Guesser {
        (IpAddr::from([127, 0, 0, last]), user.to_owned())
    }

    #[test]
    fn who_guesses_waits_for_others_and_who_hung_up_costs_nothing() {
        let mut waiting = Waiting::default();
        waiting.failures.extend([((1, "a"), 5), ((2, "a"), 1)].map(|(who, failures)| (guesser(who), failures)));
        let arrived = [(9, "gone"), (1, "a"), (2, "a"), (3, "a"), (1, "b"), (1, "a")];
        let mut answers = Vec::new();
        for who in arrived {
            let (answer, receiver) = oneshot::channel();
            waiting.jobs.push(Job { guesser: guesser(who), work: Box::new(|| true), answer });
            answers.push(receiver);
        }
        answers.remove(0);
        let order: Vec<Guesser> = std::iter::from_fn(|| waiting.next()).map(|job| job.guesser).collect();
        assert_eq!(order, [(1, "b"), (3, "a"), (2, "a"), (1, "a"), (1, "a")].map(guesser));
    }

    #[test]
    fn work_is_done_and_what_came_of_it_is_remembered() {
        let pool = Pool::start().unwrap();
        let who = guesser((1, "a"));
        let run = |result| pool.submit(who.0, &who.1, Box::new(move || result)).blocking_recv().unwrap();
        let failures = || pool.0.waiting().failures.get(&who).copied();
        assert!(!run(false) && !run(false));
        assert_eq!(failures(), Some(2));
        assert!(run(true));
        assert_eq!(failures(), None);
    }
}
