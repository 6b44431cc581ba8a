//! Two transfers of the same file at once: the old one may be the ghost of a sender that was killed.
//!
//! A connection whose other end died without a word is noticed only when it has been silent for
//! QUIC's idle timeout. A sender that comes back sooner finds its part locked by its own ghost. So
//! the newcomer looks whether the other transfer moves; if it does not, it has to make way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::note::Offer;
use super::pace::Pace;

/// A transfer in which nothing moves for so long makes way for a newcomer. A living sender on a bad
/// line may be silent for a few round trips.
const GHOST_AFTER: Duration = Duration::from_secs(2);

/// How long the other one may take to let go of the file.
const GIVING_WAY_MAX: Duration = Duration::from_secs(2);

/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// What makes two offers the same file: name, size, last change.
type Key = (String, u64, Option<u64>);

/// Transfers under way, by file; of several, the latest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rivals {
    active: Arc<Mutex<BTreeMap<Key, Active>>>,
}

#[derive(Clone, Debug)]
struct Active {
    pace: Arc<Pace>,
    make_way: Arc<Notify>,
}

/// A place among the transfers under way, as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    rivals: Rivals,
    key: Key,
    active: Active,
}

impl Rivals {
    /// Enters a transfer of `offer`, whose progress `pace` shows. If one is under way that does not
    /// move, waits until it has made way.
    pub(crate) async fn enter(&self, offer: &Offer, pace: &Arc<Pace>) -> Place {
        let key = (offer.name.clone(), offer.size, offer.modified);
        let rival = self.lock().get(&key).cloned();
        if let Some(rival) = rival {
            let before = rival.pace.bytes();
            tokio::time::sleep(GHOST_AFTER).await;
            if rival.pace.bytes() == before {
                rival.make_way.notify_one();
                self.gone(&key, &rival).await;
            }
        }
        let active = Active { pace: pace.clone(), make_way: Arc::new(Notify::new()) };
        self.lock().insert(key.clone(), active.clone());
        Place { rivals: self.clone(), key, active }
    }

    /// Waits until `rival` has left, but not for long.
    async fn gone(&self, key: &Key, rival: &Active) {
        let is_here = || self.lock().get(key).is_some_and(|active| Arc::ptr_eq(&active.pace, &rival.pace));
        let mut waited = Duration::ZERO;
        while is_here() && waited < GIVING_WAY_MAX {
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when a newcomer wants the place.
    pub(crate) async fn wanted(&self) {
        self.active.make_way.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut active = self.rivals.lock();
        if active.get(&self.key).is_some_and(|entry| Arc::ptr_eq(&entry.pace, &self.active.pace)) {
            active.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer { name: "a".into(), size: 1, modified: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_stands_still_makes_way_and_one_that_moves_does_not() {
        let rivals = Rivals::default();
        let (old, new) = (Arc::new(Pace::default()), Arc::new(Pace::default()));
        let place = rivals.enter(&offer(), &old).await;
        let ghost = tokio::spawn(async move {
            place.wanted().await;
        });
        let second = rivals.enter(&offer(), &new).await;
        assert!(ghost.is_finished(), "the ghost has left before the newcomer went on");

        let moving = tokio::spawn(async move {
            loop {
                new.add(1);
                tokio::time::sleep(LOOK).await;
            }
        });
        let third = rivals.enter(&offer(), &Arc::new(Pace::default())).await;
        let asked = tokio::time::timeout(GHOST_AFTER, second.wanted()).await;
        assert!(asked.is_err(), "a transfer that moves is left in peace");
        moving.abort();
        drop((second, third));
        assert!(rivals.lock().is_empty());
    }
}
