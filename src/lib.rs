//! Portcullis governs just-in-time (JIT) VM access of Microsoft Defender for Cloud.
//!
//! A module uses only modules above it in this file.
//!
//! The flow of one event: [`host`] takes the invocation and hands its events to [`functions::jit_activity`], which
//! checks one, keeps it in the [`store`] and sends `event(id)` to the queue `approval`. [`functions::approval`] reads
//! the JIT policy through [`azure`], leaves a claim for every VM that may be meant and sends `look(VM)` for each. A
//! look takes the VM's lease, reads Azure again, asks the [`rulebook`] about what nothing else decides, lets the domain's
//! reconcile plan the difference, deletes what may not be open and opens what is granted: intent and audit record before the
//! call, outcome after. It comes back by wake-ups until the port is proved shut. What operators want comes in through
//! [`console`] and waits for the next look. Every audit record becomes a row in Microsoft Sentinel by [`functions::alert`].
//! What no event told is found by [`functions::sweep`] and its shards; what no wake-up brought back, by
//! [`functions::schedule`]. Whether all of this can work is found out by the [`doctor`].

#![warn(clippy::unwrap_used, clippy::expect_used)]

/// The version of this program, as health, rows, telemetry and the log name it: of a package, with the commit that it was built of
/// (`0.1.0+0123456789ab`, and `-dirty` behind it where something was not committed).
pub const VERSION: &str = match option_env!("PORTCULLIS_VERSION") {
    Some(of_package) => of_package,
    None => env!("CARGO_PKG_VERSION"),
};

pub mod settings;

pub mod telemetry;

mod turns;

pub mod azure;

pub mod store;

pub mod rulebook;

pub mod functions;

pub mod doctor;

pub mod console;

pub mod host;
