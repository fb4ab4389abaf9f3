//! Azure Resource Manager.

use crate::face::{Answer, Call};
use crate::state::{DueKind, State};

/// Answers one request to ARM.
pub fn answer(_state: &mut State, _call: &Call) -> Answer {
    todo!()
}

/// Carries out what was due.
pub fn happen(_state: &mut State, _what: DueKind) {
    todo!()
}
