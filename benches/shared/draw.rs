//! What is drawn anew in each run.

use std::time::SystemTime;

/// Numbers that look drawn, the same for the same seed.
pub struct Draw(u64);

impl Draw {
    /// From the seed that the command line names, or from a new one, which is printed.
    #[expect(clippy::disallowed_methods, reason = "nobody may know beforehand what is drawn; the seed is printed")]
    pub fn of_command_line() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
        let seed = given.unwrap_or_else(|| since.map_or(1, |since| u64::from(since.subsec_nanos())));
        println!("seed {seed}");
        Draw(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}
