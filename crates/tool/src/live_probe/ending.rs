//! How near an end may be, what a request may name as its sources, and how late JIT shuts at the end.

use chrono::TimeDelta;
use serde_json::json;

use super::asking::{Opened, seconds};
use super::azure::Trouble;
use super::look::{Look, pause};
use super::machine::{FIRST, SECOND};
use super::report::seen;
use super::{Probe, Stage};

/// The ends that are asked for until one is taken, in seconds from now. The first counts as no limit at all.
const RUNGS: [i64; 11] = [10, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600];
/// An opening whose end is watched is at least so long.
const WATCHED: TimeDelta = TimeDelta::seconds(300);
/// The last look before the end.
const JUST_BEFORE: TimeDelta = TimeDelta::seconds(5);
/// A rule that stays longer after its end is not waited for.
const LATEST: TimeDelta = TimeDelta::minutes(30);

impl Probe<'_> {
    /// Asks for ever later ends until JIT takes one, and then for those between it and the last that was refused.
    pub(super) async fn nearest_end(&self) -> Stage {
        self.tell("asking JIT for short openings, to learn the shortest that it takes");
        let mut lines = Vec::new();
        let (mut refused, mut taken) = (0, None);
        for rung in RUNGS {
            match self.takes_end(rung, &mut lines).await? {
                Ok(apart) => {
                    taken = Some(apart);
                    break;
                }
                Err(left) => refused = left.max(refused),
            }
        }
        let Some(mut taken) = taken else {
            self.open("smallestEndSeconds", "No end up to 10 minutes away was taken.", lines);
            return Ok(());
        };
        if taken <= RUNGS[0] {
            taken = 0;
        }
        while taken > refused + 1 {
            // What was asked for is done before the next is asked for, which would else wait for it and come too late.
            self.settled(self.azure.now()).await?;
            match self.takes_end(refused + (taken - refused) / 2, &mut lines).await? {
                Ok(apart) if apart < taken => taken = apart,
                Err(left) if left > refused => refused = left,
                // What it takes to arrive is more than is left to find out.
                Ok(_) | Err(_) => break,
            }
        }
        self.found("smallestEndSeconds", json!(taken), lines);
        Ok(())
    }

    /// Asks for an end so many seconds away. How far it was, as JIT saw it: if it was taken from the beginning that it wrote down, if
    /// it was refused from its answer.
    async fn takes_end(&self, away: i64, lines: &mut Vec<String>) -> Result<Result<i64, i64>, Trouble> {
        let end = self.azure.now() + TimeDelta::seconds(away);
        match self.ask(&[SECOND], end).await {
            Ok(asked) => {
                // The beginning may have a fraction, and the end that is asked for has none.
                let apart = ((asked.end - asked.start).num_milliseconds() + 500) / 1000;
                lines.push(seen(asked.start, format!("an end {apart} s after its beginning was taken")));
                Ok(Ok(apart))
            }
            Err(trouble) if trouble.status() == Some(400) => {
                let left = (end - self.azure.now()).num_seconds();
                lines.push(seen(self.azure.now(), format!("an end {left} s away was refused: {trouble}")));
                Ok(Err(left))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Opens to two sources at once, or to one where two are refused, and watches the end.
    pub(super) async fn watched_end(&self) -> Stage {
        let known = |name| self.answered(name).and_then(|answer| answer.as_i64()).unwrap_or(0);
        let least = known("smallestEndSeconds").max(known("initiatingSeconds") + known("operationSeconds"));
        let long = WATCHED.max(TimeDelta::seconds(least + 60));
        let opened = match self.open_for(&[FIRST, SECOND], long).await {
            Ok(opened) => {
                let told = opened.look.record(&opened.asked).map(|record| record.sources.to_string()).unwrap_or_default();
                let rules = opened.look.rules(&opened.asked).iter().map(|rule| rule.sources.to_string()).collect::<Vec<_>>().join("; ");
                let line = format!("a request for {FIRST} and {SECOND} was taken; its record is for {told}, and its rules let in {rules}");
                let lines = vec![seen(opened.look.at, line)];
                self.found("pluralSources", json!(true), lines);
                opened
            }
            Err(trouble) if trouble.status() == Some(400) => {
                let opened = self.open_for(&[FIRST], long).await?;
                let line =
                    seen(opened.asked.start, format!("a request for {FIRST} alone was taken, one for two sources was not: {trouble}"));
                self.found("pluralSources", json!(false), vec![line]);
                opened
            }
            Err(trouble) => return Err(trouble),
        };
        self.watch_end(&opened).await
    }

    async fn watch_end(&self, opened: &Opened) -> Stage {
        let end = opened.asked.end;
        self.tell(&format!("waiting for the end of that opening at {}, and for JIT to shut it", end.format("%H:%M:%S")));
        self.azure.pass(end - JUST_BEFORE - self.azure.now()).await;
        if Look::at_groups(&self.azure, &self.machine).await?.rules(&opened.asked).is_empty() {
            return Err(Trouble::Broken("The rule was gone before its end.".to_owned()));
        }
        self.azure.pass(end - self.azure.now()).await;
        let mut before = end;
        loop {
            let look = Look::at_groups(&self.azure, &self.machine).await?;
            if look.rules(&opened.asked).is_empty() {
                let lines = vec![
                    seen(end, "the opening ended"),
                    seen(before, "its rule was still there, or not looked for yet"),
                    seen(look.at, "its rule was gone"),
                ];
                self.found("expiryDelaySeconds", seconds(end, look.at), lines);
                return Ok(());
            }
            if look.at - end > LATEST {
                return Err(Trouble::Broken(format!("JIT had not taken its rule away {} minutes after the end.", LATEST.num_minutes())));
            }
            before = look.at;
            self.azure.pass(pause(end, look.at)).await;
        }
    }
}
