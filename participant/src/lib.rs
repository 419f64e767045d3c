//! The agent beside a PostgreSQL database.
