//! The switches: each names something about Azure that nobody outside Microsoft knows, and the settings under
//! which the product must end proved shut or with an alarm standing.

use serde::{Deserialize, Serialize};

use crate::bounds;

/// How the world behaves where the real Azure's behaviour is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Switches {
    /// What a newer initiate for the same VM and port does to an older one with another source.
    pub newer_initiate: NewerInitiate,
    /// Whether an allow rule that somebody deleted comes back.
    pub deleted_rule_returns: Returns,
    /// Whether a PUT of a policy closes the records that were open.
    pub put_closes_records: bool,
    /// What the source of an initiate must be to the policy's.
    pub source_must: SourceMust,
    /// Whether an initiate with `allowedSourceAddressPrefixes` is accepted.
    pub plural_sources: bool,
    /// The shortest time from now to `endTimeUtc` that is accepted, in seconds.
    #[serde(deserialize_with = "bounds::smallest_end_seconds")]
    pub smallest_end_seconds: i64,
    /// Where rules land when the VM's NIC and its subnet both have an NSG.
    pub rules_land: RulesLand,
    /// Whether `requestor` holds the caller's UPN.
    pub requestor: Requestor,
    /// Which calls of JIT are refused where Defender for Servers Plan 2 is off.
    pub plan_off_refuses: PlanOffRefuses,
    /// Whether an identity that may read a subscription is told the management groups above it.
    pub subscription_parents: SubscriptionParents,
    /// Which right it takes to read what an incident of Microsoft Sentinel names.
    pub incident_entities: IncidentEntities,
    /// The resource that the event of an initiate names.
    pub event_resource: EventResource,
    /// Seconds that a record spends in `Initiating` before its rule is there (0 to 120).
    #[serde(deserialize_with = "bounds::initiating_seconds")]
    pub initiating_seconds: i64,
    /// Seconds after a record's end until its rule goes.
    #[serde(deserialize_with = "bounds::expiry_delay_seconds")]
    pub expiry_delay_seconds: i64,
    /// What a record becomes when its rule was deleted by hand.
    pub record_of_deleted_rule: RecordOfDeletedRule,
    /// The letter case of ids in answers and events.
    pub letter_case: LetterCase,
    /// Which generation of names JIT gives its rules.
    pub rule_names: RuleNames,
    /// What a delete of a security rule answers.
    pub delete_answers: DeleteAnswers,
    /// Seconds that a write of the network provider takes.
    #[serde(deserialize_with = "bounds::operation_seconds")]
    pub operation_seconds: i64,
    /// How a second write to an NSG that is `Updating` is refused.
    pub busy_nsg: BusyNsg,
    /// What a write of an NSG or of its rules makes of `If-Match`.
    pub nsg_if_match: NsgIfMatch,
    /// Seconds from an action to its visibility in the activity log.
    #[serde(deserialize_with = "bounds::activity_log_seconds")]
    pub activity_log_seconds: i64,
    /// How events arrive.
    pub events: Events,
    /// The schema of events.
    pub event_schema: EventSchema,
    /// How the messages of a queue are delivered.
    pub messages: Messages,
    /// Resources on a page of a list; 0 is all.
    #[serde(deserialize_with = "bounds::page_size")]
    pub page_size: usize,
    /// Whether the ingestion endpoint holds its limit of 1 MB against what a packed body unpacks to, too: the
    /// documentation says so, and gateways were reported to look at the packed size alone.
    pub logs_unpacked_counts: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Switches {
            newer_initiate: NewerInitiate::Replaces,
            deleted_rule_returns: Returns::Never,
            put_closes_records: false,
            source_must: SourceMust::LieInside,
            plural_sources: true,
            smallest_end_seconds: 0,
            rules_land: RulesLand::Both,
            requestor: Requestor::Filled,
            plan_off_refuses: PlanOffRefuses::Everything,
            subscription_parents: SubscriptionParents::Shown,
            incident_entities: IncidentEntities::ReadRight,
            event_resource: EventResource::Policy,
            initiating_seconds: 12,
            expiry_delay_seconds: 30,
            record_of_deleted_rule: RecordOfDeletedRule::StaysInitiated,
            letter_case: LetterCase::AsGiven,
            rule_names: RuleNames::MicrosoftDefenderForCloud,
            delete_answers: DeleteAnswers::Accepted,
            operation_seconds: 4,
            busy_nsg: BusyNsg::RetryableError,
            nsg_if_match: NsgIfMatch::Honoured,
            activity_log_seconds: 300,
            events: Events::InOrder,
            event_schema: EventSchema::EventGrid,
            messages: Messages::Once,
            page_size: 0,
            logs_unpacked_counts: true,
        }
    }
}

macro_rules! switch {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every setting of this switch.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
        }
    };
}

switch! {
    /// What a newer initiate does to an older one.
    NewerInitiate {
        /// The older rule goes and its record becomes `Revoked`, `NewerRequestInitiated`.
        Replaces,
        /// Both rules stay.
        Adds,
    }
}
switch! {
    /// Whether a deleted allow rule comes back.
    Returns {
        /// It stays away.
        Never,
        /// It is written again once, seconds later.
        Once,
        /// It is written again each time, seconds later, until its record's end.
        Always,
    }
}
switch! {
    /// What the source of an initiate must be to the policy's allowed source.
    SourceMust {
        /// The same prefix.
        Equal,
        /// Anything inside it.
        LieInside,
    }
}
switch! {
    /// Where rules land with two NSGs.
    RulesLand {
        /// In the NIC's.
        Nic,
        /// In the subnet's.
        Subnet,
        /// In both.
        Both,
    }
}
switch! {
    /// What `requestor` holds.
    Requestor {
        /// The caller's UPN, or the empty string for an application.
        Filled,
        /// Always the empty string.
        Empty,
    }
}
switch! {
    /// Whether whoever sees a subscription is told the management groups above it.
    SubscriptionParents {
        /// It is, without a right on them.
        Shown,
        /// It gets the subscription without its parents.
        Withheld,
        /// It needs `Microsoft.Management/getEntities/action` at the root, and is refused without.
        Refused,
    }
}
switch! {
    /// Which calls of JIT are refused where Defender for Servers Plan 2 is off: that it refuses is known, of which calls is
    /// not.
    PlanOffRefuses {
        /// All, reads of policies too.
        Everything,
        /// Writes of policies and initiates; policies can be read.
        Writes,
    }
}
switch! {
    /// The right to read what an incident names: the provider's list of operations has none of its own.
    IncidentEntities {
        /// That to read the incident.
        ReadRight,
        /// `Microsoft.SecurityInsights/incidents/entities/action`, as ARM names rights by default.
        OwnAction,
    }
}
switch! {
    /// The resource of the event of an initiate.
    EventResource {
        /// The JIT policy.
        Policy,
        /// The VM.
        Vm,
        /// One event for each.
        Both,
    }
}
switch! {
    /// What a record becomes when its rule was deleted by hand.
    RecordOfDeletedRule {
        /// It stays `Initiated` until its end, as people have reported.
        StaysInitiated,
        /// It becomes `Revoked`, `UserRequested`.
        Revoked,
        /// It disappears.
        Disappears,
    }
}
switch! {
    /// The letter case of ids in answers and events.
    LetterCase {
        /// As they were given.
        AsGiven,
        /// All upper case but for the GUIDs.
        Upper,
        /// All lower case.
        Lower,
    }
}
switch! {
    /// The generation of JIT's rule names.
    RuleNames {
        /// `SecurityCenter-JITRule…`, before May 2023.
        SecurityCenter,
        /// `MicrosoftDefenderForCloud-JITRule…`.
        MicrosoftDefenderForCloud,
    }
}
switch! {
    /// What a delete of a security rule answers.
    DeleteAnswers {
        /// 200 with the effect done.
        Done,
        /// 202 with `Azure-AsyncOperation` and `Location`; the effect comes later.
        Accepted,
    }
}
switch! {
    /// How a write to an NSG that is being written is refused.
    BusyNsg {
        /// 429 `RetryableError` with `RetryableErrorDueToAnotherOperation`.
        RetryableError,
        /// 409 `AnotherOperationInProgress`.
        Conflict,
    }
}
switch! {
    /// What the network provider makes of `If-Match`.
    NsgIfMatch {
        /// 412 where it does not hold, as for public addresses.
        Honoured,
        /// Nothing: the write goes through.
        Ignored,
    }
}
switch! {
    /// How events arrive.
    Events {
        /// At once and in order.
        InOrder,
        /// Ten minutes late.
        Late,
        /// Twice.
        Doubled,
        /// The later of two first.
        Reordered,
        /// Never.
        Never,
    }
}
switch! {
    /// The schema of delivered events.
    EventSchema {
        /// Event Grid's own.
        EventGrid,
        /// CloudEvents 1.0.
        CloudEvents,
    }
}
switch! {
    /// How the messages of a queue are delivered: Service Bus promises at least once, and nobody knows how often it is more.
    Messages {
        /// Once, unless an invocation fails.
        Once,
        /// Again after the first invocation has ended well, as when its completion was lost.
        Again,
        /// Twice at once, as when its lock was lost while the first invocation was under way.
        TwiceAtOnce,
    }
}
