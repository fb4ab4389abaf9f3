//! Who was let in when: read from the world's security groups at every instant at which anything happened.

use chrono::{DateTime, TimeDelta, Utc};

use super::Story;

/// What is written down of a story.
pub struct Diary<'s> {
    story: &'s Story,
    port: u16,
    /// The story's beginning.
    pub begun: DateTime<Utc>,
    stays: Vec<Stay>,
}

/// A time for which an address was let in at a machine, in seconds from the story's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The machine.
    pub machine: &'static str,
    /// The address or range, all of which was let in.
    pub source: &'static str,
    /// Since when.
    pub from: i64,
    /// Until when; absent while it is let in.
    pub until: Option<i64>,
}

impl<'s> Diary<'s> {
    /// Begins to write down who is let in at this port.
    pub fn begin(story: &'s Story, port: u16) -> Self {
        Diary { story, port, begun: story.now(), stays: Vec::new() }
    }

    /// Lets time pass until so many seconds after the beginning, and writes down whom the machines let in of these.
    pub async fn until(&mut self, seconds: i64, watched: &[(&'static str, &'static str)]) {
        let target = self.begun + TimeDelta::seconds(seconds);
        self.look(watched);
        while self.story.sandbox.engine.step_to(target).await.unwrap() {
            self.look(watched);
        }
    }

    fn look(&mut self, watched: &[(&'static str, &'static str)]) {
        let now = (self.story.now() - self.begun).num_seconds();
        for (machine, source) in watched {
            let is_in = self.story.lets_in(machine, self.port, &[source]);
            let stay = self.stays.iter_mut().rfind(|stay| stay.machine == *machine && stay.source == *source && stay.until.is_none());
            match stay {
                Some(stay) if !is_in => stay.until = Some(now),
                None if is_in => self.stays.push(Stay { machine, source, from: now, until: None }),
                _ => {}
            }
        }
    }

    /// When this address was let in at this machine, one after another.
    pub fn stays(&self, machine: &str, source: &str) -> Vec<Stay> {
        self.stays.iter().filter(|stay| stay.machine == machine && stay.source == source).cloned().collect()
    }
}
