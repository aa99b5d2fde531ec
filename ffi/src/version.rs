use std::ffi::{CStr, c_char};

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The version of the library that is loaded, such as `0.1.0`. It lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn dunnage_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the library's binary interface: the number in its soname. A program that was compiled with a header of
/// the same DUNNAGE_ABI_VERSION may use it.
#[unsafe(no_mangle)]
pub extern "C" fn dunnage_abi_version() -> u32 {
    env!("CARGO_PKG_VERSION_MAJOR").parse().unwrap_or(0)
}
