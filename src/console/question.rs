//! What a caller asks of a list: which part of it, and how much at once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::AuditKind;
use portcullis_domain::plain::quoted;
use portcullis_domain::time;
use serde_json::Value;
use url::form_urlencoded;
use uuid::Uuid;

/// Items in an answer if the caller does not say.
const USUAL_LIMIT: usize = 100;

/// The most items in an answer: each may be a document that has to be read.
pub const MOST_LIMIT: usize = 1000;

/// The parameters that a list can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `subscription`: only what lies in this one.
    Subscription,
    /// `vm`: only what is about this one.
    Vm,
    /// `limit`: at most as many items.
    Limit,
    /// `after`: go on where an earlier answer ended.
    After,
    /// `kind`: only audit records of this kind.
    Kind,
    /// `code`: only audit records with this code.
    Code,
    /// `from`: only audit records of this time and later.
    From,
    /// `to`: only audit records of before this time.
    To,
}

impl Parameter {
    /// The name as it stands in a query.
    pub fn name(self) -> &'static str {
        match self {
            Parameter::Subscription => "subscription",
            Parameter::Vm => "vm",
            Parameter::Limit => "limit",
            Parameter::After => "after",
            Parameter::Kind => "kind",
            Parameter::Code => "code",
            Parameter::From => "from",
            Parameter::To => "to",
        }
    }
}

/// The parameters of the list of VMs.
pub const OF_VMS: [Parameter; 3] = [Parameter::Subscription, Parameter::Limit, Parameter::After];

/// The parameters of the examination.
pub const OF_DOCTOR: [Parameter; 1] = [Parameter::Subscription];

/// The parameters of a list of things of VMs.
pub const OF_THINGS: [Parameter; 4] = [Parameter::Subscription, Parameter::Vm, Parameter::Limit, Parameter::After];

/// The parameters of the list of audit records.
pub const OF_AUDITS: [Parameter; 8] = [
    Parameter::Subscription,
    Parameter::Vm,
    Parameter::Kind,
    Parameter::Code,
    Parameter::From,
    Parameter::To,
    Parameter::Limit,
    Parameter::After,
];

/// A question that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Only this subscription, as its GUID in lower case.
    pub subscription: Option<String>,
    /// Only this VM.
    pub vm: Option<VmId>,
    /// Only audit records of this kind.
    pub kind: Option<AuditKind>,
    /// Only audit records with this code.
    pub code: Option<String>,
    /// Only audit records of this time and later.
    pub from: Option<DateTime<Utc>>,
    /// Only audit records of before this time.
    pub to: Option<DateTime<Utc>>,
    /// At most as many items.
    pub limit: usize,
    /// Where an earlier answer ended: what [`bookmark`] was made of.
    pub after: Option<String>,
}

impl Question {
    /// Reads a query string that may hold these parameters and no others, each once. The error is a sentence for the
    /// caller.
    pub fn read(query: Option<&str>, allowed: &[Parameter]) -> Result<Self, String> {
        let mut question =
            Question { subscription: None, vm: None, kind: None, code: None, from: None, to: None, limit: USUAL_LIMIT, after: None };
        let mut given: Vec<Parameter> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let parameter = allowed.iter().copied().find(|parameter| parameter.name() == name).ok_or_else(|| unknown(&name, allowed))?;
            if given.contains(&parameter) {
                return Err(format!("The parameter {name} is given twice: give it once."));
            }
            given.push(parameter);
            question.take(parameter, &value)?;
        }
        if let (Some(from), Some(to)) = (question.from, question.to)
            && from >= to
        {
            return Err("The parameter from must lie before the parameter to.".to_owned());
        }
        Ok(question)
    }

    /// Whether audit records are asked for by what stands in them, and not only by whose and which they are.
    pub fn asks_for_content(&self) -> bool {
        self.subscription.is_some() || self.kind.is_some() || self.code.is_some() || self.from.is_some() || self.to.is_some()
    }

    fn take(&mut self, parameter: Parameter, value: &str) -> Result<(), String> {
        let wrong = |wanted: &str| format!("The parameter {} must be {wanted}.", parameter.name());
        match parameter {
            Parameter::Subscription => {
                let guid = Uuid::parse_str(value).map_err(|_| wrong("the GUID of a subscription"))?;
                self.subscription = Some(guid.to_string());
            }
            Parameter::Vm => {
                let vm = VmId::parse(value).or_else(|_| VmId::from_key(value));
                self.vm = Some(vm.map_err(|_| wrong("the ARM id of a VM, or SUBSCRIPTION/GROUP/NAME"))?);
            }
            Parameter::Limit => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST_LIMIT).contains(limit));
                self.limit = limit.ok_or_else(|| wrong(&format!("a whole number from 1 to {MOST_LIMIT}")))?;
            }
            Parameter::Kind => {
                let kind = serde_json::from_value(Value::String(value.to_owned()));
                self.kind = Some(kind.map_err(|_| wrong("the kind of an audit record, such as close or proved-shut"))?);
            }
            Parameter::Code => {
                let is_code = !value.is_empty() && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
                self.code = Some(is_code.then(|| value.to_owned()).ok_or_else(|| wrong("a code, such as any-source"))?);
            }
            Parameter::From => self.from = Some(time::parse(value).ok_or_else(|| wrong(A_TIME))?),
            Parameter::To => self.to = Some(time::parse(value).ok_or_else(|| wrong(A_TIME))?),
            Parameter::After => self.after = Some(unread_bookmark(value).ok_or_else(not_a_bookmark)?),
        }
        Ok(())
    }
}

const A_TIME: &str = "a time in UTC, such as 2026-01-15T09:00:00Z";

fn unknown(name: &str, allowed: &[Parameter]) -> String {
    let known: Vec<&str> = allowed.iter().map(|parameter| parameter.name()).collect();
    let name = quoted(&name.chars().take(40).collect::<String>());
    if known.is_empty() {
        return format!("There is no parameter {name} here: leave the query away.");
    }
    format!("There is no parameter {name}: this list takes {}.", known.join(", "))
}

/// The sentence for an `after` that no answer gave.
pub(super) fn not_a_bookmark() -> String {
    "The parameter after must be the `next` of an earlier answer to the same question.".to_owned()
}

/// Makes of a place in a list what a caller hands back to go on after it.
pub fn bookmark(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

fn unread_bookmark(text: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok().filter(|place| !place.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "5A4DB0C5-0001-4000-8000-000000000001";

    fn usual() -> Question {
        Question { subscription: None, vm: None, kind: None, code: None, from: None, to: None, limit: 100, after: None }
    }

    #[test]
    fn a_query_is_read() {
        for query in [None, Some(""), Some("&")] {
            assert_eq!(Question::read(query, &OF_VMS), Ok(usual()));
        }
        let query = format!("subscription={GUID}&limit=1000&after={}", bookmark("s/rg/å"));
        let question = Question { subscription: Some(GUID.to_lowercase()), limit: 1000, after: Some("s/rg/å".to_owned()), ..usual() };
        assert_eq!(Question::read(Some(&query), &OF_VMS), Ok(question));
    }

    #[test]
    fn a_vm_is_named_by_its_id_or_its_key() {
        let id = "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1";
        for text in [id, "s/rg/vm1", "s%2Frg%2Fvm1", &id.replace('/', "%2F")] {
            let question = Question::read(Some(&format!("vm={text}")), &OF_AUDITS).unwrap();
            assert_eq!(question.vm, Some(id.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn audit_records_are_asked_for_by_kind_code_and_time() {
        let query = "kind=proved-shut&code=any-source&from=2026-01-15T09:00:00Z&to=2026-01-15T10:00:00Z";
        let question = Question {
            kind: Some(AuditKind::ProvedShut),
            code: Some("any-source".to_owned()),
            from: Some("2026-01-15T09:00:00Z".parse().unwrap()),
            to: Some("2026-01-15T10:00:00Z".parse().unwrap()),
            ..usual()
        };
        assert_eq!(Question::read(Some(query), &OF_AUDITS), Ok(question));
        for (query, told) in [
            ("kind=ProvedShut", "The parameter kind must be the kind of an audit record, such as close or proved-shut."),
            ("code=Any", "The parameter code must be a code, such as any-source."),
            ("from=yesterday", "The parameter from must be a time in UTC, such as 2026-01-15T09:00:00Z."),
            ("from=2026-01-15T09:00:00Z&to=2026-01-15T09:00:00Z", "The parameter from must lie before the parameter to."),
        ] {
            assert_eq!(Question::read(Some(query), &OF_AUDITS), Err(told.to_owned()));
            assert!(Question::read(Some(query), &OF_THINGS).unwrap_err().contains("this list takes subscription, vm, limit, after"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told_in_a_sentence() {
        let told: Vec<String> = [
            "color=red",
            "vm=s/rg/vm1",
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=ten",
            "limit=5&limit=6",
            "limit=5,6",
            "subscription=mine",
            "after=%00",
            "after=",
        ]
        .iter()
        .map(|query| Question::read(Some(query), &OF_VMS).unwrap_err())
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        There is no parameter color: this list takes subscription, limit, after.
        There is no parameter vm: this list takes subscription, limit, after.
        The parameter limit must be a whole number from 1 to 1000.
        The parameter limit must be a whole number from 1 to 1000.
        The parameter limit must be a whole number from 1 to 1000.
        The parameter limit must be a whole number from 1 to 1000.
        The parameter limit is given twice: give it once.
        The parameter limit must be a whole number from 1 to 1000.
        The parameter subscription must be the GUID of a subscription.
        The parameter after must be the `next` of an earlier answer to the same question.
        The parameter after must be the `next` of an earlier answer to the same question.
        "#);
        assert!(Question::read(Some("vm=vm1"), &OF_AUDITS).unwrap_err().contains("SUBSCRIPTION/GROUP/NAME"));
        assert!(Question::read(Some(&format!("{}=1", "x".repeat(500))), &[]).unwrap_err().len() < 120);
    }
}
