//! What the address of a stream holds in the place of who may use it: 128 bits that nobody can guess, for one use.

use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an address is of use.
const LIFE: Duration = Duration::from_secs(60);
/// Most addresses that wait for their use.
const MOST: usize = 1000;

/// Requests that wait for their clients.
#[derive(Debug)]
pub struct Tokens<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Tokens<T> {
    /// Keeps a request, and returns its token.
    ///
    /// # Errors
    /// `Exhausted` where too many wait; those of reading /dev/urandom.
    pub fn put(&self, request: T) -> Result<String> {
        let token = crate::record::random::<16>()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (since, _)| since.elapsed() < LIFE);
        if waiting.len() >= MOST {
            let text = format!("{MOST} streams were asked for and not begun");
            return Err(Error::new(Kind::Exhausted, text));
        }
        waiting.insert(token.clone(), (Instant::now(), request));
        Ok(token)
    }

    /// Takes the request of a token: once.
    pub fn take(&self, token: &str) -> Option<T> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, request) = waiting.remove(token)?;
        (since.elapsed() < LIFE).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_once() {
        let tokens = Tokens::default();
        let (one, two) = (tokens.put(1).unwrap(), tokens.put(2).unwrap());
        assert!(one != two && one.len() == 32);
        assert_eq!(tokens.take(&one), Some(1));
        assert_eq!(tokens.take(&one), None);
        assert_eq!(tokens.take(""), None);
        for number in 3..=MOST + 1 {
            tokens.put(number).unwrap();
        }
        assert_eq!(tokens.put(0).unwrap_err().kind(), Kind::Exhausted);
        tokens.take(&two).unwrap();
        tokens.put(0).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn of_no_use_after_a_minute() {
        let tokens = Tokens::default();
        let late = tokens.put(0).unwrap();
        tokio::time::advance(LIFE).await;
        assert_eq!(tokens.take(&late), None);
        for number in 0..MOST {
            tokens.put(number).unwrap();
        }
        // Nor do they stand in the way of others.
        tokio::time::advance(LIFE).await;
        tokens.put(0).unwrap();
    }
}
