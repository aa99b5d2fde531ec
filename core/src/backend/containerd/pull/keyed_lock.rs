use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Locks by name: work on one name waits, work on different names does not. Made for a `static`.
pub(super) struct KeyedLock<K> {
    locks: OnceLock<Mutex<HashMap<K, Weak<Lock>>>>,
}

impl<K: Eq + Hash> KeyedLock<K> {
    pub(super) const fn new() -> Self {
        Self { locks: OnceLock::new() }
    }

    /// Waits until nobody works on `key`. The guard ends the work.
    pub(super) async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks =
                self.locks.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(&key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Lock::default());
                    locks.insert(key, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn one_name_is_for_one_at_a_time_and_is_forgotten_afterwards() {
        static LOCK: KeyedLock<u8> = KeyedLock::new();
        let first = LOCK.lock(1).await;
        let _other = LOCK.lock(2).await;
        assert!(tokio::time::timeout(Duration::from_millis(30), LOCK.lock(1)).await.is_err());
        drop(first);
        drop(LOCK.lock(1).await);
        let _third = LOCK.lock(3).await;
        assert_eq!(LOCK.locks.get().unwrap().lock().unwrap().len(), 2);
    }
}
