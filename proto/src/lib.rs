//! The contract that every part of Votum shares: the wire messages ([`v1`]), the names they carry
//! ([`names`]), the exchange between coordinator and agent ([`exchange`]), many calls of a client over one
//! stream ([`calls`]), the secrets that clients show ([`secret`]), errors as they cross the wire ([`error`]),
//! addresses ([`address`]) and the seams through which time, randomness and tasks enter ([`runtime`]), the
//! deliberate mistakes that the proofs must catch ([`canary`]); and, with the feature `service`, what the
//! server processes do alike (`service`).

pub mod address;
pub mod calls;
pub mod canary;
pub mod crash;
pub mod error;
pub mod exchange;
pub mod names;
pub mod pace;
pub mod runtime;
pub mod secret;
#[cfg(feature = "service")]
pub mod service;

/// The generated messages, clients and servers of package `votum.v1`. The `.proto` files beside this crate
/// document every field.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("votum.v1");

    /// The compiled descriptors of this package, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/votum_descriptor.bin"));
}
