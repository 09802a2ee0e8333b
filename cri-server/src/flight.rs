//! One running operation for each key, however many callers: whoever asks for what is being done already waits for that.
//!
//! The work is a task of its own, so a caller that gives up ends nothing; it finds the operation again when it retries.

use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What becomes of an operation that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It goes on to its end.
    GoesOn,
    /// It ends at once.
    Ends,
}

/// The operations that are running.
#[derive(Debug)]
pub struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

#[derive(Debug)]
struct Flight<V> {
    done: watch::Receiver<Option<Result<V>>>,
    task: tokio::task::AbortHandle,
    waiting: usize,
    serial: u64,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for the operation of this key, and begins it with `work` where there is none.
    ///
    /// # Errors
    /// Those of the operation; `Cancelled` if it ended without a result.
    pub async fn join<F>(&self, key: K, abandoned: Abandoned, work: impl FnOnce() -> F) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut waiter = self.board(key, abandoned, work);
        let done = waiter.done.wait_for(Option::is_some).await;
        let value = done.ok().and_then(|value| value.clone());
        value.unwrap_or_else(|| Err(Error::new(Kind::Cancelled, "operation was cancelled")))
    }

    fn board<F>(&self, key: K, abandoned: Abandoned, work: impl FnOnce() -> F) -> Waiter<K, V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut running = lock(&self.running);
        let flight = running.entry(key.clone()).or_insert_with(|| {
            let serial = serial();
            let landing = Landing {
                running: self.running.clone(),
                key: key.clone(),
                serial,
            };
            let (sender, done) = watch::channel(None);
            let work = work();
            let task = tokio::spawn(async move {
                let value = work.await;
                // First nobody new may join, then those who wait are told.
                drop(landing);
                sender.send_replace(Some(value));
            });
            Flight {
                done,
                task: task.abort_handle(),
                waiting: 0,
                serial,
            }
        });
        flight.waiting += 1;
        Waiter {
            done: flight.done.clone(),
            running: self.running.clone(),
            key,
            serial: flight.serial,
            abandoned,
        }
    }
}

/// Tells one flight from a later one of the same key.
fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a flight off the list, also when its task panics or is aborted.
struct Landing<K: Hash + Eq, V> {
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    serial: u64,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if running
            .get(&self.key)
            .is_some_and(|f| f.serial == self.serial)
        {
            running.remove(&self.key);
        }
    }
}

/// One caller.
struct Waiter<K: Hash + Eq, V> {
    done: watch::Receiver<Option<Result<V>>>,
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    serial: u64,
    abandoned: Abandoned,
}

impl<K: Hash + Eq, V> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        let Some(flight) = running.get_mut(&self.key) else {
            return;
        };
        if flight.serial != self.serial {
            return;
        }
        flight.waiting -= 1;
        if flight.waiting == 0 && self.abandoned == Abandoned::Ends {
            flight.task.abort();
            // Who comes now begins anew.
            running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn many_callers_share_one_operation() {
        let flights = Arc::new(Flights::<&str, usize>::default());
        let begun = Arc::new(AtomicUsize::new(0));
        let (go, gate) = oneshot::channel::<()>();
        let gate = Arc::new(tokio::sync::Mutex::new(Some(gate)));
        let callers = (0..64).map(|_| {
            let (flights, begun, gate) = (flights.clone(), begun.clone(), gate.clone());
            tokio::spawn(async move {
                let work = || async move {
                    let gate = gate.lock().await.take().unwrap();
                    gate.await.unwrap();
                    Ok(begun.fetch_add(1, Ordering::SeqCst) + 1)
                };
                flights.join("pod", Abandoned::GoesOn, work).await.unwrap()
            })
        });
        let callers = callers.collect::<Vec<_>>();
        while lock(&flights.running)
            .get("pod")
            .is_none_or(|f| f.waiting < 64)
        {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), 1);
        }
        assert!(lock(&flights.running).is_empty());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_finds_the_operation_again() {
        let flights = Flights::<u8, u8>::default();
        let (go, gate) = oneshot::channel::<()>();
        let work = || async move {
            gate.await.unwrap();
            Ok(7)
        };
        let first = flights.board(1, Abandoned::GoesOn, work);
        drop(first);
        let second = flights.join(1, Abandoned::GoesOn, || async { Ok(8) });
        go.send(()).unwrap();
        assert_eq!(second.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_may_end_ends_with_its_last_caller() {
        let flights = Flights::<u8, u8>::default();
        let (alive, gone) = oneshot::channel::<()>();
        let work = || async move {
            let _alive = alive;
            std::future::pending::<Result<u8>>().await
        };
        let (one, two) = (
            flights.board(1, Abandoned::Ends, work),
            flights.board(1, Abandoned::Ends, || async { Ok(8) }),
        );
        drop(one);
        assert_eq!(lock(&flights.running).len(), 1);
        drop(two);
        assert!(lock(&flights.running).is_empty());
        gone.await.unwrap_err();
        let fresh = flights.join(1, Abandoned::Ends, || async { Ok(9) });
        assert_eq!(fresh.await.unwrap(), 9);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_leaves_nothing() {
        let flights = Flights::<u8, u8>::default();
        let work = || async { panic!("as wanted by the test") };
        let error = flights.join(1, Abandoned::GoesOn, work).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
        assert!(lock(&flights.running).is_empty());
    }
}
