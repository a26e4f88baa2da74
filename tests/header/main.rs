//! include/framefd.h is what src/ffi and src/error.rs say: made here, compared, and with
//! `FRAMEFD_WRITE_HEADER=1` written. sections.rs says what stands in which section.

mod items;
mod limits;
mod parameters;
mod print;
mod sections;

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let path = root().join("include/framefd.h");
    let header = print::header(&items::read());
    if std::env::var_os("FRAMEFD_WRITE_HEADER").is_some() {
        std::fs::write(&path, header).expect("include/framefd.h can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == header, "include/framefd.h is out of date; to fix it: make header");
}

#[test]
fn comments_and_documents_state_the_limits_that_there_are() {
    limits::check(&items::read());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
