//! Rights as Azure's roles write them: actions with `*`, and actions that are left out again.

use serde_json::Value;

use crate::json::items;

/// What one role assignment allows its holder. Neither deny assignments nor conditions, locks or policies are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Actions, `*` standing for any run of characters.
    pub actions: Vec<String>,
    /// Actions that are left out of these.
    pub not_actions: Vec<String>,
}

impl Permission {
    /// Reads one entry of `permissions`, of a role definition or of what its caller holds (REST specification
    /// `Microsoft.Authorization` 2022-04-01).
    pub fn read(body: &Value) -> Self {
        let texts = |field| items(body, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Permission { actions: texts("actions"), not_actions: texts("notActions") }
    }

    /// Whether it allows this action. What one assignment leaves out another may allow.
    pub fn allows(&self, action: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, action));
        any(&self.actions) && !any(&self.not_actions)
    }
}

/// Which of these actions none of the permissions allows.
pub fn missing<'a>(permissions: &[Permission], actions: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    actions.into_iter().filter(|action| !permissions.iter().any(|permission| permission.allows(action))).collect()
}

/// Whether an action is meant by a pattern. Letter case makes no difference, and `*` also stands for slashes (documentation of
/// role definitions).
fn fits(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == action };
    let Some(mut left) = action.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, between)) = parts.split_last() else { return true };
    for part in between {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_fits_as_azure_reads_it() {
        let delete = "Microsoft.Network/networkSecurityGroups/securityRules/delete";
        for (pattern, is) in [
            ("*", true),
            ("*/delete", true),
            ("*/read", false),
            ("microsoft.network/*", true),
            ("Microsoft.Network/networkSecurityGroups/*/delete", true),
            ("Microsoft.Network/*/securityRules/*", true),
            ("Microsoft.Network/networkSecurityGroups/securityRules/delete", true),
            ("Microsoft.Network/networkSecurityGroups/securityRules/delet", false),
            ("Microsoft.Network/*/delete/delete", false),
            ("", false),
        ] {
            assert_eq!(fits(pattern, delete), is, "{pattern}");
        }
    }

    #[test]
    fn what_one_assignment_leaves_out_another_allows() {
        let contributor = Permission::read(&json!({"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Delete"]}));
        let locks = Permission::read(&json!({"actions": ["Microsoft.Authorization/locks/*"], "notActions": null}));
        let delete = "Microsoft.Authorization/locks/delete";
        assert_eq!(missing(std::slice::from_ref(&contributor), [delete, "a/read"]), [delete]);
        assert_eq!(missing(&[contributor, locks], [delete]), Vec::<&str>::new());
        assert_eq!(missing(&[], ["a/read"]), ["a/read"]);
        assert_eq!(missing(&[Permission::read(&json!({}))], ["a/read"]), ["a/read"]);
    }
}
