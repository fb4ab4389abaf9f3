//! Event subscriptions of a subscription's events in the older form, without a topic of their own (recorded): here they lead to
//! queues alone.

use http::StatusCode;
use serde_json::{Value, json};

use crate::state::{QueueSubscription, State};
use crate::switches::EventSchema;

use super::envelope::{Outcome, Refusal, Reply, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Path, Resource};
use super::{Request, paging};

/// Answers lists and items.
pub(super) fn serve(state: &mut State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let is_its = |known: &QueueSubscription| known.subscription.eq_ignore_ascii_case(subscription);
    let is_named = |known: &QueueSubscription| is_its(known) && known.name.eq_ignore_ascii_case(resource.name());
    match (request.call.method.as_str(), &resource.form) {
        ("GET", Form::Collection) => {
            let all: Vec<Value> = state.event_grid.queues.iter().filter(|known| is_its(known)).map(body).collect();
            paging::reply(state, request, all)
        }
        ("GET", Form::Item) => {
            let found = state.event_grid.queues.iter().find(|known| is_named(known)).map(body);
            found.map(Reply::ok).ok_or_else(|| resource_not_found(&resource.id(), resource.kind.name()))
        }
        ("PUT", Form::Item) => {
            let asked = read(state, request, subscription, resource.name())?;
            let answer = body(&asked);
            state.event_grid.queues.retain(|known| !is_named(known));
            state.event_grid.queues.push(asked);
            Ok(Reply::with(StatusCode::CREATED, answer))
        }
        ("DELETE", Form::Item) => {
            let before = state.event_grid.queues.len();
            state.event_grid.queues.retain(|known| !is_named(known));
            let was_there = state.event_grid.queues.len() < before;
            Ok(Reply::empty(if was_there { StatusCode::OK } else { StatusCode::NO_CONTENT }))
        }
        _ => Err(method_not_allowed(&request.call.method)),
    }
}

fn read(state: &State, request: &Request, subscription: &str, name: &str) -> Result<QueueSubscription, Refusal> {
    let asked: Value = request.json()?;
    let properties = &asked["properties"];
    let text = |pointer: &str| properties.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let refuse = |message: String| Err(Refusal::service(400, "InvalidRequest", message));
    let kind = text("/destination/endpointType");
    if kind != "ServiceBusQueue" {
        return refuse(format!("This Azure delivers to a ServiceBusQueue here, and not to '{kind}'."));
    }
    let schema = match text("/eventDeliverySchema").as_str() {
        "" => EventSchema::EventGrid,
        named => match EventSchema::ALL.iter().find(|schema| schema_name(**schema) == named) {
            Some(schema) => *schema,
            None => return refuse(format!("The event delivery schema '{named}' is none.")),
        },
    };
    let types = properties.pointer("/filter/includedEventTypes").and_then(Value::as_array).into_iter().flatten();
    let asked = QueueSubscription {
        name: name.to_owned(),
        subscription: subscription.to_owned(),
        queue_id: text("/destination/properties/resourceId"),
        schema,
        types: types.filter_map(Value::as_str).map(str::to_owned).collect(),
        begins_with: text("/filter/subjectBeginsWith"),
    };
    if !state.queues.contains_key(&asked.queue()) {
        return refuse(format!("The queue '{}' does not exist.", asked.queue_id));
    }
    Ok(asked)
}

fn body(known: &QueueSubscription) -> Value {
    let kind = Kind::ScopedEventSubscription.name();
    json!({
        "id": format!("/subscriptions/{}/providers/{kind}/{}", known.subscription, known.name),
        "name": known.name,
        "type": kind,
        "properties": {
            "topic": format!("/subscriptions/{}", known.subscription),
            "provisioningState": "Succeeded",
            "destination": {"endpointType": "ServiceBusQueue", "properties": {"resourceId": known.queue_id}},
            "eventDeliverySchema": schema_name(known.schema),
            "filter": {"includedEventTypes": known.types, "subjectBeginsWith": known.begins_with},
        },
    })
}

/// What an event subscription calls the schema that it has chosen.
pub(super) fn schema_name(schema: EventSchema) -> &'static str {
    match schema {
        EventSchema::EventGrid => "EventGridSchema",
        EventSchema::CloudEvents => "CloudEventSchemaV1_0",
    }
}
