//! What a rule speaks of that neither Cedar nor the schema knows to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cedar_policy::{Policy, SchemaFragment};
use serde_json::Value;

use crate::set::SCHEMA_TEXT;

/// The attributes that the schema knows, by how a rule reaches what has them.
pub(crate) fn attributes() -> &'static BTreeMap<&'static str, BTreeSet<String>> {
    static KNOWN: OnceLock<BTreeMap<&'static str, BTreeSet<String>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let json = SchemaFragment::from_cedarschema_str(SCHEMA_TEXT).ok().and_then(|(schema, _)| schema.to_json_value().ok());
        let named = |pointer: &str| {
            let fields = json.as_ref().and_then(|json| json.pointer(pointer)).and_then(Value::as_object);
            fields.into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        BTreeMap::from([
            ("context", named("//commonTypes/Ask/attributes")),
            ("context.incident", named("//commonTypes/Incident/attributes")),
            ("resource", named("//entityTypes/VM/shape/attributes")),
            ("principal", named("//entityTypes/Person/shape/attributes")),
            ("context.incident.owner", named("//entityTypes/Person/shape/attributes")),
        ])
    })
}

/// Everything in a rule that has parts of its own: each by its sign, such as `==`, `has` or `principal`, and what stands in it.
fn each_part<'a>(json: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match json {
        Value::Object(fields) => {
            for (sign, value) in fields {
                see(sign, value);
                each_part(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_part(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a rule speaks of that neither Cedar nor the schema knows to be wrong.
#[derive(Default)]
pub(crate) struct Spoken {
    /// What it asks `has` of, and for which attribute.
    pub(crate) asked_for: BTreeSet<(String, String)>,
    /// What it says that whoever asks, or what is opened, is: the variable, the kind and the id.
    pub(crate) compared: BTreeSet<(String, String, String)>,
    /// The names of tags.
    pub(crate) tags: BTreeSet<String>,
    /// What it compares the names of machines with; of a pattern, with `*` for whatever stands there.
    pub(crate) machines: BTreeSet<String>,
}

impl Spoken {
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut spoken = Spoken::default();
        if let Ok(json) = policy.to_json() {
            each_part(&json, &mut |sign, value| spoken.see(sign, value));
        }
        spoken
    }

    fn see(&mut self, sign: &str, value: &Value) {
        let (left, right) = (&value["left"], &value["right"]);
        match sign {
            "principal" | "resource" if value["op"] == "==" => self.compare(sign, &value["entity"]),
            "==" | "!=" => {
                for (one, other) in [(left, right), (right, left)] {
                    if let Some(variable @ ("principal" | "resource")) = one["Var"].as_str() {
                        self.compare(variable, &other["Value"]["__entity"]);
                    } else if is_name_of_machine(one) {
                        self.machines.extend(other["Value"].as_str().map(str::to_owned));
                    }
                }
            }
            "like" if is_name_of_machine(left) => {
                let parts = value["pattern"].as_array().into_iter().flatten();
                self.machines.insert(parts.map(|part| part["Literal"].as_str().unwrap_or("*")).collect());
            }
            "contains" if is_name_of_machine(right) => {
                let of_set = left["Set"].as_array().into_iter().flatten();
                self.machines.extend(of_set.filter_map(|one| one["Value"].as_str()).map(str::to_owned));
            }
            "containsAny" | "containsAll" => {
                for (one, other) in [(left, right), (right, left)] {
                    if one["Set"].as_array().is_some_and(|items| items.iter().any(is_name_of_machine)) {
                        let named = other["Set"].as_array().into_iter().flatten().filter_map(|one| one["Value"].as_str());
                        self.machines.extend(named.map(str::to_owned));
                    }
                }
            }
            "hasTag" | "getTag" => self.tags.extend(right["Value"].as_str().map(str::to_owned)),
            "has" => {
                let mut of = path(left);
                // `has a.b` asks for one after the other.
                let names = value["attr"].as_array().map_or_else(|| vec![&value["attr"]], |names| names.iter().collect());
                for name in names.into_iter().filter_map(Value::as_str) {
                    self.asked_for.extend(of.clone().map(|of| (of, name.to_owned())));
                    of = of.map(|of| format!("{of}.{name}"));
                }
            }
            _ => {}
        }
    }

    fn compare(&mut self, variable: &str, entity: &Value) {
        if let (Some(kind), Some(id)) = (entity["type"].as_str(), entity["id"].as_str()) {
            self.compared.insert((variable.to_owned(), kind.to_owned(), id.to_owned()));
        }
    }
}

fn is_name_of_machine(json: &Value) -> bool {
    path(json).as_deref() == Some("resource.name")
}

/// How a rule reaches something, as `context.incident`.
pub(crate) fn path(json: &Value) -> Option<String> {
    if let Some(variable) = json["Var"].as_str() {
        return Some(variable.to_owned());
    }
    // What is neither a variable nor reached from one ends here.
    let name = json["."]["attr"].as_str()?;
    Some(format!("{}.{name}", path(&json["."]["left"])?))
}

/// How a rule writes something, with one space around each sign. What nobody writes in a condition is `…`.
pub(crate) fn written(json: &Value) -> String {
    let Some((sign, value)) = json.as_object().and_then(|fields| fields.iter().next()) else { return "…".to_owned() };
    let list = |items: &Value| items.as_array().into_iter().flatten().map(written).collect::<Vec<_>>().join(", ");
    let joined = |json: &Value| {
        let text = written(json);
        let is_whole = json.as_object().is_some_and(|fields| fields.keys().any(|sign| JOINS.contains(&sign.as_str())));
        if is_whole { format!("({text})") } else { text }
    };
    let (left, right) = (&value["left"], &value["right"]);
    match sign.as_str() {
        "Var" => value.as_str().unwrap_or_default().to_owned(),
        "Value" => match (value["__entity"]["type"].as_str(), value["__entity"]["id"].as_str()) {
            (Some(kind), Some(id)) => format!("{kind}::{id:?}"),
            _ => value.to_string(),
        },
        "Set" => format!("[{}]", list(value)),
        "." => format!("{}.{}", joined(left), value["attr"].as_str().unwrap_or_default()),
        "has" => {
            let name = &value["attr"];
            let names = name.as_array().map_or_else(|| vec![name], |names| names.iter().collect());
            let names: Vec<&str> = names.into_iter().filter_map(Value::as_str).collect();
            format!("{} has {}", joined(left), names.join("."))
        }
        "is" => format!("{} is {}", joined(left), value["entity_type"].as_str().unwrap_or_default()),
        "like" => {
            let parts = value["pattern"].as_array().into_iter().flatten();
            format!("{} like \"{}\"", joined(left), parts.map(|part| part["Literal"].as_str().unwrap_or("*")).collect::<String>())
        }
        "!" => format!("!{}", joined(&value["arg"])),
        "neg" => format!("-{}", joined(&value["arg"])),
        "isEmpty" => format!("{}.isEmpty()", joined(&value["arg"])),
        "duration" | "ip" => format!("{sign}({})", list(value)),
        "if-then-else" => format!("if {} then {} else {}", written(&value["if"]), written(&value["then"]), written(&value["else"])),
        "contains" | "containsAll" | "containsAny" | "hasTag" | "getTag" => format!("{}.{sign}({})", joined(left), written(right)),
        _ if JOINS.contains(&sign.as_str()) => {
            let side = |json: &Value| if json[sign].is_object() { written(json) } else { joined(json) };
            let is_comparison = !["&&", "||"].contains(&sign.as_str());
            let inner = |json: &Value| {
                let compares = json.as_object().is_some_and(|fields| fields.keys().any(|own| !["&&", "||"].contains(&own.as_str())));
                if !is_comparison && compares { written(json) } else { side(json) }
            };
            format!("{} {sign} {}", inner(left), inner(right))
        }
        _ => match value.as_array().and_then(|items| items.split_first()) {
            Some((of, rest)) => format!("{}.{sign}({})", joined(of), rest.iter().map(written).collect::<Vec<_>>().join(", ")),
            None => "…".to_owned(),
        },
    }
}

/// The signs that stand between two things.
const JOINS: [&str; 12] = ["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*"];
