//! The system topic of a subscription, and the event subscription of it that leads to the product: there, or not, as the world's
//! state says. They can be read.

use http::Method;
use serde_json::{Value, json};

use crate::eventgrid::FUNCTION;
use crate::state::State;
use crate::switches::EventSchema;

use super::envelope::{Outcome, Reply, method_not_allowed, resource_not_found};
use super::event_subscriptions::schema_name;
use super::path::{Form, Kind, Path, Resource, last};
use super::subscriptions::find;
use super::{Request, paging};

/// The resource group of topics, which holds nothing else.
const GROUP: &str = "portcullis-events";
/// The topic, one for each subscription.
const TOPIC: &str = "portcullis-events";
/// The name of the function app, and of the event subscription that leads to it.
const APP: &str = "portcullis";

/// Whether the topic of a subscription lies in this group.
pub(super) fn are_in(state: &State, subscription: &str, group: &str) -> bool {
    group.eq_ignore_ascii_case(GROUP) && find(state, subscription).is_some_and(|known| known.events)
}

/// Answers lists and items.
pub(super) fn serve(state: &State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let there = find(state, subscription).is_some_and(|known| known.events);
    let all: Vec<Value> = if there { vec![body(subscription, resource.kind, state.switches.event_schema)] } else { Vec::new() };
    match resource.form {
        Form::Collection => paging::reply(state, request, all),
        Form::Item | Form::Action(_) => {
            let named = |body: &Value| body["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(last(&path.whole)));
            let found = all.into_iter().find(named);
            found.map(Reply::ok).ok_or_else(|| resource_not_found(&resource.id(), resource.kind.name()))
        }
    }
}

fn body(subscription: &str, kind: Kind, schema: EventSchema) -> Value {
    let id = format!("/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.EventGrid/systemTopics/{TOPIC}");
    match kind {
        Kind::EventSubscription => json!({
            "id": format!("{id}/eventSubscriptions/{APP}"),
            "name": APP,
            "type": Kind::EventSubscription.name(),
            "properties": {
                "topic": format!("/subscriptions/{subscription}"),
                "provisioningState": "Succeeded",
                "destination": {
                    "endpointType": "AzureFunction",
                    "properties": {
                        "resourceId": format!(
                            "/subscriptions/{subscription}/resourceGroups/rg-{APP}/providers/Microsoft.Web/sites/{APP}/functions/{FUNCTION}"
                        ),
                        "maxEventsPerBatch": 1,
                    },
                },
                "eventDeliverySchema": schema_name(schema),
                "filter": {"includedEventTypes": [
                    "Microsoft.Resources.ResourceActionSuccess",
                    "Microsoft.Resources.ResourceWriteSuccess",
                    "Microsoft.Resources.ResourceDeleteSuccess",
                ]},
            },
        }),
        _ => json!({
            "id": id,
            "name": TOPIC,
            "type": Kind::SystemTopic.name(),
            "location": "global",
            "properties": {
                "provisioningState": "Succeeded",
                "source": format!("/subscriptions/{subscription}"),
                "topicType": "Microsoft.Resources.Subscriptions",
            },
        }),
    }
}
