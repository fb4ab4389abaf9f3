//! The custom-handler protocol of Azure Functions: invocations in, answers out.

pub mod answer;
mod connections;
mod dispatch;
pub mod invocation;
pub mod router;
pub mod serve;

pub use answer::Ended;
pub use invocation::{TimerInfo, Unreadable};
pub use router::{Function, Functions, router};
