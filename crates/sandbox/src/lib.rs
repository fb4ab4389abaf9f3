//! A simulated Azure and a stand-in for the Azure Functions host, in one process on loopback.
//!
//! The crate knows the wire only: it shares no code with the product it is used to try, and whatever it
//! answers it answers from [`state::State`], one world that serialises to the very file it can be started from.
//! Time is the world's own ([`state::State::now`]) and moves only when told to, so a test never sleeps.
//!
//! The way of a request: [`face`] (TLS, faults, who is calling) → one face (`arm`, `blob`, `servicebus`, …) →
//! the state under one lock → an entry of the world's log for every write.
//! The way of time: [`engine`] steps through whatever is due, one instant after another, and lets the
//! [`host`] stand-in deliver what became deliverable before it steps on.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod arm;
pub mod blob;
mod bounds;
pub mod control;
pub mod engine;
pub mod entra;
pub mod estate;
pub mod eventgrid;
pub mod face;
pub mod faults;
pub mod graph;
pub mod host;
pub mod insights;
pub mod iso_duration;
pub mod logs;
pub mod machine;
pub mod roles;
pub mod sandbox;
pub mod servicebus;
pub mod state;
pub mod switches;
pub mod tls;
pub mod world;
