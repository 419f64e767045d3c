//! The page that a scrape gets.

use std::sync::Arc;
use std::time::Duration;

use votum_proto::runtime::Clock;
use votum_proto::service::metrics::Page;

use super::Metrics;
use crate::driver::request::{DriverHandle, Request};

/// How long the driver may take to say how it stands. It answers between two turns.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes pages of `metrics`, with gauges as `driver` has them. A scrape is one request to the driver, behind
/// those that wait already.
pub fn page(metrics: Metrics, driver: DriverHandle, clock: Arc<dyn Clock>) -> Page {
    let metrics = Arc::new(metrics);
    Arc::new(move || {
        let (metrics, driver, clock) = (Arc::clone(&metrics), driver.clone(), Arc::clone(&clock));
        Box::pin(async move {
            match clock.timeout(PATIENCE, driver.ask(Request::Status)).await {
                Ok(Ok(status)) => metrics.page(&status),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the driver has not answered within {} s", PATIENCE.as_secs())),
            }
        })
    })
}
