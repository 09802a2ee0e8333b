//! Compiles the interface's definition by protox, so that no protoc is needed.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/runtime.proto");
    let descriptors = protox::compile(["runtime.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(
        out.join("runtime.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    // Requests are kept on disk, and shown to who asks for details.
    tonic_prost_build::configure()
        .message_attribute(
            ".",
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
