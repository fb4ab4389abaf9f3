//! What is held against the real handler program: stories that it lives through in a simulated Azure, disturbed at each of its
//! calls, under every setting of what nobody knows, and a judge that looks at the world alone.

pub mod disturbance;
pub mod matrix;
pub mod play;
pub mod script;
pub mod story;
pub mod verdict;
pub mod walk;
pub mod watch;
