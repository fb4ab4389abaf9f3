//! What the program for people does that other programs may do, too.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod live_probe;
