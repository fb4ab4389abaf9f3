//! The timer trigger: when each timer of the app runs next, by the world's clock, and what its monitor remembers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::config::{Function, Monitor, OnStart, TriggerKind};
use super::cron::Schedule;
use super::encode::{TimerInfo, TimerStatus};
use super::retry::{RetryContext, RetryPolicy};
use crate::state::TimerMemory;

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
    retry: Option<RetryPolicy>,
    last: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
    /// Whether the next run makes up for one that was missed.
    past_due: bool,
    run: Option<Run>,
}

/// A run that has begun and is not over, its retries included.
#[derive(Debug)]
struct Run {
    began: DateTime<Utc>,
    info: TimerInfo,
    /// When it is tried again; none while a try is under way.
    again: Option<DateTime<Utc>>,
}

impl Timers {
    /// The timers among these functions, as a host that starts at `now` sees them: one whose monitor remembers an
    /// occurrence that has passed runs at once, and once, however many it missed.
    pub fn starting(functions: &[Function], remembered: &BTreeMap<String, TimerMemory>, now: DateTime<Utc>) -> Timers {
        let timers = functions.iter().filter_map(|function| match &function.trigger {
            TriggerKind::Timer { schedule, monitor, on_start } => {
                let monitor = match schedule.is_more_than_once_a_minute(now) {
                    true => Monitor::Off,
                    false => *monitor,
                };
                let memory = remembered.get(&function.name).filter(|_| monitor == Monitor::On);
                let missed = memory.and_then(|memory| memory.next).filter(|next| *next <= now);
                Some(Timer {
                    function: function.name.clone(),
                    schedule: schedule.clone(),
                    monitor,
                    retry: function.retry.clone(),
                    last: memory.and_then(|memory| memory.last),
                    next: match (missed, on_start) {
                        (Some(missed), _) => Some(missed),
                        (None, OnStart::Runs) => Some(now),
                        (None, OnStart::Waits) => schedule.next_after(now),
                    },
                    past_due: missed.is_some(),
                    run: None,
                })
            }
            TriggerKind::ServiceBus { .. } | TriggerKind::EventGrid { .. } | TriggerKind::Http { .. } => None,
        });
        Timers { timers: timers.collect() }
    }

    /// What the monitors remember, for a host that starts later.
    pub fn remembered(&self) -> BTreeMap<String, TimerMemory> {
        let monitored = self.timers.iter().filter(|timer| timer.monitor == Monitor::On);
        monitored.map(|timer| (timer.function.clone(), TimerMemory { last: timer.last, next: timer.next })).collect()
    }

    /// Takes a timer whose occurrence has come and that is not under way, or one whose run is to be tried again; a
    /// timer never overlaps with itself.
    pub fn take_due(&mut self, now: DateTime<Utc>) -> Option<(String, TimerInfo)> {
        let due = |timer: &Timer| timer.due().filter(|at| *at <= now);
        let timer = self.timers.iter_mut().filter(|timer| due(timer).is_some()).min_by_key(|timer| timer.due())?;
        let info = match &mut timer.run {
            Some(run) => {
                run.again = None;
                run.info.clone()
            }
            None => timer.begin(now),
        };
        Some((timer.function.clone(), info))
    }

    /// A try has ended, with the reason if it failed. Its policy may have it tried again; otherwise a failed run is
    /// forgotten, and the schedule goes on.
    pub fn ended(&mut self, function: &str, failed: Option<&str>, now: DateTime<Utc>) {
        for timer in self.timers.iter_mut().filter(|timer| timer.function == function) {
            let Some(mut run) = timer.run.take() else {
                continue;
            };
            let count = run.info.retry.as_ref().map_or(0, |retry| retry.count) + 1;
            let policy = timer.retry.as_ref().filter(|_| failed.is_some());
            if let Some((policy, pause)) = policy.and_then(|policy| Some((policy, policy.pause_before(count)?))) {
                let reason = failed.unwrap_or_default().to_owned();
                run.info.retry = Some(RetryContext { count, most: policy.most, reason });
                run.again = Some(now + pause);
                timer.run = Some(run);
                continue;
            }
            timer.last = Some(run.began);
            timer.next = timer.schedule.next_after(now);
            timer.past_due = false;
        }
    }

    /// The next instant at which a timer runs, or runs again.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.timers.iter().filter_map(Timer::due).min()
    }
}

impl Timer {
    /// When it can be taken; none while a try is under way.
    fn due(&self) -> Option<DateTime<Utc>> {
        match &self.run {
            Some(run) => run.again,
            None => self.next,
        }
    }

    fn begin(&mut self, now: DateTime<Utc>) -> TimerInfo {
        let status = match (self.monitor, self.next) {
            (Monitor::On, Some(next)) => Some(TimerStatus { last: self.last, next }),
            (Monitor::On, None) | (Monitor::Off, _) => None,
        };
        let info = TimerInfo { status, past_due: self.past_due, retry: None };
        self.run = Some(Run { began: now, info: info.clone(), again: None });
        info
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::retry::Pauses;
    use super::*;

    fn a_function(schedule: &str, on_start: OnStart, retry: Option<RetryPolicy>) -> Function {
        Function {
            name: "sweep".to_owned(),
            binding: "timer".to_owned(),
            trigger: TriggerKind::Timer { schedule: Schedule::parse(schedule).unwrap(), monitor: Monitor::On, on_start },
            outputs: Vec::new(),
            retry,
        }
    }

    fn timers(schedule: &str, on_start: OnStart) -> Timers {
        Timers::starting(&[a_function(schedule, on_start, None)], &BTreeMap::new(), at("09:00:00"))
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
        timers.ended("sweep", None, at("09:05:00"));
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
        timers.ended("sweep", None, at("09:03:30"));
        assert_eq!(timers.next(), Some(at("09:04:00")));
    }

    #[test]
    fn run_on_startup_runs_at_once() {
        assert_eq!(timers("0 */5 * * * *", OnStart::Runs).next(), Some(at("09:00:00")));
    }

    #[test]
    fn a_quick_timer_has_no_status_and_remembers_nothing() {
        let mut timers = timers("*/10 * * * * *", OnStart::Waits);
        assert!(timers.take_due(at("09:00:10")).unwrap().1.status.is_none());
        assert!(timers.remembered().is_empty());
    }

    #[test]
    fn a_host_that_was_down_runs_once_for_all_that_it_missed() {
        let mut before = timers("0 */5 * * * *", OnStart::Waits);
        before.take_due(at("09:05:00")).unwrap();
        before.ended("sweep", None, at("09:05:00"));
        let function = a_function("0 */5 * * * *", OnStart::Waits, None);
        let mut timers = Timers::starting(std::slice::from_ref(&function), &before.remembered(), at("09:22:00"));
        let (_, run) = timers.take_due(at("09:22:00")).unwrap();
        let status = run.status.unwrap();
        assert_eq!((run.past_due, status.last, status.next), (true, Some(at("09:05:00")), at("09:10:00")));
        timers.ended("sweep", None, at("09:22:00"));
        assert_eq!(timers.next(), Some(at("09:25:00")));
        assert!(!timers.take_due(at("09:25:00")).unwrap().1.past_due);
        let in_time = Timers::starting(&[function], &before.remembered(), at("09:09:59"));
        assert_eq!(in_time.next(), Some(at("09:10:00")));
    }

    #[test]
    fn a_failed_run_is_tried_again_as_its_policy_says_and_then_forgotten() {
        let policy = RetryPolicy { most: Some(2), pauses: Pauses::Fixed(TimeDelta::seconds(10)) };
        let mut timers = Timers::starting(&[a_function("0 */5 * * * *", OnStart::Waits, Some(policy))], &BTreeMap::new(), at("09:00:00"));
        let mut told = Vec::new();
        for (run, next) in [("09:05:00", "09:05:10"), ("09:05:10", "09:05:20"), ("09:05:20", "09:10:00")] {
            let (_, info) = timers.take_due(at(run)).unwrap();
            assert!(timers.take_due(at(run)).is_none());
            told.push(info.retry.map(|retry| (retry.count, retry.most, retry.reason)));
            timers.ended("sweep", Some("broken"), at(run));
            assert_eq!(timers.next(), Some(at(next)));
        }
        assert_eq!(told, [None, Some((1, Some(2), "broken".to_owned())), Some((2, Some(2), "broken".to_owned()))]);
        let (_, next) = timers.take_due(at("09:10:00")).unwrap();
        assert_eq!((next.retry, next.status.unwrap().last), (None, Some(at("09:05:00"))));
    }
}
