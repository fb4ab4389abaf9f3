//! The stand-in for the Azure Functions host: it reads `host.json` and `function.json` as the host does, starts
//! the handler program, encodes what triggers bring, delivers it, and treats each answer by the host's rules,
//! the harsh ones included.
//!
//! Source of the behaviour: the host's own code and tests, and the documentation of custom handlers; no code
//! of either is used. `client` makes HTTP clients, `encode` makes bodies, `answer` reads them, `process` is the handler program, `deliver`
//! joins the three, `timers` and `http` are two of the triggers, `retry` is how a run is tried again, `record` is what the host remembers.

pub mod answer;
pub mod client;
pub mod config;
pub mod cron;
pub mod deliver;
pub mod encode;
pub mod http;
pub mod process;
pub mod record;
pub mod retry;
pub mod timers;

pub use config::{HostConfig, HostFiles};
pub use deliver::{Host, Worker};
pub use record::{Invocation, Outcome};
