//! Tests on real PostgreSQL servers and real processes, and the demo.
