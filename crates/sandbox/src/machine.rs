//! The machine's clock and randomness: the one place where the sandbox looks at either.
//!
//! The world has a clock of its own. Tokens and certificates alone live by the machine's, because the clients
//! that check them do.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The machine's time.
#[expect(clippy::disallowed_methods, reason = "tokens and certificates live by the machine's clock: their clients check them by it")]
pub fn now() -> DateTime<Utc> {
    DateTime::from(SystemTime::now())
}

/// 122 random bits as 32 hexadecimal digits, for a secret that one process keeps.
#[expect(clippy::disallowed_methods, reason = "a secret has to be unheard of")]
pub fn secret() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A random UUID, for ids that stay out of the world's state.
#[expect(clippy::disallowed_methods, reason = "no world keeps these ids, so no story has to get them again")]
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}
