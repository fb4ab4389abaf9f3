//! The actions that rules permit and forbid.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// May be opened without a person.
    Open,
    /// May be asked for: people decide.
    Ask,
    /// May be opened around the other rules, loudly.
    BreakGlass,
    /// May decide on what others ask for.
    Approve,
    /// May end what is open.
    Close,
    /// May see what is open and why.
    Read,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 6] = [Action::Open, Action::Ask, Action::BreakGlass, Action::Approve, Action::Close, Action::Read];

    /// The action as rules write it.
    pub fn text(self) -> &'static str {
        match self {
            Action::Open => "open",
            Action::Ask => "ask",
            Action::BreakGlass => "breakGlass",
            Action::Approve => "approve",
            Action::Close => "close",
            Action::Read => "read",
        }
    }

    /// The action of this name.
    pub fn read(text: &str) -> Option<Self> {
        Action::ALL.into_iter().find(|action| action.text() == text)
    }

    /// Whether a permit of it opens something, now or once people agree: then it may have a longest time.
    pub fn opens(self) -> bool {
        match self {
            Action::Open | Action::Ask | Action::BreakGlass => true,
            Action::Approve | Action::Close | Action::Read => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
