//! The retry policy of a `function.json`: how often a failed run is tried again in place, and after which pauses.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::cron::time_span;

/// `retry` of a `function.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries come after the first; none is without end (`-1`).
    pub most: Option<u32>,
    /// The pauses between them.
    pub pauses: Pauses,
}

/// The pauses between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// `fixedDelay`.
    Fixed(TimeDelta),
    /// `exponentialBackoff`. The jitter of a fifth that the host adds is left out, so that a story repeats itself.
    Exponential {
        /// The first pause.
        least: TimeDelta,
        /// No pause is longer.
        most: TimeDelta,
    },
}

/// What a try that is not the first is told of those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryContext {
    /// Which retry it is, from 1 on.
    pub count: u32,
    /// How many there may be; none is without end.
    pub most: Option<u32>,
    /// Why the last try failed.
    pub reason: String,
}

impl RetryPolicy {
    /// Reads the member `retry`.
    pub fn parse(retry: &Value) -> Result<RetryPolicy, String> {
        let text = |key: &str| retry.get(key).and_then(Value::as_str).unwrap_or_default();
        let span = |key: &str| {
            let span = time_span(text(key)).filter(|span| *span >= TimeDelta::zero());
            span.ok_or_else(|| format!("its retry needs {key}, a time span such as 00:00:10"))
        };
        let most = match retry.get("maxRetryCount").and_then(Value::as_i64) {
            Some(-1) => None,
            Some(count) => Some(u32::try_from(count).map_err(|_| format!("its maxRetryCount is {count}"))?),
            None => return Err("its retry needs maxRetryCount, -1 being without end".to_owned()),
        };
        let pauses = match text("strategy") {
            strategy if strategy.eq_ignore_ascii_case("fixedDelay") => Pauses::Fixed(span("delayInterval")?),
            strategy if strategy.eq_ignore_ascii_case("exponentialBackoff") => {
                let (least, most) = (span("minimumInterval")?, span("maximumInterval")?);
                if least > most {
                    return Err("its minimumInterval is longer than its maximumInterval".to_owned());
                }
                Pauses::Exponential { least, most }
            }
            other => return Err(format!("its retry strategy '{other}' is neither fixedDelay nor exponentialBackoff")),
        };
        Ok(RetryPolicy { most, pauses })
    }

    /// The pause before the retry of this number, from 1 on; none if there is no such retry.
    pub fn pause_before(&self, count: u32) -> Option<TimeDelta> {
        if self.most.is_some_and(|most| count > most) {
            return None;
        }
        Some(match self.pauses {
            Pauses::Fixed(pause) => pause,
            Pauses::Exponential { least, most } => {
                // Least, then least and once, twice, four times … as much again.
                let grown = count.checked_sub(2).map_or(1, |more| 2_i32.checked_pow(more).unwrap_or(i32::MAX).saturating_add(1));
                least.checked_mul(grown).map_or(most, |pause| pause.min(most))
            }
        })
    }
}

impl RetryContext {
    /// As the host puts it into an invocation's metadata.
    pub fn encoded(&self) -> Value {
        json!({
            "RetryCount": self.count,
            "MaxRetryCount": self.most.map_or(-1, i64::from),
            "Exception": { "ClassName": "Microsoft.Azure.WebJobs.Host.FunctionInvocationException", "Message": self.reason },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(retry: Value) -> Vec<Option<i64>> {
        let policy = RetryPolicy::parse(&retry).unwrap();
        (1..=6).map(|count| policy.pause_before(count).map(|pause| pause.num_seconds())).collect()
    }

    #[test]
    fn pauses_are_fixed_or_grow_to_their_limit() {
        let fixed = json!({ "strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:10" });
        assert_eq!(pauses(fixed), [Some(10), Some(10), None, None, None, None]);
        let growing =
            json!({ "strategy": "exponentialBackoff", "maxRetryCount": -1, "minimumInterval": "00:00:10", "maximumInterval": "00:01:00" });
        assert_eq!(pauses(growing), [10, 20, 30, 50, 60, 60].map(Some));
    }

    #[test]
    fn the_last_pauses_of_many_are_the_longest() {
        let policy = RetryPolicy { most: None, pauses: Pauses::Exponential { least: TimeDelta::seconds(1), most: TimeDelta::hours(1) } };
        for count in [31, 32, 33, 34, 40, u32::MAX] {
            assert_eq!(policy.pause_before(count), Some(TimeDelta::hours(1)), "{count}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused_with_a_sentence() {
        for (retry, said) in [
            (json!({}), "maxRetryCount"),
            (json!({ "maxRetryCount": -2 }), "-2"),
            (json!({ "maxRetryCount": 1, "strategy": "soon" }), "'soon'"),
            (json!({ "maxRetryCount": 1, "strategy": "fixedDelay" }), "delayInterval"),
            (json!({ "maxRetryCount": 1, "strategy": "exponentialBackoff", "minimumInterval": "00:00:10" }), "maximumInterval"),
            (
                json!({ "maxRetryCount": 1, "strategy": "exponentialBackoff", "minimumInterval": "00:00:10", "maximumInterval": "00:00:09" }),
                "longer than",
            ),
        ] {
            let why = RetryPolicy::parse(&retry).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
