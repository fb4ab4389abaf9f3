//! The ARM face, driven as its server drives it: one state, one call, one answer.

mod activity;
mod event_subscriptions;
mod incidents;
mod initiate;
mod policies;
mod recordings;
mod refusals;
mod support;
mod writes;
