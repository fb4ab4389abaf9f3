//! Role assignments: who may do what where.

use crate::state::{Caller, NeededRight, State};

/// Whether the caller's assignments allow `action` at `scope`, an ARM id. Letter case makes no difference; `*` in
/// an assignment stands for any run of characters, and an assignment holds for everything below its scope. That it was needed is
/// remembered.
pub fn may(state: &State, caller: &Caller, action: &str, scope: &str) -> bool {
    remembered(
        state,
        caller,
        action,
        any_assignment(state, caller, |assigned, pattern| holds_at(assigned, scope) && allows(pattern, action)),
    )
}

/// Whether the caller's assignments allow `action` at any scope: the data planes of this world have one account, one
/// namespace and one data collection rule, so that it makes no difference where the role was assigned. That it was needed is
/// remembered.
pub fn may_anywhere(state: &State, caller: &Caller, action: &str) -> bool {
    remembered(state, caller, action, any_assignment(state, caller, |_, pattern| allows(pattern, action)))
}

fn remembered(state: &State, caller: &Caller, action: &str, held: bool) -> bool {
    if !caller.object_id.is_empty() {
        state.rights.borrow_mut().insert(NeededRight { object_id: caller.object_id.clone(), action: action.to_owned(), held });
    }
    held
}

fn any_assignment(state: &State, caller: &Caller, fits: impl Fn(&str, &str) -> bool) -> bool {
    super::principal(state, &caller.object_id)
        .is_some_and(|principal| principal.assignments.iter().any(|given| given.actions.iter().any(|pattern| fits(&given.scope, pattern))))
}

fn holds_at(assigned: &str, scope: &str) -> bool {
    let assigned = assigned.trim_end_matches('/').to_ascii_lowercase();
    let scope = scope.trim_end_matches('/').to_ascii_lowercase();
    match scope.strip_prefix(&assigned) {
        Some(below) => below.is_empty() || below.starts_with('/'),
        None => false,
    }
}

/// Whether a pattern fits an action: `*` stands for any run of characters, and letter case makes no difference.
pub fn allows(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = action.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Assignment, Principal};

    fn state(scope: &str, action: &str) -> (State, Caller) {
        let assignment = Assignment { scope: scope.to_owned(), actions: vec![action.to_owned()] };
        let principal = Principal { object_id: "oid".to_owned(), assignments: vec![assignment], ..Principal::default() };
        let caller = Caller { object_id: "oid".to_owned(), ..Caller::default() };
        (State { principals: vec![principal], ..State::default() }, caller)
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let table = [
            ("*", "Microsoft.Network/networkSecurityGroups/read", true),
            ("*/read", "Microsoft.Network/networkSecurityGroups/read", true),
            ("*/read", "Microsoft.Network/networkSecurityGroups/write", false),
            ("Microsoft.Network/*/delete", "microsoft.network/networkSecurityGroups/securityRules/DELETE", true),
            ("Microsoft.Network/*/delete", "Microsoft.Network/delete", false),
            ("Microsoft.ServiceBus/*/send/action", "Microsoft.ServiceBus/namespaces/messages/send/action", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c", false),
            ("abc", "abcd", false),
            ("abc", "ABC", true),
        ];
        for (pattern, action, expected) in table {
            let (state, caller) = state("/", pattern);
            assert_eq!(may(&state, &caller, action, "/x"), expected, "{pattern} {action}");
            assert_eq!(may_anywhere(&state, &caller, action), expected, "{pattern} {action}");
        }
    }

    #[test]
    fn an_assignment_holds_below_its_scope_and_nowhere_else() {
        let (state, caller) = state("/subscriptions/S/resourceGroups/rg", "*");
        assert!(may(&state, &caller, "a", "/SUBSCRIPTIONS/s/resourcegroups/RG/providers/x"));
        assert!(may(&state, &caller, "a", "/subscriptions/s/resourcegroups/rg"));
        assert!(!may(&state, &caller, "a", "/subscriptions/s/resourcegroups/rg2"));
        assert!(!may(&state, &caller, "a", "/subscriptions/s"));
        assert!(may_anywhere(&state, &caller, "a"));
        assert!(!may(&state, &Caller::world("somebody"), "a", "/subscriptions/S/resourceGroups/rg"));
    }
}
