//! Health as `grpc.health.v1` tells it.
//!
//! The process as a whole (service "") and `votum.v1.Operator` are serving once the driver answers;
//! `votum.v1.Coordinator` once it takes new transactions, which it does not while the log is being counted.

use std::time::Duration;

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use votum_proto::runtime::{Backoff, Seams};
use votum_proto::service::shutdown::Shutdown;
use votum_proto::v1::coordinator_server::CoordinatorServer;
use votum_proto::v1::operator_server::OperatorServer;

use super::coordinator::CoordinatorService;
use super::operator::OperatorService;
use crate::driver::request::{DriverHandle, Request};

/// How often the driver is asked, until it takes new transactions: seldom, where it does not for long.
const FIRST_POLL: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_secs(1);
/// The driver's word for a log that was counted.
const READY: &str = "ready";

const COORDINATOR: &str = <CoordinatorServer<CoordinatorService> as NamedService>::NAME;
const OPERATOR: &str = <OperatorServer<OperatorService> as NamedService>::NAME;
const PROCESS: &str = "";

/// A reporter by which nothing is serving yet.
pub async fn reporter() -> HealthReporter {
    let reporter = HealthReporter::new();
    not_serving(&reporter).await;
    reporter
}

/// Nothing is serving any more.
pub async fn not_serving(reporter: &HealthReporter) {
    for service in [PROCESS, OPERATOR, COORDINATOR] {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
}

/// Reports each service as serving when it is; returns when all are, or the process is told to stop.
pub async fn watch(reporter: HealthReporter, driver: DriverHandle, shutdown: Shutdown, seams: Seams) {
    let mut answers = false;
    let mut pause = Backoff::new(FIRST_POLL, SELDOM);
    while let Ok(status) = driver.ask(Request::Status).await {
        if shutdown.is_requested() {
            return;
        }
        if !answers {
            reporter.set_service_status(PROCESS, ServingStatus::Serving).await;
            reporter.set_service_status(OPERATOR, ServingStatus::Serving).await;
            answers = true;
        }
        if status.log_state == READY {
            reporter.set_service_status(COORDINATOR, ServingStatus::Serving).await;
            return;
        }
        seams.clock.sleep(pause.delay(&*seams.entropy)).await;
    }
}
