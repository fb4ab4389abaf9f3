//! The roles that a deployment makes, as its templates read them: what the product's identity and people may do.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// A role of the deployment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Role {
    /// Its name in Azure.
    pub role_name: String,
    /// What it is for.
    pub description: String,
    /// What it allows.
    pub actions: Vec<String>,
}

/// The duties that the product's identity has at the whole estate.
pub const DUTIES: [&str; 5] = ["observe", "open", "close", "examine", "incidents"];

/// Every role of `infra/roles.json`, by its duty.
pub static ROLES: LazyLock<BTreeMap<String, Role>> = LazyLock::new(|| {
    let text = include_str!("../../../infra/roles.json");
    serde_json::from_str(text).unwrap_or_else(|why| panic!("infra/roles.json: {why}"))
});

/// What a duty allows. Panics if no role has it.
pub fn actions(duty: &str) -> &'static [String] {
    let role = ROLES.get(duty).unwrap_or_else(|| panic!("no role has the duty '{duty}'"));
    &role.actions
}
