//! What goes wrong once in a story: at one of the handler's calls, counted from its beginning.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::TimeDelta;
use portcullis_sandbox::faults::{Effect, Fault, Meeting};

use crate::script::WATCHED_LONGER;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// The handler dies before the call has any effect.
    KillBefore,
    /// It dies after the effect and before the answer.
    KillAfter,
    /// The call is answered with 429 and two seconds.
    Throttled,
    /// The call is answered with 429 and twenty minutes.
    ThrottledLong,
    /// The call is answered with 503.
    Unavailable,
    /// The connection is cut before the effect.
    CutBefore,
    /// The connection is cut after the effect.
    CutAfter,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Wrong; 7] = [
        Wrong::KillBefore,
        Wrong::KillAfter,
        Wrong::Throttled,
        Wrong::ThrottledLong,
        Wrong::Unavailable,
        Wrong::CutBefore,
        Wrong::CutAfter,
    ];

    /// Its name in a cell.
    pub fn name(self) -> &'static str {
        match self {
            Wrong::KillBefore => "kill-before",
            Wrong::KillAfter => "kill-after",
            Wrong::Throttled => "429-2s",
            Wrong::ThrottledLong => "429-20m",
            Wrong::Unavailable => "503",
            Wrong::CutBefore => "cut-before",
            Wrong::CutAfter => "cut-after",
        }
    }

    /// What it does, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Wrong::KillBefore => "the handler dies (SIGKILL) before the call has any effect",
            Wrong::KillAfter => "the handler dies (SIGKILL) after the call's effect, before its answer",
            Wrong::Throttled => "the call is answered 429, Retry-After 2 s",
            Wrong::ThrottledLong => "the call is answered 429, Retry-After 20 min",
            Wrong::Unavailable => "the call is answered 503",
            Wrong::CutBefore => "the connection is cut before the call's effect",
            Wrong::CutAfter => "the connection is cut after the call's effect",
        }
    }

    fn effect(self) -> Effect {
        match self {
            Wrong::KillBefore => Effect::KillBefore,
            Wrong::KillAfter => Effect::KillAfter,
            Wrong::Throttled => Effect::status(429, Some(2)),
            Wrong::ThrottledLong => Effect::status(429, Some(20 * 60)),
            Wrong::Unavailable => Effect::status(503, None),
            Wrong::CutBefore => Effect::CutBefore,
            Wrong::CutAfter => Effect::CutAfter,
        }
    }
}

/// One of the handler's calls in a story.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// The call that comes after so many others, whichever that is: calls are made side by side, and now one comes first and now
    /// another.
    After(u32),
    /// The call that comes after so many others of its [shape](portcullis_sandbox::faults::shape): the same one each time that the story
    /// is told.
    Alike {
        /// The shape.
        shape: Arc<str>,
        /// How many come before.
        after: u32,
    },
}

impl Call {
    /// These calls by their shapes, in an order in which it does not matter when each was made.
    pub fn all(met: &[Meeting]) -> Vec<Call> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for meeting in met {
            *counts.entry(&meeting.shape).or_default() += 1;
        }
        let each = |(shape, count): (&str, u32)| {
            let shape: Arc<str> = shape.into();
            (0..count).map(move |after| Call::Alike { shape: shape.clone(), after })
        };
        counts.into_iter().flat_map(each).collect()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::After(count) => write!(f, "{count}"),
            Call::Alike { shape, after } => write!(f, "{after}:{shape}"),
        }
    }
}

impl FromStr for Call {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Call, Self::Err> {
        match text.split_once(':') {
            Some((after, shape)) => Ok(Call::Alike { shape: shape.into(), after: after.parse()? }),
            None => text.parse().map(Call::After),
        }
    }
}

/// What goes wrong in a story, and at which of the handler's calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Nothing.
    Nothing,
    /// This, at this call.
    At(Wrong, Call),
}

impl Disturbance {
    /// The fault that brings it about.
    pub fn fault(&self) -> Option<Fault> {
        let Disturbance::At(wrong, call) = self else { return None };
        let fault = Fault::new("*", "*", "", wrong.effect()).of_handler().times(1);
        Some(match call {
            Call::After(count) => fault.skip(*count),
            Call::Alike { shape, after } => fault.of_shape(shape).skip(*after),
        })
    }

    /// How much longer such a story is watched, so that what was put off can be made up for.
    pub fn longer(&self) -> Option<TimeDelta> {
        match self {
            Disturbance::Nothing => None,
            Disturbance::At(Wrong::ThrottledLong, _) => Some(WATCHED_LONGER),
            Disturbance::At(..) => Some(TimeDelta::minutes(12)),
        }
    }

    /// Whether an alarm may be raised because of it, which must clear: what is put off for twenty minutes may leave a port
    /// open for longer than five.
    pub fn may_alarm(&self) -> bool {
        matches!(self, Disturbance::At(Wrong::ThrottledLong, _))
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disturbance::Nothing => write!(f, "undisturbed"),
            Disturbance::At(wrong, call) => write!(f, "{}@{call}", wrong.name()),
        }
    }
}

impl FromStr for Disturbance {
    type Err = String;

    fn from_str(text: &str) -> Result<Disturbance, String> {
        if text == "undisturbed" {
            return Ok(Disturbance::Nothing);
        }
        let (name, call) = text.split_once('@').unwrap_or((text, ""));
        let wrong = Wrong::ALL.into_iter().find(|wrong| wrong.name() == name);
        match (wrong, call.parse::<Call>()) {
            (Some(wrong), Ok(call)) => Ok(Disturbance::At(wrong, call)),
            _ => {
                let names: Vec<String> = Wrong::ALL.iter().map(|wrong| format!("{}@CALL", wrong.name())).collect();
                Err(format!("'{text}' is no disturbance: undisturbed, {}", names.join(", ")))
            }
        }
    }
}
