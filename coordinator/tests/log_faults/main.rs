//! The log on a disk that fails, fills and hangs, with the kernel's own errors; and a log of which the disk
//! gave back something else than was written. Each time it is served correctly, or refused with file, place
//! and remedy; never another history.
//!
//! A few cases of each kind run with every test; all of them with `VOTUM_MATRIX=full` (`make matrix`).

#![cfg(test)] // clippy then lets helpers fail as tests do

mod child;
mod damage;
mod full_disk;
mod kernel_errors;
mod place;
mod tracer;

/// Whether every case is to be tried, not a few of each kind.
fn full() -> bool {
    std::env::var_os("VOTUM_MATRIX").is_some_and(|value| value == "full")
}
