//! What is measured. docs/telemetry.md says of each what it is for; none has a person or a VM for a dimension.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};

/// Something to be counted or measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure<'a> {
    /// An invocation or a request of the API is over.
    Invocation {
        /// The function.
        function: &'a str,
        /// How it ended.
        outcome: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// A call to Azure is over, all its tries together.
    Call {
        /// The service.
        service: &'a str,
        /// `2xx` and so on, or `none` where there was no answer.
        status: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// A port was proved shut.
    Shut {
        /// From when it was known that it must be shut.
        took: Duration,
    },
    /// An alarm was raised, or its cause became another.
    AlarmRaised {
        /// The code of its cause.
        code: &'a str,
    },
    /// An alarm was cleared.
    AlarmCleared {
        /// The code of its cause.
        code: &'a str,
    },
    /// Rows were taken by Microsoft Sentinel.
    Rows(usize),
    /// A subscription was swept.
    Swept {
        /// The VMs that its lists show.
        vms: usize,
        /// How many of them were sent for.
        looks: usize,
    },
    /// Telemetry was lost.
    Lost {
        /// Why.
        why: &'a str,
        /// How many items.
        items: u64,
    },
}

/// The instruments, and who reads them.
pub(super) struct Metrics {
    invocations: Histogram<f64>,
    calls: Histogram<f64>,
    shut: Histogram<f64>,
    alarms: Counter<u64>,
    rows: Counter<u64>,
    vms: Counter<u64>,
    looks: Counter<u64>,
    lost: Counter<u64>,
    reader: Reader,
    /// Reading ends with it.
    _provider: SdkMeterProvider,
}

impl Metrics {
    pub fn new(resource: Resource) -> Self {
        let reader = Reader(Arc::new(ManualReader::builder().with_temporality(Temporality::Delta).build()));
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone()).build();
        let meter = provider.meter("portcullis");
        Metrics {
            invocations: seconds(&meter, "portcullis.invocations", "Invocations and requests of the API: how many, and their seconds."),
            calls: seconds(&meter, "portcullis.calls", "Calls to Azure: how many, and their seconds."),
            shut: seconds(&meter, "portcullis.shut", "Ports proved shut: how many, and the seconds since it was known that they must be."),
            alarms: count(&meter, "portcullis.alarms", "Alarms raised and cleared."),
            rows: count(&meter, "portcullis.rows", "Rows that Microsoft Sentinel took."),
            vms: count(&meter, "portcullis.sweep.vms", "VMs that sweeps saw."),
            looks: count(&meter, "portcullis.sweep.looks", "VMs that sweeps had looked at."),
            lost: count(&meter, "portcullis.telemetry.lost", "Items of telemetry that were not taken."),
            reader,
            _provider: provider,
        }
    }

    pub fn measure(&self, measure: Measure<'_>) {
        let of = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        match measure {
            Measure::Invocation { function, outcome, took } => {
                self.invocations.record(took.as_secs_f64(), &[of("function", function), of("outcome", outcome)]);
            }
            Measure::Call { service, status, took } => {
                self.calls.record(took.as_secs_f64(), &[of("service", service), of("status", status)]);
            }
            Measure::Shut { took } => self.shut.record(took.as_secs_f64(), &[]),
            Measure::AlarmRaised { code } => self.alarms.add(1, &[of("code", code), of("change", "raised")]),
            Measure::AlarmCleared { code } => self.alarms.add(1, &[of("code", code), of("change", "cleared")]),
            Measure::Rows(rows) => self.rows.add(count_of(rows), &[]),
            Measure::Swept { vms, looks } => {
                self.vms.add(count_of(vms), &[]);
                self.looks.add(count_of(looks), &[]);
            }
            Measure::Lost { why, items } => self.lost.add(items, &[of("why", why)]),
        }
    }

    /// What was measured since this was last asked.
    pub fn take(&self) -> Option<ResourceMetrics> {
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics).ok().map(|()| metrics)
    }
}

fn count_of(many: usize) -> u64 {
    u64::try_from(many).unwrap_or(u64::MAX)
}

/// Without boundaries: Application Insights keeps count, sum, least and most of a histogram.
fn seconds(meter: &Meter, name: &'static str, what: &'static str) -> Histogram<f64> {
    meter.f64_histogram(name).with_unit("s").with_description(what).with_boundaries(Vec::new()).build()
}

fn count(meter: &Meter, name: &'static str, what: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_unit("1").with_description(what).build()
}

/// A reader that is asked when there is something to send; the SDK's own has a thread for it.
#[derive(Clone, Debug)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
