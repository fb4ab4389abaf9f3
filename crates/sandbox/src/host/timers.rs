//! The timer trigger: when each timer of the app runs next, by the world's clock.

use chrono::{DateTime, Utc};

use super::config::{Function, Monitor, OnStart, TriggerKind};
use super::cron::Schedule;
use super::encode::{TimerInfo, TimerStatus};

/// All timers of an app.
#[derive(Debug, Default)]
pub struct Timers {
    timers: Vec<Timer>,
}

#[derive(Debug)]
struct Timer {
    function: String,
    schedule: Schedule,
    monitor: Monitor,
    last: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
    under_way: UnderWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Yes,
    No,
}

impl Timers {
    /// The timers among these functions, as a host that starts at `now` for the first time sees them: nothing
    /// is missed yet.
    pub fn starting(functions: &[Function], now: DateTime<Utc>) -> Timers {
        let timers = functions.iter().filter_map(|function| match &function.trigger {
            TriggerKind::Timer { schedule, monitor, on_start } => Some(Timer {
                function: function.name.clone(),
                schedule: schedule.clone(),
                monitor: match schedule.is_more_than_once_a_minute(now) {
                    true => Monitor::Off,
                    false => *monitor,
                },
                last: None,
                next: match on_start {
                    OnStart::Runs => Some(now),
                    OnStart::Waits => schedule.next_after(now),
                },
                under_way: UnderWay::No,
            }),
            TriggerKind::ServiceBus { .. } | TriggerKind::EventGrid { .. } | TriggerKind::Http { .. } => None,
        });
        Timers { timers: timers.collect() }
    }

    /// Takes a timer whose occurrence has come and that is not under way; a timer never overlaps with itself.
    pub fn take_due(&mut self, now: DateTime<Utc>) -> Option<(String, TimerInfo)> {
        let timer = self
            .timers
            .iter_mut()
            .filter(|timer| timer.under_way == UnderWay::No && timer.next.is_some_and(|next| next <= now))
            .min_by_key(|timer| timer.next)?;
        timer.under_way = UnderWay::Yes;
        let status = match (timer.monitor, timer.next) {
            (Monitor::On, Some(next)) => Some(TimerStatus { last: timer.last, next }),
            (Monitor::On, None) | (Monitor::Off, _) => None,
        };
        Some((timer.function.clone(), TimerInfo { status, past_due: false }))
    }

    /// A run that began at `began` has ended, well or not: a failed one is forgotten, and the schedule goes on.
    pub fn ended(&mut self, function: &str, began: DateTime<Utc>, now: DateTime<Utc>) {
        for timer in self.timers.iter_mut().filter(|timer| timer.function == function) {
            timer.under_way = UnderWay::No;
            timer.last = Some(began);
            timer.next = timer.schedule.next_after(now);
        }
    }

    /// The next occurrence of a timer that is not under way.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.timers.iter().filter(|timer| timer.under_way == UnderWay::No).filter_map(|timer| timer.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers(schedule: &str, on_start: OnStart) -> Timers {
        let function = Function {
            name: "sweep".to_owned(),
            binding: "timer".to_owned(),
            trigger: TriggerKind::Timer { schedule: Schedule::parse(schedule).unwrap(), monitor: Monitor::On, on_start },
            outputs: Vec::new(),
        };
        Timers::starting(&[function], at("09:00:00"))
    }

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-01-15T{time}Z").parse().unwrap()
    }

    #[test]
    fn the_first_run_has_no_last_and_the_second_has() {
        let mut timers = timers("0 */5 * * * *", OnStart::Waits);
        assert_eq!(timers.next(), Some(at("09:05:00")));
        assert!(timers.take_due(at("09:04:59")).is_none());
        let (_, first) = timers.take_due(at("09:05:00")).unwrap();
        let status = first.status.unwrap();
        assert_eq!((status.last, status.next), (None, at("09:05:00")));
        timers.ended("sweep", at("09:05:00"), at("09:05:00"));
        let (_, second) = timers.take_due(at("09:10:00")).unwrap();
        let status = second.status.unwrap();
        assert_eq!((status.last, status.next), (Some(at("09:05:00")), at("09:10:00")));
    }

    #[test]
    fn a_timer_does_not_overlap_and_skips_what_it_missed_while_running() {
        let mut timers = timers("0 * * * * *", OnStart::Waits);
        timers.take_due(at("09:01:00")).unwrap();
        assert!(timers.take_due(at("09:02:00")).is_none());
        assert_eq!(timers.next(), None);
        timers.ended("sweep", at("09:01:00"), at("09:03:30"));
        assert_eq!(timers.next(), Some(at("09:04:00")));
    }

    #[test]
    fn run_on_startup_runs_at_once() {
        assert_eq!(timers("0 */5 * * * *", OnStart::Runs).next(), Some(at("09:00:00")));
    }

    #[test]
    fn a_quick_timer_has_no_status() {
        let mut timers = timers("*/10 * * * * *", OnStart::Waits);
        assert!(timers.take_due(at("09:00:10")).unwrap().1.status.is_none());
    }
}
