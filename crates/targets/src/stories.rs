//! Stories and worlds of trials: what is read is the same when it is written and read again.

use portcullis_trials::matrix::{Cell, Unusual};
use portcullis_trials::script::Script;
use serde_json::json;

use crate::checks::text;

/// A story, a file of worlds, and the name of a cell.
pub(crate) fn stories(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match Script::read(text) {
        Ok(script) => {
            assert_eq!(Script::read(&json!(script).to_string()).as_ref(), Ok(&script));
            for setting in Unusual::every() {
                let switches = setting.switches().expect("a setting of ours");
                assert!(script.ends(&switches).iter().all(|end| end.lets_in.iter().all(|stay| stay.since <= stay.until)));
            }
        }
        Err(why) => assert!(!why.trim().is_empty()),
    }
    match Unusual::read_all(text) {
        Ok(worlds) => {
            for world in worlds {
                let switches = world.switches().expect("a world that was read");
                assert_eq!(Unusual::of(&switches).switches(), Ok(switches));
            }
        }
        Err(why) => assert!(!why.trim().is_empty()),
    }
    for name in text.lines() {
        if let Ok(setting) = Unusual::read(name) {
            assert!(setting.switches().is_ok());
        }
        if let Err(why) = Cell::read(name, &[]) {
            assert!(!why.trim().is_empty());
        }
    }
}
