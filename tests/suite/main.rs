//! What the handler does, as facts: nearly all of them drive the real program over its real protocol against the sandbox, and then
//! look at the world.
//!
//! One program, since each of some thirty would hold all of the product and of the sandbox, and be linked anew.

mod api;
mod bad_input;
mod clients;
mod closing;
mod dead_letters;
mod doctor;
mod endurance;
mod estate_oddities;
mod faults;
mod governed;
mod grants;
mod incidents;
mod judge;
mod judged;
mod layout;
mod official;
mod orphans;
mod outside;
mod package;
mod payloads;
mod protocol;
mod roles;
mod stale;
mod start;
mod store;
mod switches;
mod table;
mod telemetry;
