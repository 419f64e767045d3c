//! What an application uses to run distributed transactions.
