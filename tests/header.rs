//! include/framefd.h is what src/ffi says: regenerated here, compared, and with
//! `FRAMEFD_WRITE_HEADER=1` written.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/framefd.h");
    let mut header = Vec::new();
    let config = cbindgen::Config::from_root_or_default(root);
    let mut builder = cbindgen::Builder::new().with_config(config);
    let sources = [
        "codes",
        "boundary/options",
        "frame/raw",
        "frame/reader",
        "frame/writer",
        "frame/decoder",
        "frame/builder",
        "frame/reply",
        "auth",
        "exec/calls",
        "exec/stream",
        "file/transfer",
        "file/query",
        "file/tree",
        "datagram",
    ];
    for source in sources {
        builder = builder.with_src(root.join("src/ffi").join(format!("{source}.rs")));
    }
    builder.generate().expect("cbindgen reads src/ffi").write(&mut header);
    if std::env::var_os("FRAMEFD_WRITE_HEADER").is_some() {
        std::fs::write(&path, header).expect("include/framefd.h can be written");
        return;
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(committed == header, "include/framefd.h is out of date; to fix it: make header");
}
