//! Compiles the wire contract without a system `protoc`.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=votum");
    let files = ["common", "participant", "work", "coordinator", "calls", "exchange", "operator"]
        .map(|name| format!("votum/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("votum_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(true)
        .bytes(".votum.v1.RawBinary")
        // Seldom, and larger than all the others.
        .boxed(".votum.v1.Reply.kind.error")
        .boxed(".votum.v1.TransactResponse.failed")
        .boxed(".votum.v1.Vote.failed")
        .compile_fds(descriptors)?;
    Ok(())
}
