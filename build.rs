//! Gives the shared library its soname: without one, programs that link it would
//! depend on whatever file name they happened to be built against.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets this");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libframefd.so.{major}");
}
