//! Threads that verify passwords and do nothing else, so that no flood of passwords holds up rendering, saving or polls.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::connection_slots::network;

/// Which jobs each thread takes; each keeps a processor busy. Those who guess have one of them between them.
pub const THREADS: [Takes; 2] = [Takes::All, Takes::Unsuspected];
/// The failures of so many guessers are remembered.
const MAX_GUESSERS: usize = 10_000;

/// The jobs that a thread takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Any.
    All,
    /// Those of networks from which no wrong password has come since the last right one.
    Unsuspected,
}

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
    /// How often a password from each network has been wrong since the last right one, whoever the user.
    wrong: HashMap<IpAddr, u32>,
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
        for takes in THREADS {
            let queue = pool.0.clone();
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || {
                loop {
                    queue.run_one(takes);
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
        // The one that is woken alone might not take it.
        self.0.arrived.notify_all();
        receiver
    }
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job that this thread takes, and does it.
    fn run_one(&self, takes: Takes) {
        let mut waiting = self.waiting();
        let Job { guesser, work, answer } = loop {
            match waiting.next(takes) {
                Some(job) => break job,
                None => waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(waiting);
        // A thread that ended would be missed for ever.
        let is_right = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
        let mut waiting = self.waiting();
        if is_right {
            waiting.wrong.remove(&guesser.0);
            waiting.failures.remove(&guesser);
        } else {
            waiting.failed(guesser);
        }
        // Nobody may be left to hear it.
        let _ = answer.send(is_right);
    }
}

impl Waiting {
    /// The next job that a thread takes: of whoever has failed least, so that those who guess delay only each other; of these
    /// the one whose network has, as the names that they guess at may be many; of these the newest, since a crowd that
    /// arrived together would make whoever comes after it wait for all of it.
    fn next(&mut self, takes: Takes) -> Option<Job> {
        self.jobs.retain(|job| !job.answer.is_closed());
        let failures = |job: &Job| {
            let of_network = self.wrong.get(&job.guesser.0).copied().unwrap_or_default();
            (self.failures.get(&job.guesser).copied().unwrap_or_default(), of_network)
        };
        let is_taken = |job: &Job| takes == Takes::All || failures(job).1 == 0;
        let jobs = self.jobs.iter().enumerate().rev().filter(|(_, job)| is_taken(job));
        let (next, _) = jobs.min_by_key(|(_, job)| failures(job))?;
        Some(self.jobs.remove(next))
    }

    /// Remembers a wrong password.
    fn failed(&mut self, guesser: Guesser) {
        if self.failures.len().max(self.wrong.len()) >= MAX_GUESSERS {
            self.failures.clear();
            self.wrong.clear();
        }
        *self.wrong.entry(guesser.0).or_default() += 1;
        *self.failures.entry(guesser).or_default() += 1;
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
        (0..5).for_each(|_| waiting.failed(guesser((1, "a"))));
        waiting.failed(guesser((2, "a")));
        let arrived = [(9, "gone"), (1, "a"), (2, "a"), (3, "a"), (1, "b"), (2, "b"), (4, "a"), (1, "a")];
        let mut answers = Vec::new();
        for who in arrived {
            let (answer, receiver) = oneshot::channel();
            waiting.jobs.push(Job { guesser: guesser(who), work: Box::new(|| true), answer });
            answers.push(receiver);
        }
        answers.remove(0);
        let mut order =
            |takes| -> Vec<Guesser> { std::iter::from_fn(|| waiting.next(takes)).map(|job| job.guesser).collect() };
        assert_eq!(order(Takes::Unsuspected), [(4, "a"), (3, "a")].map(guesser));
        assert_eq!(order(Takes::All), [(2, "b"), (1, "b"), (2, "a"), (1, "a"), (1, "a")].map(guesser));
    }

    /// However many guess and however long their hashes take.
    #[test]
    fn who_has_never_guessed_waits_for_no_guess() {
        let pool = Pool::start().unwrap();
        let submit = |who, work: Work| {
            let (client, user) = guesser(who);
            pool.submit(client, &user, work)
        };
        assert!(!submit((1, "a"), Box::new(|| false)).blocking_recv().unwrap());
        let (began, begins) = std::sync::mpsc::channel();
        let (finish, finishes) = std::sync::mpsc::channel::<()>();
        let finishes = Arc::new(Mutex::new(finishes));
        let guesses = began.clone();
        let guess = |n: u32| {
            let (began, finishes) = (guesses.clone(), finishes.clone());
            let work = move || began.send("guess").is_ok() && finishes.lock().unwrap().recv().is_ok();
            let (client, _) = guesser((1, ""));
            pool.submit(client, &format!("user{n}"), Box::new(work))
        };
        let attack: Vec<_> = (0..100).map(guess).collect();
        assert_eq!(begins.recv().unwrap(), "guess");
        let right = submit((2, "a"), Box::new(move || began.send("right").is_ok()));
        assert_eq!(begins.recv().unwrap(), "right");
        assert!(right.blocking_recv().unwrap());
        drop((finish, attack));
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
