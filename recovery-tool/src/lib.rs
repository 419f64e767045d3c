//! The operator's tool: see and settle what is in doubt.
