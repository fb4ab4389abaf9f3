//! The rules of Portcullis: Cedar policies of the user's that approve, leave to people, or refuse.
//!
//! A [`files::RuleFiles`] is loaded into [`set::Rules`], with every [`mistake::Mistake`] at once; the set
//! [decides](set::Rules::decide) on a [`wish::Wish`], and the [`decision::Decision`] carries what made it: the rule, the
//! hash of the set, the inputs and the nearest miss. Nothing here reads a clock, an environment or a network; files are
//! read in [`files`] alone.

#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod action;
mod bounds;
mod cases;
mod decide;
pub mod decision;
pub mod explain;
pub mod files;
mod miss;
pub mod mistake;
pub mod networks;
pub mod people;
pub mod replay;
mod said;
pub mod scenario;
pub mod set;
mod spoken;
pub mod terms;
mod text;
mod unknown;
pub mod wish;
mod yaml;

pub use portcullis_domain::plain;
