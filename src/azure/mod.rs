//! Clients of what the app calls: one file a service, over one HTTP client and one pipeline for each audience.
//!
//! They are concrete over endpoint and credential. Nothing is called, and nothing slow is loaded, until the first
//! request that needs it.

pub mod activity_log;
pub mod arm;
pub mod authorization;
pub mod blob;
mod channel;
pub mod compute;
pub mod entra;
pub mod error;
pub mod event_grid;
pub mod graph;
pub mod identity;
pub mod incidents;
pub mod insights;
pub mod jit;
pub mod logs;
pub mod management_groups;
pub mod network;
pub mod packed;
pub mod plans;
pub mod servicebus;
pub mod subscriptions;
mod transport;
mod watched;

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::http::Transport;
use chrono::{DateTime, Utc};

use self::activity_log::ActivityLog;
use self::arm::Arm;
use self::authorization::Authorization;
use self::blob::Blobs;
pub use self::channel::Answer;
use self::channel::Channel;
pub(crate) use self::channel::MOST_AT_ONCE;
use self::compute::Compute;
use self::entra::Entra;
pub use self::error::{CallFailed, FailureKind, Service};
use self::event_grid::EventGrid;
use self::graph::Graph;
use self::identity::{Identity, OwnObjectId};
use self::incidents::Incidents;
use self::insights::Insights;
use self::jit::Jit;
use self::logs::Logs;
use self::management_groups::ManagementGroups;
use self::network::Network;
use self::plans::Plans;
use self::servicebus::Bus;
use self::subscriptions::Subscriptions;
use self::transport::SharedClient;
pub use self::watched::APPROVALS;
use crate::settings::{Cloud, Settings};
use crate::telemetry::Telemetry;

/// All clients. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Azure {
    /// Azure Resource Manager itself.
    pub arm: Arm,
    /// Just-in-time network access.
    pub jit: Jit,
    /// Virtual machines.
    pub compute: Compute,
    /// Network interfaces, subnets, security groups and their rules.
    pub network: Network,
    /// The activity log.
    pub activity_log: ActivityLog,
    /// Subscriptions.
    pub subscriptions: Subscriptions,
    /// Management groups.
    pub management_groups: ManagementGroups,
    /// The store.
    pub blobs: Blobs,
    /// The queues.
    pub bus: Bus,
    /// Rows to Microsoft Sentinel.
    pub logs: Logs,
    /// People and their groups.
    pub graph: Graph,
    /// The keys that callers' tokens are signed with.
    pub entra: Entra,
    /// Who may do what.
    pub authorization: Authorization,
    /// Plans of Defender for Cloud.
    pub plans: Plans,
    /// Incidents of Microsoft Sentinel; nothing where no workspace is connected.
    pub incidents: Option<Incidents>,
    /// Where events are sent.
    pub event_grid: EventGrid,
    /// Who the app is.
    pub own: OwnObjectId,
    /// What is told of all this.
    pub telemetry: Telemetry,
}

impl Azure {
    /// Makes all clients; calls nothing.
    pub fn new(settings: &Settings) -> Self {
        let transport = Transport::new(Arc::new(SharedClient::default()));
        let telemetry = telemetry(settings, &transport);
        let own = OwnObjectId::default();
        let credential: Arc<dyn TokenCredential> = Arc::new(Identity::new(settings, settings.client_id, transport.clone(), own.clone()));
        let channel = |service| {
            let channel = match scope(service, settings.cloud) {
                Some(scope) => Channel::new(service, scope, credential.clone(), transport.clone()),
                None => Channel::anonymous(service, transport.clone()),
            };
            channel.watched_by(&telemetry)
        };
        let arm = Arm::new(channel(Service::Arm), settings.arm_endpoint.clone());
        Azure {
            jit: Jit::new(arm.clone()),
            compute: Compute::new(arm.clone()),
            network: Network::new(arm.clone()),
            activity_log: ActivityLog::new(arm.clone()),
            subscriptions: Subscriptions::new(arm.clone()),
            management_groups: ManagementGroups::new(arm.clone()),
            authorization: Authorization::new(arm.clone()),
            plans: Plans::new(arm.clone()),
            incidents: settings.sentinel_workspace.clone().map(|workspace| Incidents::new(arm.clone(), workspace)),
            event_grid: EventGrid::new(arm.clone()),
            arm,
            blobs: Blobs::new(channel(Service::Blob), settings.blob_endpoint.clone()),
            bus: Bus::new(
                channel(Service::ServiceBus),
                Channel::anonymous(Service::ServiceBus, transport.clone()).watched_by(&telemetry),
                settings.service_bus_endpoint.clone(),
            ),
            logs: Logs::new(channel(Service::Logs), &settings.logs_endpoint, &settings.logs_rule_id, &settings.logs_stream),
            graph: Graph::new(channel(Service::Graph), settings.graph_endpoint.clone()),
            entra: Entra::new(channel(Service::Entra), settings.login_endpoint.clone(), settings.tenant_id, settings.cloud),
            own,
            telemetry,
        }
    }

    /// The time by a service other than the store, for when the store does not answer; the instance's own clock is
    /// used for nothing.
    pub async fn service_time(&self) -> Result<DateTime<Utc>, CallFailed> {
        self.bus.clock().await
    }
}

/// Telemetry, where the settings name an endpoint for it. Its way there is watched by nobody, or every export would bring
/// another; and it signs in by itself, since a sign-in that fails is not tried again for a moment by whoever shares it.
fn telemetry(settings: &Settings, transport: &Transport) -> Telemetry {
    let Some(insights) = &settings.insights else { return Telemetry::default() };
    let service = Service::Insights;
    let channel = match (&insights.identity, scope(service, settings.cloud)) {
        (Some(identity), Some(scope)) => {
            let identity = Identity::new(settings, identity.client_id, transport.clone(), OwnObjectId::default());
            Channel::new(service, scope, Arc::new(identity), transport.clone())
        }
        _ => Channel::anonymous(service, transport.clone()),
    };
    Telemetry::new(insights, &settings.app_name, Arc::new(Insights::new(channel, &insights.endpoint)))
}

/// The scope that a token is asked for (documentation), if one is needed; Service Bus and storage have one for all
/// clouds.
fn scope(service: Service, cloud: Cloud) -> Option<&'static str> {
    match (service, cloud) {
        (Service::Arm, Cloud::Public) => Some("https://management.azure.com/.default"),
        (Service::Arm, Cloud::UsGovernment) => Some("https://management.usgovcloudapi.net/.default"),
        (Service::Blob, _) => Some("https://storage.azure.com/.default"),
        (Service::ServiceBus, _) => Some("https://servicebus.azure.net/.default"),
        (Service::Logs | Service::Insights, Cloud::Public) => Some("https://monitor.azure.com/.default"),
        (Service::Logs | Service::Insights, Cloud::UsGovernment) => Some("https://monitor.azure.us/.default"),
        (Service::Graph, Cloud::Public) => Some("https://graph.microsoft.com/.default"),
        (Service::Graph, Cloud::UsGovernment) => Some("https://graph.microsoft.us/.default"),
        (Service::Entra, _) => None,
    }
}
