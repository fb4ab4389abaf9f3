//! The tenant's signing keys, read when first needed and kept until a token names one that is not among them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::azure::CallFailed;
use crate::azure::entra::{Entra, SigningKey};

/// Anybody can send a token that names a key that does not exist, and must not make us ask Entra each time.
const BETWEEN_READS: Duration = Duration::from_secs(60);

/// After a failure nobody can be let in, so the next try comes sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A key that the tenant has withdrawn is not believed for longer than this.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of one tenant.
#[derive(Debug)]
pub(super) struct Keys {
    entra: Entra,
    known: RwLock<Known>,
    /// Held while the keys are read, so that one reads for all who wait.
    last: Mutex<Option<LastRead>>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<DecodingKey>>,
    since: Option<Instant>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

#[derive(Debug)]
struct LastRead {
    at: Instant,
    failed: Option<CallFailed>,
}

impl LastRead {
    fn is_recent(&self) -> bool {
        let pause = if self.failed.is_some() { AFTER_FAILURE } else { BETWEEN_READS };
        self.at.elapsed() < pause
    }
}

impl Keys {
    /// No key is read yet.
    pub fn new(entra: Entra) -> Self {
        Keys { entra, known: RwLock::default(), last: Mutex::default() }
    }

    /// The key with this id; none if the tenant publishes none of it. A failure says that this is not known.
    pub async fn get(&self, id: &str) -> Result<Option<Arc<DecodingKey>>, CallFailed> {
        if let Some(key) = self.fresh(id) {
            return Ok(Some(key));
        }
        let mut last = self.last.lock().await;
        // Whoever held the lock before has perhaps read it.
        if let Some(key) = self.fresh(id) {
            return Ok(Some(key));
        }
        let failed = match last.as_ref().filter(|last| last.is_recent()) {
            Some(recent) => recent.failed.clone(),
            None => {
                let failed = self.read().await.err();
                *last = Some(LastRead { at: Instant::now(), failed: failed.clone() });
                failed
            }
        };
        match (self.known(id), failed) {
            // A key that is only old is better than nobody being let in while Entra does not answer.
            (Some(key), _) => Ok(Some(key)),
            (None, None) => Ok(None),
            (None, Some(failed)) => Err(failed),
        }
    }

    fn fresh(&self, id: &str) -> Option<Arc<DecodingKey>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.since.filter(|since| since.elapsed() < KEPT).and_then(|_| known.keys.get(id).cloned())
    }

    fn known(&self, id: &str) -> Option<Arc<DecodingKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys.get(id).cloned()
    }

    async fn read(&self) -> Result<(), CallFailed> {
        let keys = match self.entra.signing_keys().await {
            Ok(keys) => keys,
            Err(failed) => {
                error!(error = %failed, "the tenant's signing keys cannot be read");
                return Err(failed);
            }
        };
        let keys: HashMap<_, _> = keys.iter().filter_map(|key| Some((key.id.clone(), Arc::new(decoding(key)?)))).collect();
        info!(keys = keys.len(), "the tenant's signing keys were read");
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { keys, since: Some(Instant::now()) };
        Ok(())
    }
}

/// A key that is no RSA key is one that signs nothing.
fn decoding(key: &SigningKey) -> Option<DecodingKey> {
    DecodingKey::from_rsa_components(&key.modulus, &key.exponent).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::entra::tests::{CONFIGURATION, FarEnd, Reply, entra, ok};

    fn published(ids: &[&str]) -> Reply {
        let keys: Vec<_> = ids.iter().map(|id| serde_json::json!({"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB"})).collect();
        ok(&serde_json::json!({ "keys": keys }).to_string())
    }

    fn asked(far_end: &FarEnd) -> usize {
        far_end.asked.lock().unwrap().len()
    }

    async fn has(keys: &Keys, id: &str) -> bool {
        keys.get(id).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_at_the_first_need_and_kept() {
        let (entra, far_end) = entra(vec![ok(CONFIGURATION), published(&["a", "b"])]);
        let keys = Keys::new(entra);
        assert_eq!(asked(&far_end), 0);
        assert!(has(&keys, "a").await && has(&keys, "b").await && has(&keys, "a").await);
        assert_eq!(asked(&far_end), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_by_reading_again_once_a_minute_at_most() {
        let (entra, far_end) = entra(vec![ok(CONFIGURATION), published(&["a"]), ok(CONFIGURATION), published(&["b"])]);
        let keys = Keys::new(entra);
        assert!(has(&keys, "a").await);
        for _ in 0..10 {
            assert!(!has(&keys, "b").await);
        }
        assert_eq!(asked(&far_end), 2);
        tokio::time::advance(BETWEEN_READS).await;
        assert!(has(&keys, "b").await);
        assert!(!has(&keys, "a").await, "a key that is no longer published is not believed");
        assert_eq!(asked(&far_end), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn one_reads_for_all_who_wait() {
        let slow = Reply::Status(503, vec![("retry-after", "1")], "");
        let (entra, far_end) = entra(vec![slow, ok(CONFIGURATION), published(&["a"])]);
        let keys = Keys::new(entra);
        let (one, two, three) = tokio::join!(keys.get("a"), keys.get("a"), keys.get("nothing"));
        assert!(one.unwrap().is_some() && two.unwrap().is_some() && three.unwrap().is_none());
        assert_eq!(asked(&far_end), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_an_unknown_key_and_is_soon_tried_again() {
        let (entra, far_end) = entra(vec![ok("<html>"), ok(CONFIGURATION), published(&["a"])]);
        let keys = Keys::new(entra);
        assert!(keys.get("a").await.is_err() && keys.get("a").await.is_err());
        assert_eq!(asked(&far_end), 1);
        tokio::time::advance(AFTER_FAILURE).await;
        assert!(has(&keys, "a").await);
    }

    #[tokio::test(start_paused = true)]
    async fn old_keys_are_read_again_and_serve_while_that_fails() {
        let (entra, far_end) = entra(vec![ok(CONFIGURATION), published(&["a"]), ok("<html>"), ok(CONFIGURATION), published(&["b"])]);
        let keys = Keys::new(entra);
        assert!(has(&keys, "a").await);
        tokio::time::advance(KEPT).await;
        assert!(has(&keys, "a").await);
        assert!(keys.get("b").await.is_err());
        assert_eq!(asked(&far_end), 3);
        tokio::time::advance(AFTER_FAILURE).await;
        assert!(!has(&keys, "a").await);
        assert_eq!(asked(&far_end), 5);
    }
}
