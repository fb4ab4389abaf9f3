//! Every setting of every switch.

use portcullis_sandbox::switches::*;

/// Every setting of every switch, each apart from the usual world. A switch that is not named here does not compile:
/// names and settings are one list.
macro_rules! every_setting {
    ($($switch:ident: $settings:expr),+ $(,)?) => {
        /// Each switch, its setting in words, and the usual world but for it.
        pub fn settings() -> Vec<(&'static str, String, Switches)> {
            let Switches { $($switch: _),+ } = Switches::default();
            let mut rows = Vec::new();
            $(for setting in $settings {
                rows.push((stringify!($switch), format!("{} = {setting:?}", stringify!($switch)), Switches { $switch: setting.to_owned(), ..Switches::default() }));
            })+
            rows
        }
    };
}

every_setting! {
    newer_initiate: NewerInitiate::ALL,
    deleted_rule_returns: Returns::ALL,
    put_closes_records: [false, true],
    source_must: SourceMust::ALL,
    plural_sources: [false, true],
    smallest_end_seconds: [0, 300],
    rules_land: RulesLand::ALL,
    requestor: Requestor::ALL,
    plan_off_refuses: PlanOffRefuses::ALL,
    subscription_parents: SubscriptionParents::ALL,
    incident_entities: IncidentEntities::ALL,
    event_resource: EventResource::ALL,
    initiating_seconds: [0, 12, 120],
    expiry_delay_seconds: [0, 30, 600],
    record_of_deleted_rule: RecordOfDeletedRule::ALL,
    letter_case: LetterCase::ALL,
    rule_names: RuleNames::ALL,
    delete_answers: DeleteAnswers::ALL,
    operation_seconds: [0, 4, 60],
    busy_nsg: BusyNsg::ALL,
    nsg_if_match: NsgIfMatch::ALL,
    activity_log_seconds: [0, 300, 3600],
    events: Events::ALL,
    event_schema: EventSchema::ALL,
    messages: Messages::ALL,
    page_size: [0, 1],
    logs_unpacked_counts: [false, true],
}
