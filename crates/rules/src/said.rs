//! What Cedar says of a rule, at its place in the file and in words that whoever writes rules knows.

use miette::Diagnostic;

use crate::action::Action;
use crate::mistake::{Mistake, nearest};
use crate::spoken::attributes;
use crate::terms::Source;

/// Whether it is about an action that has no context at all, and so perhaps about that action alone.
pub(crate) fn of_bare_action(what: &str) -> bool {
    [Action::Close, Action::Read].iter().any(|action| what.contains(&format!("in context for Action::\"{action}\"")))
}

/// What Cedar says of a rule, at its place in the file.
pub(crate) fn diagnosed(source: &Source<'_>, said: &dyn Diagnostic) -> Mistake {
    let label = said.labels().and_then(|mut labels| labels.next());
    let span = label.as_ref().map_or_else(|| source.shape.head.clone(), |label| label.offset()..label.offset() + label.len());
    let text = said.to_string();
    let named = |text: &str| text.replace("for policy `rule`, ", "").replace("policy `rule`", "this rule");
    let mistake = source.mistake(&span, named(&text));
    let expected = label.as_ref().and_then(|label| label.label()).map(str::to_owned);
    match said.help().map(|help| named(&help.to_string())).or(expected).filter(|cure| !is_far(&text, cure)) {
        Some(cure) => mistake.cured(cure),
        None => mistake,
    }
}

/// Whether a cure names something that is nothing like what is wrong: Cedar always has a nearest name.
fn is_far(what: &str, cure: &str) -> bool {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let meant = cure.strip_prefix("did you mean ").and_then(quoted).filter(|meant| !meant.contains("::"));
    meant.zip(quoted(what)).is_some_and(|(meant, wrong)| {
        let wrong = wrong.rsplit(['.', ' ']).next().unwrap_or_default().to_owned();
        nearest(&wrong, [meant.as_str()]).is_none()
    })
}

/// The same in words of our own, where Cedar speaks of its own matters. What is not known here stays as it is.
pub(crate) fn in_our_words(mistake: Mistake, source: &Source<'_>) -> Mistake {
    let start = mistake.span.start.saturating_sub(source.start);
    let rest = source.text.get(start..).unwrap_or_default();
    // A sign that Cedar does not know has no length for it.
    let length = if mistake.what == "invalid token" { rest.chars().next().map_or(0, char::len_utf8) } else { mistake.span.len() };
    let mistake = Mistake { span: mistake.span.start..mistake.span.start + length, ..mistake };
    let words = rest.get(..length).unwrap_or_default();
    let said = Said {
        what: &mistake.what,
        cure: mistake.cure.as_deref().unwrap_or_default(),
        words,
        before: source.text.get(..start).unwrap_or_default().trim_end(),
        behind: rest.get(length..).unwrap_or_default().trim_start(),
        rule: source.text,
    };
    let told = said.names().or_else(|| said.kinds()).or_else(|| said.values()).or_else(|| said.grammar()).or_else(|| said.whole());
    match told {
        Some((what, cure)) => Mistake { what, cure: Some(cure), ..mistake },
        None => mistake,
    }
}

/// What is wrong, and what to write instead.
type Told = Option<(String, String)>;

/// Something that Cedar said, and the words of the rule that it is about.
struct Said<'a> {
    what: &'a str,
    cure: &'a str,
    words: &'a str,
    /// What stands before them in the rule, and what behind them.
    before: &'a str,
    behind: &'a str,
    rule: &'a str,
}

fn told(what: impl Into<String>, cure: impl Into<String>) -> Told {
    Some((what.into(), cure.into()))
}

/// What is said of a name that nobody knows, with the one that was meant, or all there are.
fn unknown<'n>(what: impl Into<String>, name: &str, known: impl IntoIterator<Item = &'n str>) -> Told {
    let known: Vec<&str> = known.into_iter().collect();
    let cure = nearest(name, known.iter().copied())
        .map_or_else(|| format!("known are {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
    told(what, cure)
}

/// What is said of a rule that ends before it says all.
pub(crate) const CUT_SHORT: &str = "the rule ends here, and something is missing";

/// What is said of a text whose second quote is missing.
pub(crate) const UNENDED: &str = "a text begins here and does not end";

/// What is said of both sides of a `+`, and of what their sum is compared with.
const DURATIONS_ADDED: &str = "durations cannot be added, taken away or multiplied";

/// What is said of both sides of a `>=`.
const NO_SEVERITY_IS_MORE: &str = "no Severity is more or less than another here";

/// Leaves of what is said of one rule, in the order of its places, the first of what one thing that is written wrong brings about.
pub(crate) fn without_echoes(told: Vec<Mistake>) -> Vec<Mistake> {
    let adds = told.iter().any(|mistake| mistake.what == DURATIONS_ADDED);
    let mut kept: Vec<Mistake> = Vec::new();
    for mistake in told {
        let is_said = |what: &str| kept.iter().any(|kept| kept.what == what);
        let is_echo = match mistake.what.as_str() {
            what @ (DURATIONS_ADDED | NO_SEVERITY_IS_MORE) => is_said(what),
            "a duration stands here, and a number is needed" => adds,
            "`in` asks for a group, and a set stands here" => kept.last().is_some_and(|kept| kept.what.ends_with(" is in nothing")),
            _ => false,
        };
        if !is_echo {
            kept.push(mistake);
        }
    }
    kept
}

const KINDS: [&str; 10] =
    ["Person", "Unknown", "Group", "VM", "ResourceGroup", "Subscription", "ManagementGroup", "Network", "Weekday", "Severity"];

const METHODS: [&str; 10] =
    ["contains", "containsAny", "containsAll", "isEmpty", "hasTag", "getTag", "toMinutes", "toHours", "toSeconds", "isInRange"];

impl Said<'_> {
    /// What Cedar put in backticks, the nth time.
    fn named(&self, n: usize) -> &str {
        self.what.split('`').nth(2 * n + 1).unwrap_or_default()
    }

    /// A text that begins so, without its beginning.
    fn after(&self, begins: &str) -> Option<&str> {
        self.what.strip_prefix(begins)
    }

    /// Names that nobody knows, and what may be absent.
    fn names(&self) -> Told {
        let name = self.named(0);
        let (of, last) = name.rsplit_once('.').map_or(("context".to_owned(), name), |(of, last)| (format!("context.{of}"), last));
        if self.what.starts_with("attribute ") && self.what.contains(" in context for ") {
            let action = self.what.split('"').nth(1).unwrap_or_default();
            if of_bare_action(self.what) {
                return told(format!("`{of}` has no `{last}` where the action is `{action}`"), self.cure);
            }
            let known = attributes().get(of.as_str()).into_iter().flatten().map(String::as_str);
            return unknown(format!("`{of}` has no `{last}`"), last, known);
        }
        if self.what.starts_with("attribute ") && self.what.contains(" on entity type ") {
            return match self.named(1) {
                "VM" => unknown(format!("a machine has no `{name}`"), name, ["name"]).map(|(what, cure)| match nearest(name, ["name"]) {
                    Some(_) => (what, cure),
                    None => (what, "a machine has a `name`, and tags: `resource.hasTag(\"environment\")`".to_owned()),
                }),
                kind => told(
                    format!("nothing is known of a {kind} that could be called `{name}`"),
                    "ask who or what it is: `principal in Group::\"NAME\"`, or `principal == Person::\"OBJECT-ID\"`",
                ),
            };
        }
        if self.what.starts_with("unable to guarantee safety of access to optional attribute") {
            let first = self.cure.split('`').nth(1).unwrap_or_default().replace("..", "…");
            return told(format!("`{of}.{last}` may be absent"), format!("ask first whether it is there: `{first}`"));
        }
        if self.what.starts_with("unable to guarantee safety of access to tag") {
            if self.named(1) != "VM" {
                return told(format!("a {} has no tags", self.named(1)), "tags are the machine's: `resource.hasTag(\"environment\")`");
            }
            let wrong = name.trim_matches('"');
            let asked = self.rule.split("hasTag(\"").skip(1).filter_map(|rest| rest.split('"').next());
            let cure = nearest(wrong, asked.filter(|asked| *asked != wrong)).map_or_else(
                || format!("ask first whether it has one: `resource.hasTag({name}) && …`"),
                |near| format!("did you mean `{near}`, which the rule asks for?"),
            );
            return told(format!("the machine may have no tag {name}"), cure);
        }
        if self.what.contains("is of an enumerated entity type") {
            let kind = name.split("::").next().unwrap_or_default();
            let wrong = name.split('"').nth(1).unwrap_or_default();
            return unknown(format!("there is no {kind} `{wrong}`"), wrong, self.cure.split('"').skip(1).step_by(2));
        }
        if self.what.starts_with("unrecognized entity type") {
            return unknown(format!("there is no kind `{name}`"), name, KINDS);
        }
        if self.what.starts_with("unrecognized action") {
            let wrong = name.split('"').nth(1).unwrap_or_default();
            let known = Action::ALL.map(|action| format!("Action::\"{action}\""));
            let near =
                known.iter().map(String::as_str).find(|known| nearest(wrong, [known.split('"').nth(1).unwrap_or_default()]).is_some());
            return unknown(format!("there is no action `{wrong}`"), near.unwrap_or(wrong), known.iter().map(String::as_str));
        }
        if let Some(name) = self.after("invalid variable: ") {
            return Self::variable(name);
        }
        if self.what.starts_with("invalid member access") {
            return Self::variable(self.named(1));
        }
        if self.what.ends_with("is not a valid method") && ["startsWith", "endsWith", "matches"].contains(&name) {
            return told(format!("nothing has a `.{name}(…)`"), "write `like \"web-*\"`, where `*` stands for anything");
        }
        if self.what.starts_with("call to `contains` requires") {
            return told("`.contains(…)` asks for one thing", "for several write `.containsAny([…])` or `.containsAll([…])`");
        }
        if self.what.starts_with("invalid string literal") && self.before.ends_with('[') {
            return told("nothing is reached by its number", "ask a set `.contains(…)`, `.containsAny([…])` or `.containsAll([…])`");
        }
        if self.what.ends_with("is not a valid method") {
            return unknown(format!("nothing has a `.{name}(…)`"), name, METHODS);
        }
        if self.what.ends_with("is not a valid function") {
            return unknown(format!("there is no function `{name}`"), name, ["duration", "ip"]);
        }
        None
    }

    fn variable(name: &str) -> Told {
        const VARIABLES: [&str; 6] = ["principal", "action", "resource", "context", "true", "false"];
        let cure = match (name, nearest(name, VARIABLES)) {
            ("yes" | "no", _) => "write `true` or `false`".to_owned(),
            (_, Some(near)) => format!("did you mean `{near}`?"),
            (_, None) => "a text stands in quotes, what is asked for in `context`, and a group is `Group::\"NAME\"`".to_owned(),
        };
        told(format!("nothing is called `{name}` here"), cure)
    }

    /// Things of one kind where another one is needed.
    fn kinds(&self) -> Told {
        if let Some((one, other)) =
            self.after("the types ").and_then(|rest| rest.strip_suffix(" are not compatible")).and_then(|both| both.split_once(" and "))
        {
            if self.cure.contains("branches of a conditional") {
                return told(format!("this is {} or {}", kind(one), kind(other)), "both sides of `if … then … else …` must be of one kind");
            }
            // Of two sets it is what is in them that differs.
            let within = |kind: &str| kind.strip_prefix("Set<").and_then(|kind| kind.strip_suffix('>')).map(str::to_owned);
            let (one, other) = within(one).zip(within(other)).unwrap_or_else(|| (one.to_owned(), other.to_owned()));
            return told(format!("{} is never {}", kind(&one), kind(&other)), mixed(&one, &other));
        }
        let (wanted, is) = self.after("unexpected type: expected ")?.split_once(" but saw ")?;
        if wanted.contains("OpenRecord") {
            let cure = match is {
                "duration" => "compare it with a duration: `context.timeOfDay >= duration(\"7h\")`",
                _ if is.starts_with("Set<") => "ask it `.contains(…)`, `.containsAny([…])` or `.isEmpty()`",
                _ => "compare it as a whole",
            };
            return told(format!("{} has no parts that a `.` could name", kind(is)), cure);
        }
        match (wanted, is) {
            ("ipaddr", "Set<ipaddr>") => told(
                "these are several addresses, and a rule cannot go through them",
                "name the range in networks.yaml, and write `context.networks.contains(Network::\"NAME\")`",
            ),
            ("Bool", _) => told(
                format!("{} stands here, where something must be true or not", kind(is)),
                "compare it with something: `==`, `<`, `.contains(…)`",
            ),
            ("Long", "duration") if self.is_reckoned() => {
                told(DURATIONS_ADDED, "count in minutes: `context.openToday.toMinutes() + context.duration.toMinutes() <= 240`")
            }
            ("Long", "String") if self.cure.contains("concatenation") => told("a rule cannot put texts together", "write the text out"),
            ("datetime, or duration, or Long", "Severity") => told(
                NO_SEVERITY_IS_MORE,
                "name those that are meant: `[Severity::\"medium\", Severity::\"high\"].contains(context.incident.severity)`",
            ),
            _ if wanted.starts_with("Set<__cedar::internal::AnyEntity>") && is.starts_with("Set<") => told(
                format!("`in` asks for a group, and {} stands here", kind(is)),
                "ask the set: `.contains(…)`, `.containsAny([…])` or `.containsAll([…])`",
            ),
            _ if wanted.starts_with("Set<__cedar::internal::AnyEntity>") => told(
                format!("`in` asks for something such as `Group::\"NAME\"`, and {} stands here", kind(is)),
                "write what kind it is before the quotes",
            ),
            ("__cedar::internal::AnyEntity", _) => {
                told(format!("{} is in nothing", kind(is)), "ask the set: `.contains(…)`, `.containsAny([…])` or `.containsAll([…])`")
            }
            _ if wanted.starts_with("Set<") => told(
                format!("a set is needed here, and {} stands here", kind(is)),
                match is {
                    "Group" => "write `principal in Group::\"NAME\"`",
                    "String" => "ask a text with `like \"*…*\"`",
                    _ => "put it in brackets, `[…]`, or ask `.contains(…)` for one thing",
                },
            ),
            _ => told(format!("{} stands here, and {} is needed", kind(is), kind(wanted)), mixed(wanted, is)),
        }
    }

    /// Whether it is added to something, taken from it or multiplied.
    fn is_reckoned(&self) -> bool {
        self.before.ends_with(['+', '-', '*']) || self.behind.starts_with(['+', '-', '*'])
    }

    /// Whether it stands behind the number of a duration without quotes.
    fn is_in_duration(&self) -> bool {
        self.before.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with("duration(")
    }

    /// Texts, numbers and functions that are written as none can be.
    fn values(&self) -> Told {
        if let Some(said) = self.after("error during extension function argument validation: failed to parse as ") {
            let value = self.named(0).trim_matches('"');
            return match said.split(':').next().unwrap_or_default() {
                "a duration value" => told(
                    format!("`{value}` is not a duration"),
                    "write numbers, each with its unit, and nothing between them: `2h`, `1h30m`, `1d`",
                ),
                "IP address" => told(
                    format!("`{value}` is not an address or a range"),
                    "write an address such as 203.0.113.4 or a range such as 203.0.113.0/24",
                ),
                kind => told(format!("`{value}` is not {kind}"), self.cure),
            };
        }
        if self.what.starts_with("extension constructors may not") {
            return told("`duration(…)` and `ip(…)` take a text in quotes, and nothing else", "write it out, such as `duration(\"2h\")`");
        }
        if self.what.starts_with("integer parse error") || self.what.starts_with("integer literal") {
            return told("this number is too large", "write one of at most 9223372036854775807");
        }
        if self.what == "division is not supported" || self.what.starts_with("remainder/modulo") {
            return told("a rule cannot divide", "multiply the other side");
        }
        if self.what.starts_with("empty set literals") {
            return told("this set is empty, so nothing is ever in it", "say what is in it, or ask `.isEmpty()`");
        }
        if self.what.starts_with("right hand side of a `like`") {
            return told("`like` takes a pattern in quotes, and nothing else", "write it out, such as `like \"web-*\"`");
        }
        if self.what.ends_with("is not a valid escape") {
            let cure = if self.before.ends_with("like") {
                "a pattern has but `*`, which stands for anything, and `\\*` for a star itself; write `\\\\` for a backslash"
            } else {
                "write `\\\\` for a backslash"
            };
            return told(format!("`{name}` means nothing in a text", name = self.named(0)), cure);
        }
        if self.what.contains("contains mixed scripts") {
            return told(format!("{} has letters of several scripts, which may look like others", self.named(0)), "write it in one script");
        }
        if self.what.contains("contains BIDI control") {
            return told(format!("{} has marks that move what is seen after them", self.named(0)), "write it without them");
        }
        None
    }

    /// What cannot stand where it does.
    fn grammar(&self) -> Told {
        const HEAD: &str = "write `(principal, action, resource)`, in this order; whatever else must hold stands in `when { … }`";
        if self.what.starts_with("'=' is not") {
            return told("`=` compares nothing", "write `==`");
        }
        if self.what == "invalid token" {
            return match self.words {
                _ if self.cure.contains("single quotes") => told("a text stands in double quotes", "write `\"…\"`"),
                _ if self.cure.contains("closed") => told(UNENDED, "put a `\"` behind it"),
                "&" => told("`&` means nothing in a rule", "write `&&`"),
                "|" => told("`|` means nothing in a rule", "write `||`"),
                "#" => told("`#` means nothing in a rule", "a comment begins with `//`"),
                "“" | "”" | "„" | "‘" | "’" | "«" | "»" => {
                    told(format!("`{}` is no quote of a rule", self.words), "write `\"`")
                }
                words => told(format!("`{words}` means nothing in a rule"), "take it away, or put it into a text in quotes"),
            };
        }
        if self.what.starts_with("unexpected token") {
            let found = self.named(0);
            let before_it = |sign: &str| self.before.ends_with(sign);
            let cure = match found {
                "=" if before_it("==") => "take it away: `==` has two of them".to_owned(),
                ">" if before_it("<") => "write `!=`".to_owned(),
                "contains" | "containsAny" | "containsAll" => format!("write `.{found}(…)` behind the set"),
                _ if before_it("@id") || before_it("@reason") => "put the value into brackets: `@id(\"…\")`".to_owned(),
                _ if self.is_in_duration() => "a duration stands in quotes: `duration(\"2h\")`".to_owned(),
                _ => expected(found, self.cure),
            };
            return told(format!("`{found}` cannot stand here"), cure);
        }
        if self.what.starts_with("unexpected end of input") {
            return told(CUT_SHORT, expected("", self.cure));
        }
        if self.what.starts_with("multiple relational operators") {
            return told("this compares more than two things at once", "compare two at a time, with `&&` between");
        }
        if self.what.ends_with("condition clause cannot be empty") {
            return told(format!("nothing stands in this `{}`", self.named(0)), "say what must hold, or take it away");
        }
        if let Some(word) = self.after("invalid policy condition: ") {
            return told(format!("`{word}` is no part of a rule"), "write `when` or `unless`");
        }
        if let Some(word) = self.after("invalid policy effect: ") {
            return told(format!("no rule begins with `{word}`"), "write `permit` or `forbid`");
        }
        if self.what.contains("template")
            && self.what.contains("slot")
            && !self.what.starts_with("expected single")
            && !self.what.starts_with("expected an")
        {
            return told(
                "`?` stands for something that nobody fills in here",
                "write who or what is meant, such as `principal in Group::\"NAME\"`",
            );
        }
        if self.what.contains("found set of entity uids") {
            let cure = "write `action in […]`, or for others than the action `when { principal in […] }`";
            return told("one thing must stand here, and a list does", cure);
        }
        if self.what.starts_with("expected an entity uid") {
            let cure = "write its kind and, in quotes, its name: `Action::\"open\"`, `Group::\"NAME\"`";
            return told(format!("`{}` is not the name of anything", self.words), cure);
        }
        if self.what.contains("in the scope") || self.what.starts_with("found the variable") || self.what.contains("in the policy scope") {
            return told("the head of the rule cannot be read", HEAD);
        }
        if let Some(name) = self.after("duplicate annotation: ") {
            return told(format!("`{name}` is here twice"), "keep one of them");
        }
        None
    }

    /// What is said of a rule as a whole.
    fn whole(&self) -> Told {
        if self.what.starts_with("policy is impossible") {
            return told(
                "the rule never holds, whatever is asked for",
                "look for what excludes something else in it, or for a kind that never stands there",
            );
        }
        if self.what.starts_with("unable to find an applicable action") {
            let cure = if self.cure.contains("replacing `==` with `in`") {
                "write `in` in place of `==`"
            } else {
                "look at `docs/rules.md` for what goes with which action"
            };
            return told("the rule is about nothing: whom and what it names never comes with its action", cure);
        }
        None
    }
}

/// What a value of a kind is called.
fn kind(cedar: &str) -> String {
    match cedar {
        "Long" => "a number".to_owned(),
        "String" => "a text".to_owned(),
        "Bool" | "True" | "False" | "__cedar::internal::True" | "__cedar::internal::False" => "`true` or `false`".to_owned(),
        "duration" => "a duration".to_owned(),
        "ipaddr" => "an address".to_owned(),
        "Unknown" => "somebody unknown".to_owned(),
        _ if cedar.starts_with("Set<") => "a set".to_owned(),
        _ if cedar.contains(", or ") => cedar.split(", or ").map(kind).collect::<Vec<_>>().join(" or "),
        _ if cedar.starts_with('{') || cedar.contains("__cedar") => "a record".to_owned(),
        name => format!("a {name}"),
    }
}

/// How to write what is meant where things of two kinds stand.
fn mixed(one: &str, other: &str) -> String {
    let both = [one, other];
    let has = |kind: &str| both.contains(&kind);
    if both.iter().any(|kind| kind.starts_with("Set<")) {
        return "ask a set `.contains(…)` for one thing, `.containsAny([…])` or `.containsAll([…])` for several".to_owned();
    }
    if has("duration") {
        return "write a duration as `duration(\"2h\")`".to_owned();
    }
    if has("ipaddr") {
        return "write an address as `ip(\"203.0.113.4\")`".to_owned();
    }
    if has("String") && both.iter().any(|kind| ["Bool", "__cedar::internal::True", "__cedar::internal::False"].contains(kind)) {
        return "what is asked with `has` is true or not; for a tag's value write `resource.getTag(\"…\") == \"…\"`".to_owned();
    }
    match both.iter().find(|kind| KINDS.contains(kind)) {
        Some(kind) if has("String") => format!("write `{kind}::\"…\"`"),
        _ if has("Long") && has("String") => "a number stands without quotes, a text in quotes".to_owned(),
        _ => "compare things of one kind".to_owned(),
    }
}

/// What may stand at a place, told by what it stands for.
fn expected(found: &str, cure: &str) -> String {
    let listed = cure.trim_start_matches("expected ").replace(", or ", ", ").replace(" or ", ", ");
    let signs: Vec<&str> = listed.split(", ").map(|sign| sign.trim_matches('`')).collect();
    match found {
        "and" => return "write `&&`".to_owned(),
        ";" if signs.contains(&"@") => return "take it away".to_owned(),
        "/" if signs.contains(&"@") => return "a comment begins with `//`".to_owned(),
        "or" => return "write `||`".to_owned(),
        "=" => return "write `==`".to_owned(),
        ":" => return "write `::`".to_owned(),
        _ => {}
    }
    match signs.as_slice() {
        ["string literal"] => "a text in quotes must stand here".to_owned(),
        ["identifier"] if found.starts_with(|c: char| c.is_ascii_digit()) => "write a whole number".to_owned(),
        ["identifier"] => "a name must stand here".to_owned(),
        [sign] => format!("`{sign}` must stand here"),
        ["@", "identifier"] => "a rule must begin here: `@id(\"…\")`, then `permit` or `forbid`".to_owned(),
        [")", "identifier"] if found.starts_with('"') => "an annotation begins with `@`: `@id(\"…\")`".to_owned(),
        [";", "identifier"] => "a `;`, a `when` or an `unless` must stand here".to_owned(),
        [")", "identifier"] => "`principal`, `action` or `resource` must stand here".to_owned(),
        _ if signs.contains(&"&&") && signs.contains(&",") => {
            "a comma, a `&&`, a `||`, a comparison or the end of the bracket must stand here".to_owned()
        }
        _ if signs.contains(&"&&") => {
            "a `&&`, a `||`, a comparison or the end of the condition must stand here; `!` says that something is not so".to_owned()
        }
        _ if signs.contains(&"string literal") => {
            "a value must stand here: a text in quotes, a number, `true`, or a name such as `context.direct`".to_owned()
        }
        _ if signs.contains(&",") && !signs.contains(&"is") => "a comma or the end of the bracket must stand here".to_owned(),
        _ if signs.contains(&"is") => "`==`, `in`, `is`, a comma or the end of the head must stand here".to_owned(),
        _ => cure.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::shape;

    /// What becomes of something that Cedar might say of these bytes of a rule in the middle of a file.
    fn heard(what: &str, cure: Option<&str>, span: std::ops::Range<usize>) -> Mistake {
        const RULE: &str = "permit (principal, action, resource) when { \"é\" };";
        let shape = shape(RULE);
        let source = Source { file: "a.cedar", text: RULE, start: 100, shape: &shape };
        let said = Mistake { cure: cure.map(str::to_owned), ..Mistake::error("a.cedar", span, what) };
        in_our_words(said, &source)
    }

    #[test]
    fn what_is_not_known_keeps_its_words_its_cure_and_its_place() {
        for (what, cure, span) in [
            ("the moon is in the wrong phase", Some("wait for `two` days"), 108..117),
            ("", None, 145..147),
            ("the types Long", None, 100..100),
            ("unexpected type: expected", Some("expected `"), 0..5),
            ("`", Some("`"), 900..901),
        ] {
            let as_said = Mistake { cure: cure.map(str::to_owned), ..Mistake::error("a.cedar", span.clone(), what) };
            assert_eq!(heard(what, cure, span), as_said);
        }
    }

    #[test]
    fn of_what_is_cut_short_the_place_is_kept() {
        for what in [
            "attribute `",
            "attribute  in context for ",
            "attribute ` on entity type `",
            "unable to guarantee safety of access to tag ",
            "unable to guarantee safety of access to optional attribute",
            "x is of an enumerated entity type",
            "unrecognized entity type",
            "unrecognized action",
            "invalid variable: ",
            "invalid member access",
            "is not a valid method",
            "the types  and  are not compatible",
            "unexpected type: expected  but saw ",
            "error during extension function argument validation: failed to parse as ",
            "unexpected token",
        ] {
            assert_eq!(heard(what, None, 145..147).span, 145..147, "{what}");
        }
        assert_eq!(heard("invalid token", None, 145..145).span, 145..147, "the whole of a character");
    }
}
