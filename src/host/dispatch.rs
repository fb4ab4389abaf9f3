//! From the host's triggers to the functions.

use serde_json::Value;

use super::invocation::{TimerInfo, Unreadable};
use super::router::{Function, Functions};
use crate::functions::{self, App, Ended, Queue};
use crate::telemetry::Telemetry;

/// Each is boxed, so that an invocation takes the room of its own function and not of the largest.
impl Functions for App {
    async fn jit_activity(&self, events: Vec<Value>) -> Ended {
        Box::pin(functions::jit_activity::run(self, events)).await
    }

    async fn approval(&self, message: &str) -> Ended {
        Box::pin(functions::approval::run(self, message)).await
    }

    async fn sweep(&self, _timer: TimerInfo) -> Ended {
        Box::pin(functions::sweep::run(self)).await
    }

    async fn sweep_shard(&self, message: &str) -> Ended {
        Box::pin(functions::sweep_shard::run(self, message)).await
    }

    async fn schedule(&self, _timer: TimerInfo) -> Ended {
        Box::pin(functions::schedule::run(self)).await
    }

    async fn alert(&self, message: &str) -> Ended {
        Box::pin(functions::alert::run(self, message)).await
    }

    async fn unreadable(&self, function: Function, raw: &str, why: &Unreadable) -> Ended {
        let queue = match function {
            Function::Approval => Some(Queue::Approval),
            Function::SweepShard => Some(Queue::Sweep),
            Function::Alert => Some(Queue::Alerts),
            Function::JitActivity => None,
            // That their time has come is all that a timer says.
            Function::Sweep => return Box::pin(functions::sweep::run(self)).await,
            Function::Schedule => return Box::pin(functions::schedule::run(self)).await,
        };
        self.reject_invocation(function.name(), queue, raw, &why.to_string()).await
    }

    fn telemetry(&self) -> Telemetry {
        self.azure.telemetry.clone()
    }
}
