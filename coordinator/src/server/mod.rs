//! gRPC in: translates what clients and operators ask into requests to the driver, and its answers back.
//! Holds no state of transactions.

pub mod coordinator;
pub mod errors;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
pub mod operator;
pub mod outcome;
#[cfg(test)]
mod tests;
pub mod translate;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use votum_proto::calls::{CallsService, FRAME_MARGIN, MAX_REQUEST};
use votum_proto::service::listen::Listening;
use votum_proto::v1;
use votum_proto::v1::calls_server::CallsServer;
use votum_proto::v1::coordinator_server::CoordinatorServer;
use votum_proto::v1::operator_server::OperatorServer;

use self::coordinator::CoordinatorService;
use self::operator::OperatorService;
use crate::config::Config;
use crate::driver::request::DriverHandle;

/// The most requests that one connection may have open. A Commit is open until it is decided, and clients
/// share connections: the HTTP library's default of 200 would make the others wait behind undecided ones.
const MAX_STREAMS: u32 = 16_384;
/// How often a client that says nothing is asked whether it is still there, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Serves `listening` until `stop` resolves and every open request is answered. What `health` is told, health
/// checks are.
///
/// # Errors
/// When the HTTP server cannot go on.
pub fn serve<Stop: Future<Output = ()> + Send>(
    listening: Listening,
    driver: DriverHandle,
    config: &Config,
    health: HealthReporter,
    stop: Stop,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<Stop> {
    let coordinator = Arc::new(CoordinatorService::new(driver.clone(), config));
    let (stopping, told) = watch::channel(false);
    let calls = CallsServer::new(CallsService::new(Arc::clone(&coordinator), told))
        .max_decoding_message_size(MAX_REQUEST + FRAME_MARGIN);
    let services = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_optional_service(reflection())
        .add_service(CoordinatorServer::from_arc(coordinator))
        .add_service(calls)
        .add_service(OperatorServer::new(OperatorService::new(driver)));
    services.serve_with_incoming_shutdown(listening, async move {
        stop.await;
        stopping.send_replace(true);
    })
}

/// Serves operators alone on `listening` until `stop` resolves and every open request is answered: where
/// applications reach the coordinator without a network.
///
/// # Errors
/// When the HTTP server cannot go on.
pub fn serve_operators<Stop: Future<Output = ()> + Send>(
    listening: Listening,
    driver: DriverHandle,
    stop: Stop,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<Stop> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_optional_service(reflection())
        .add_service(OperatorServer::new(OperatorService::new(driver)))
        .serve_with_incoming_shutdown(listening, stop)
}

/// Tools such as grpcurl ask for the contract; a server that cannot tell it serves all the same.
fn reflection() -> Option<ServerReflectionServer<impl ServerReflection>> {
    let built = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    built.inspect_err(|error| tracing::error!(%error, "gRPC reflection is not served")).ok()
}
