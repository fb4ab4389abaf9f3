//! The domain of Portcullis: what an opening is, what a grant allows, and what has to be done about the difference.
//!
//! Nothing here reads a clock, a file, an environment or a network: time and observations come in as values and
//! decisions go out as values that carry their reasons. The crate's dependency list is its proof.
//!
//! From the outside in: ARM bodies become [`jit`] policies and records and [`nsg`] rules; with the addresses of a
//! VM ([`network`]) they become [`opening`]s; [`judge`] says which of them may not be; [`reconcile`] compares them
//! with live [`grant`]s, and with what the rules say ([`ruling`]), and plans the difference, which may be to ask JIT for
//! more ([`initiate`]); [`conclude`] says which alarms stand and when to look again. What is
//! remembered between two looks is a [`record::VmRecord`]; what is told to people is a [`finding`] or an [`audit`] record,
//! with who may be [`behind`] it.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod arm_id;
pub mod audit;
pub mod audits;
pub mod behind;
pub mod conclude;
pub mod duration;
pub mod finding;
pub mod grant;
pub mod incident;
pub mod initiate;
pub mod jit;
pub mod json;
pub mod judge;
mod life;
pub mod missed;
pub mod network;
pub mod nsg;
pub mod opening;
pub mod plain;
pub mod port;
pub mod ranges;
pub mod reconcile;
pub mod record;
pub mod rights;
pub mod ruling;
pub mod source;
pub mod sweep;
pub mod time;
pub mod want;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod story;
