//! What must hold of statements, requests and orders that anybody may send. Fuzz targets call these, and so
//! does a bounded run with every test; in a build for use they are not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a failure is what is looked for

mod requests;
mod statements;
mod world;

pub use self::requests::{examples as requests, execute, frames, orders};
pub use self::statements::{examples as statements, statement};

#[cfg(test)]
mod tests {
    use crate::bounded::run;

    #[test]
    fn no_statement_that_controls_transactions_passes_and_no_other_is_refused() {
        run("statement", 100_000, super::statements(), super::statement);
    }

    #[test]
    fn any_request_is_refused_in_words_or_run_once() {
        run("execute", 10_000, super::requests(), super::execute);
    }

    #[test]
    fn any_frame_of_a_coordinator_does_what_it_orders_and_no_more() {
        run("coordinator_frame", 5_000, super::frames(), super::orders);
    }
}
