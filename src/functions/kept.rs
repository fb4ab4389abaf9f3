//! Answers of Azure that are good for some minutes, by the store's clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// How long an answer is good: what changes there is seen after that.
const KEPT_FOR: TimeDelta = TimeDelta::minutes(5);

/// Answers that are kept at once; beyond it all are asked for anew.
const MOST_KEPT: usize = 10_000;

/// Answers by what was asked about.
#[derive(Debug)]
pub struct Kept<T>(Mutex<BTreeMap<String, (DateTime<Utc>, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// The answer about something, while it is good.
    pub fn fresh(&self, about: &str, now: DateTime<Utc>) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = kept.get(about)?;
        // A clock that went back makes nothing last longer.
        (TimeDelta::zero()..KEPT_FOR).contains(&(now - *at)).then(|| answer.clone())
    }

    /// Keeps an answer.
    pub fn keep(&self, about: String, now: DateTime<Utc>, answer: T) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(about, (now, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_five_minutes_and_never_for_longer() {
        let kept = Kept::default();
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        kept.keep("ada".to_owned(), now, 1);
        for (seconds, found) in [(0, Some(1)), (299, Some(1)), (300, None), (-1, None)] {
            assert_eq!(kept.fresh("ada", now + TimeDelta::seconds(seconds)), found, "{seconds}");
        }
        assert_eq!(kept.fresh("bob", now), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Kept::default();
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        for n in 0..=MOST_KEPT {
            kept.keep(n.to_string(), now, n);
        }
        assert_eq!((kept.fresh("0", now), kept.fresh(&MOST_KEPT.to_string(), now)), (None, Some(MOST_KEPT)));
    }
}
