//! What is asked, by the names of the sandbox's switches, and what each answer means.

use serde_json::Value;

/// One thing that nobody outside Microsoft knows.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The name of the sandbox's switch.
    pub name: &'static str,
    /// The question.
    pub asks: &'static str,
    /// How it is found out where the probe was given a VM alone; empty where that is enough.
    pub otherwise: &'static str,
}

const fn question(name: &'static str, asks: &'static str) -> Question {
    Question { name, asks, otherwise: "" }
}

const fn besides(name: &'static str, asks: &'static str, otherwise: &'static str) -> Question {
    Question { name, asks, otherwise }
}

/// Every question, in the order of the switches.
pub const QUESTIONS: [Question; 27] = [
    question("newerInitiate", "What does a newer request for the port do to an older one with another source?"),
    question("deletedRuleReturns", "Does JIT write an allow rule again that was deleted?"),
    question("putClosesRecords", "Does a PUT of the policy close what is open under it?"),
    question("sourceMust", "What must the source of a request be to the policy's?"),
    question("pluralSources", "Does a request take several sources?"),
    question("smallestEndSeconds", "How near may the end of a request be, in seconds?"),
    question("rulesLand", "Where do rules land if the interface and the subnet both have a group?"),
    question("requestor", "Does a record say who asked?"),
    question("planOffRefuses", "Which calls of JIT are refused where Defender for Servers Plan 2 is off?"),
    question("subscriptionParents", "Is who reads a subscription told the management groups above it?"),
    besides(
        "incidentEntities",
        "Which right does it take to read what an incident names?",
        "Say --workspace with Microsoft Sentinel's workspace, as an identity that has `Portcullis read incidents` alone there. Or give the app's \
         identity that role, and run `portcullis doctor` while there is an incident.",
    ),
    besides("eventResource", "Which resource does the event of a request name?", "Say --events-queue with a queue of Service Bus."),
    question("initiatingSeconds", "How long is a record `Initiating` before its rule is there, in seconds?"),
    question("expiryDelaySeconds", "How long after its record's end does a rule go, in seconds?"),
    question("recordOfDeletedRule", "What does a record become whose rule was deleted?"),
    question("letterCase", "In which letters are ids written in answers?"),
    question("ruleNames", "Which generation of names do JIT's allow rules have?"),
    question("deleteAnswers", "Is the delete of a rule done with its answer?"),
    question("operationSeconds", "How long does a write to a security group take, in seconds?"),
    question("busyNsg", "How is a second write to a group refused while one is under way?"),
    question("nsgIfMatch", "What does a delete of a rule make of `If-Match`?"),
    question("activityLogSeconds", "How late does the activity log show a request, in seconds?"),
    besides("events", "How do events arrive?", "Say --events-queue with a queue of Service Bus."),
    question("eventSchema", "Which schema has the event subscription that leads to Portcullis?"),
    besides(
        "messages",
        "How are messages of a queue delivered?",
        "Look in the log of the Functions app for one message id in several invocations. Portcullis takes them all.",
    ),
    question("pageSize", "How much stands on a page of a list? 0 is all."),
    besides(
        "logsUnpackedCounts",
        "Does the ingestion endpoint hold its limit of 1 MB against what a packed body unpacks to?",
        "Say --logs-endpoint, --logs-rule-id and --logs-stream, which the outputs of the deployment name. Portcullis stays below either limit.",
    ),
];

/// What an answer means for who runs Portcullis.
pub fn meaning(name: &str, answer: &Value) -> &'static str {
    match (name, answer.as_str().unwrap_or_default()) {
        ("newerInitiate", "adds") => "Both stay open: Portcullis must ask for each person alone.",
        ("newerInitiate", _) => "The older one is shut: Portcullis asks for all sources of the port at once.",
        ("deletedRuleReturns", "never") => "Deleting the rule shuts the port.",
        ("deletedRuleReturns", "once") => "Portcullis deletes it a second time, and raises the alarm rule-returns meanwhile.",
        ("deletedRuleReturns", _) => "Nothing shuts an opening before JIT's own end: the alarm rule-returns stands until then.",
        ("putClosesRecords", _) if answer == true => {
            "Whoever writes the policy ends grants, and Portcullis says so to whom they were given."
        }
        ("putClosesRecords", _) => "Policies can be written while ports are open.",
        ("sourceMust", "equal") => "Ask for the policy's whole source, or narrow the policy to what is asked for.",
        ("sourceMust", _) => "Each grant is opened to its own sources.",
        ("pluralSources", _) if answer == true => "Several sources are asked for at once.",
        ("pluralSources", _) => "One source at a time: grants of one port that overlap are refused, unless newer requests add.",
        ("smallestEndSeconds", _) => "Portcullis asks for 5 minutes at least, whatever JIT takes.",
        ("rulesLand", _) => "Portcullis reads and shuts both groups, whatever JIT does.",
        ("requestor", "filled") => "What somebody opens can be adopted at once.",
        ("requestor", _) => "Who opened is known by the event, and for certain by the activity log alone, within 30 minutes.",
        ("planOffRefuses", "everything") => "Where the plan is off, Portcullis sees no policy, and the alarm missing-right stands.",
        ("planOffRefuses", _) => "Where the plan is off, Portcullis closes and proves, and opens nothing.",
        ("subscriptionParents", "shown") => "Rules may name management groups.",
        ("subscriptionParents", "withheld") => "Write no rule that names a management group: none could be decided.",
        ("subscriptionParents", _) => "Rules that name a management group need Microsoft.Management/getEntities/action at the root.",
        ("initiatingSeconds", _) => "So long a grant is `opening`; Portcullis waits up to 5 minutes.",
        ("expiryDelaySeconds", _) => "Portcullis deletes at the end what JIT has not taken away.",
        ("recordOfDeletedRule", _) => "Portcullis looks at the rules: a record never proves anything.",
        ("letterCase", _) => "Portcullis compares ids without regard to it.",
        ("ruleNames", _) => "Portcullis knows both generations.",
        ("deleteAnswers", _) => "Portcullis believes two reads, not the answer.",
        ("operationSeconds", _) => "Portcullis waits until a group is settled.",
        ("busyNsg", _) => "Portcullis tries again.",
        ("nsgIfMatch", _) => "Portcullis sends none: it reads the rule before it deletes it.",
        ("activityLogSeconds", _) if answer.as_i64() > Some(CONFIRMED_WITHIN) => {
            "Too late to confirm who opened: where records do not say it, openings that no grant covers are shut after 30 minutes."
        }
        ("activityLogSeconds", _) => "Soon enough to confirm who opened.",
        ("pageSize", _) => "Portcullis reads every page.",
        ("events", "never") => "Portcullis finds out by its sweep, within five minutes.",
        ("events", "late") => "Portcullis mostly finds out by its sweep, within five minutes.",
        ("events", _) => "Portcullis takes each event for a sign to look, whenever and however often it comes.",
        ("eventResource", _) => "Portcullis looks at all that an event may mean.",
        ("eventSchema", _) => "Portcullis takes both.",
        ("incidentEntities", "ownAction") => {
            "The role `Portcullis read incidents` is not enough: assign Microsoft Sentinel Responder at the workspace."
        }
        ("incidentEntities", _) => "The right to read incidents is enough.",
        ("logsUnpackedCounts", _) => "Portcullis stays below either limit.",
        _ => "",
    }
}

/// Portcullis waits so long for the activity log.
const CONFIRMED_WITHIN: i64 = 1800;

#[cfg(test)]
mod tests {
    use portcullis_sandbox::switches::Switches;

    use super::*;

    #[test]
    fn every_switch_is_a_question_and_nothing_else_is() {
        let switches = serde_json::to_value(Switches::default()).unwrap();
        let names: Vec<&str> = QUESTIONS.iter().map(|question| question.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let mut known: Vec<&str> = switches.as_object().unwrap().keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(sorted, known);
    }

    #[test]
    fn an_answer_means_something_exactly_where_the_probe_can_give_one() {
        let switches = serde_json::to_value(Switches::default()).unwrap();
        for question in QUESTIONS {
            let is_never_answered = question.name == "messages";
            assert_eq!(meaning(question.name, &switches[question.name]).is_empty(), is_never_answered, "{}", question.name);
        }
    }
}
