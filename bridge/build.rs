//! Generates the wire types of both protocols.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/bridge.proto", "proto/dunnage_bridge_v1.proto"];
    for proto in protos {
        println!("cargo::rerun-if-changed={proto}");
    }
    // Payloads are `Bytes`: a received chunk is a slice of the receive buffer, never copied again.
    tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_protos(&protos, &["proto"])?;
    Ok(())
}
