//! The rules of this installation: loaded once, beside the first work, from the folder that travels in the package.

use std::path::PathBuf;
use std::sync::Arc;

use portcullis_rules::files::RuleFiles;
use portcullis_rules::set::Rules;
use tokio::sync::OnceCell;
use tracing::{error, info};

/// The rules, or why there are none. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rulebook {
    folder: PathBuf,
    loaded: Arc<OnceCell<Result<Rules, String>>>,
}

impl Rulebook {
    /// The rules of a folder; nothing is read yet.
    pub fn new(folder: PathBuf) -> Self {
        Rulebook { folder, loaded: Arc::new(OnceCell::new()) }
    }

    /// The rules, or every mistake that keeps them from being used, a line each. Read and checked at the first call, on a
    /// thread of its own: it takes some milliseconds that nothing else has to wait for.
    pub async fn rules(&self) -> Result<&Rules, &str> {
        let load = || async {
            let folder = self.folder.clone();
            let loaded = tokio::task::spawn_blocking(move || load(&folder)).await;
            loaded.unwrap_or_else(|_| Err("the rules could not be read: the handler is ending".to_owned()))
        };
        self.loaded.get_or_init(load).await.as_ref().map_err(String::as_str)
    }

    /// What tells these rules from others, and from none that can be used.
    pub async fn set(&self) -> &str {
        self.rules().await.map_or("none", Rules::hash)
    }
}

fn load(folder: &std::path::Path) -> Result<Rules, String> {
    let loaded =
        RuleFiles::read(folder).map_err(|why| why.to_string()).and_then(|files| Rules::load(&files).map_err(|why| why.to_string()));
    match &loaded {
        Ok(rules) => info!(rules = rules.rules().count(), set = rules.hash(), "rules loaded"),
        Err(why) => error!(error = why, "the rules cannot be used: nothing opens, and openings around Portcullis are only reported"),
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shipped_rules_are_loaded() {
        let book = Rulebook::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies"));
        let hash = book.rules().await.unwrap().hash().to_owned();
        assert_eq!(book.clone().rules().await.unwrap().hash(), hash);
    }

    #[tokio::test]
    async fn what_keeps_a_set_from_being_used_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let none = Rulebook::new(folder.path().join("none"));
        assert!(none.rules().await.unwrap_err().contains("none cannot be read"));
        std::fs::write(folder.path().join("a.cedar"), "permit (principal, action, resource);").unwrap();
        let broken = Rulebook::new(folder.path().to_owned());
        assert!(broken.rules().await.unwrap_err().contains("a.cedar: the rule permits every action there is"));
    }
}
