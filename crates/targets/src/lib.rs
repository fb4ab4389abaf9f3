//! What fuzzers run: for every reader of data from outside one function, from any bytes to checks of what must hold of
//! whatever is read.
//!
//! A function here returns where everything holds and panics where something does not. The programs in `fuzz/` call one
//! each; `tests/kept.rs` calls all of them on what is kept in `fuzz/corpus` and `fuzz/regressions`, and on variations of it.

#![expect(clippy::panic, clippy::expect_used, reason = "a check that fails has to stop the fuzzer")]

mod answers;
mod api;
mod arm_bodies;
mod checks;
mod examined;
mod host_bodies;
mod rule_files;
mod settings;
mod small_texts;
mod store_documents;
mod stories;

/// A target: its name, which is that of its program and of its folders, and what it runs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Checks what must hold of whatever is read from these bytes, and panics where it does not.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 35] = [
    Target { name: "arm_ids", run: small_texts::arm_ids },
    Target { name: "asks", run: api::asks },
    Target { name: "blob_lists", run: answers::blob_lists },
    Target { name: "cedar", run: rule_files::cedar },
    Target { name: "claims", run: api::claims },
    Target { name: "dead_letters", run: answers::dead_letters },
    Target { name: "directories", run: answers::directories },
    Target { name: "durations", run: small_texts::durations },
    Target { name: "estate", run: arm_bodies::estate },
    Target { name: "events", run: host_bodies::events },
    Target { name: "examined", run: examined::examined },
    Target { name: "failures", run: answers::failures },
    Target { name: "headers_and_paths", run: host_bodies::headers_and_paths },
    Target { name: "incident_names", run: small_texts::incident_names },
    Target { name: "incidents", run: answers::incidents },
    Target { name: "invocations", run: host_bodies::invocations },
    Target { name: "jit_policy", run: arm_bodies::jit_policy },
    Target { name: "messages", run: host_bodies::messages },
    Target { name: "networks", run: rule_files::networks },
    Target { name: "packed", run: answers::packed },
    Target { name: "pages", run: answers::pages },
    Target { name: "people", run: rule_files::people },
    Target { name: "ports", run: small_texts::ports },
    Target { name: "questions", run: api::questions },
    Target { name: "replay", run: rule_files::replay },
    Target { name: "rule_names", run: small_texts::rule_names },
    Target { name: "scenarios", run: rule_files::scenarios },
    Target { name: "set_aside", run: store_documents::set_aside },
    Target { name: "settings", run: settings::settings },
    Target { name: "sources", run: small_texts::sources },
    Target { name: "store_documents", run: store_documents::store_documents },
    Target { name: "stories", run: stories::stories },
    Target { name: "times", run: small_texts::times },
    Target { name: "tokens", run: api::tokens },
    Target { name: "vm_record", run: store_documents::vm_record },
];

/// Runs the target of a name on these bytes.
///
/// # Panics
///
/// Where a check fails, and where no target has the name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}
