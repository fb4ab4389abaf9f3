//! The story and the worlds that docs/trials.md shows, played.

use std::num::NonZeroUsize;
use std::path::Path;

use portcullis_trials::matrix::{Cell, Unusual, run, shipped_stories};
use portcullis_trials::script::Script;
use serde_json::json;

const AT_ONCE: NonZeroUsize = NonZeroUsize::new(12).unwrap();

/// The first block of YAML below a heading.
fn block(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trials.md");
    let page = std::fs::read_to_string(page).unwrap();
    let below = page.split_once(&format!("\n## {heading}\n")).unwrap().1;
    below.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

async fn all_hold(stories: &[(String, Script)], worlds: &[Unusual]) {
    let cells: Vec<Cell> = stories.iter().flat_map(|story| worlds.iter().map(|world| Cell::undisturbed(story, world))).collect();
    let outcomes = run(AT_ONCE, &cells, |_, _| {}).await;
    for (cell, outcome) in cells.iter().zip(outcomes) {
        assert_eq!(outcome.wrong, Vec::<String>::new(), "{cell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_the_page_ends_as_it_says_in_every_world_that_it_names() {
    let script = Script::read(&block("Stories")).unwrap();
    let named = script.but.iter().map(|but| Unusual(but.when.clone()));
    let worlds: Vec<Unusual> = named.chain([Unusual::default()]).collect();
    assert!(worlds.len() > 3 && worlds.contains(&Unusual([("deletedRuleReturns".to_owned(), json!("once"))].into())));
    all_hold(&[("page".to_owned(), script)], &worlds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_stories_end_as_they_must_in_the_worlds_of_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("worlds.yaml");
    std::fs::write(&file, block("Worlds")).unwrap();
    let worlds = Unusual::read_file(&file).unwrap();
    assert_eq!(worlds.len(), 3);
    all_hold(&Script::read_all(&shipped_stories()).unwrap(), &worlds).await;
}
