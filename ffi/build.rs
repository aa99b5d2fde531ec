//! Gives the shared library its soname, the number of the binary interface, which is the major version; and lets it export
//! nothing but that interface.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_else(|_| "0".to_owned());
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdunnage.so.{major}");
    // Some crates below have a C interface of their own; it is nobody's business here.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}
