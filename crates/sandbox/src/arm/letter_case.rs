//! The letter case of ids in answers and events, which differs between Azure's services.

use serde_json::Value;

use crate::switches::LetterCase;

/// Rewrites every id in a body.
pub(super) fn rewrite(case: LetterCase, body: &mut Value) {
    match case {
        LetterCase::AsGiven => {}
        LetterCase::Upper | LetterCase::Lower => walk(case, body),
    }
}

/// One id in the letter case that the world writes.
pub(super) fn id(case: LetterCase, id: &str) -> String {
    match case {
        LetterCase::AsGiven => id.to_owned(),
        LetterCase::Lower => id.to_ascii_lowercase(),
        LetterCase::Upper => id.to_ascii_uppercase(),
    }
}

fn walk(case: LetterCase, value: &mut Value) {
    match value {
        Value::String(text) if is_id(text) => *text = id(case, text),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(case, item)),
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(case, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_id(text: &str) -> bool {
    const ROOTS: [&str; 2] = ["/subscriptions/", "/providers/"];
    ROOTS.iter().any(|root| text.get(..root.len()).is_some_and(|head| head.eq_ignore_ascii_case(root)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_change_and_nothing_else_does() {
        let given = json!({
            "id": "/subscriptions/5a4db0c5-0001-4000-8000-000000000001/resourceGroups/Rg",
            "name": "Rg",
            "list": [{"id": "/subscriptions/x/y"}, {"id": "/providers/Microsoft.Management/managementGroups/m"}],
            "text": "The scope '/subscriptions/x' is locked"
        });
        let mut upper = given.clone();
        rewrite(LetterCase::Upper, &mut upper);
        assert_eq!(
            upper,
            json!({
                "id": "/SUBSCRIPTIONS/5A4DB0C5-0001-4000-8000-000000000001/RESOURCEGROUPS/RG",
                "name": "Rg",
                "list": [{"id": "/SUBSCRIPTIONS/X/Y"}, {"id": "/PROVIDERS/MICROSOFT.MANAGEMENT/MANAGEMENTGROUPS/M"}],
                "text": "The scope '/subscriptions/x' is locked"
            })
        );
        let mut as_given = given.clone();
        rewrite(LetterCase::AsGiven, &mut as_given);
        assert_eq!(as_given, given);
    }
}
