//! The shipped rules: they load without a word, and their scenarios hit and nearly hit every one of them.

use std::path::{Path, PathBuf};

use portcullis_rules::files::RuleFiles;
use portcullis_rules::scenario;
use portcullis_rules::set::Rules;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

#[test]
fn the_shipped_rules_have_no_mistake() {
    let (rules, mistakes) = Rules::check(&RuleFiles::read(&folder()).unwrap());
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(told, Vec::<String>::new());
    assert!(rules.is_some());
}

#[test]
fn the_shipped_scenarios_hit_and_nearly_hit_every_rule() {
    let files = RuleFiles::read(&folder()).unwrap();
    let rules = Rules::load(&files).unwrap();
    let report = scenario::test(scenario::read(&files, &rules).0, &rules);
    let differs: Vec<String> = report
        .tested
        .iter()
        .filter(|t| !t.differs.is_empty())
        .map(|t| format!("{}: {} ({})", t.scenario.name, t.differs.join("; "), t.came.sentence()))
        .collect();
    assert_eq!(differs, Vec::<String>::new());
    assert_eq!((report.never_hit, report.never_nearly_hit), (Vec::<String>::new(), Vec::<String>::new()));
    assert!(report.tested.len() > 40);
}
