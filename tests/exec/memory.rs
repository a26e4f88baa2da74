//! The memory that a server needs for one request, whatever the request asks for.
#![allow(unsafe_code)]

use std::fmt::Write as _;
use std::os::fd::AsFd as _;

use crate::common::channel::socket_pair;
use crate::common::exec::{LONG, serve, within};
use crate::common::process::{alone, memory, peak_memory};
use crate::common::stream::{limited, recv};
use framefd::ops::frame;

/// Bytes of a request, or a few less.
const SIZE: usize = 64 << 10;
/// A request may need this much for each of its bytes, and no more: nothing is the product of
/// two lengths.
const FOR_EACH_BYTE: u64 = 64;

/// `SIZE` bytes of members of a JSON object or array, each of another name.
fn members(member: impl Fn(usize) -> String) -> String {
    let mut text = member(0);
    for i in 1.. {
        let next = member(i);
        if text.len() + next.len() + 200 > SIZE {
            break;
        }
        write!(text, ",{next}").unwrap();
    }
    text
}

/// Requests that are large in one way or another: a name, the members of the header, and the
/// size of the body.
fn requests() -> Vec<(&'static str, String, usize)> {
    let long = |text: &str| text.repeat((SIZE - 200) / text.len());
    let half = |text: &str| text.repeat(SIZE / 2 - 200);
    let path = |name: &str, path: &str| format!(r#""argv":["{name}"],"env":{{"PATH":"{path}"}}"#);
    let argv = |first: &str| format!(r#""argv":[{first}{}]"#, members(|_| r#""""#.into()));
    vec![
        ("directories and a long name", path(&half("x"), &half(":")), 0),
        ("directories and a short name", path(&"x".repeat(255), &long(":")[300..]), 0),
        ("names of directories", path(&"x".repeat(255), &half("y:")[300..]), 0),
        ("arguments", argv(""), 0),
        ("a program and arguments", argv(r#""/bin/true","#), 0),
        ("variables", format!(r#""env":{{{}}}"#, members(|i| format!(r#""{i:x}":"""#))), 4),
        ("a variable", format!(r#""env":{{"A":"{}"}}"#, long("x")), 4),
        ("escapes", format!(r#""argv":["/bin/true","{}"]"#, long(r"\u0001")), 0),
        ("a directory", format!(r#""cwd":"{}""#, long("x")), 4),
        ("a word", format!(r#""on_close":"{}""#, long("x")), 4),
        ("other keys", members(|i| format!(r#""{i:x}":{{}}"#)), 4),
        ("a command", r#""merge":true"#.into(), SIZE),
        ("arguments in the body", format!(r#""argv_size":{SIZE}"#), SIZE),
        ("a variable in the body", format!(r#""env_size":{SIZE}"#), SIZE + 4),
        ("an input", format!(r#""stdin_size":{SIZE}"#), SIZE + 4),
    ]
}

/// The memory of this process, which is its peak from now on.
fn forget_the_peak() -> u64 {
    // SAFETY: no pointers.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    memory()
}

#[test]
fn no_request_needs_more_memory_than_its_size_accounts_for() {
    alone("memory::no_request_needs_more_memory_than_its_size_accounts_for", || {
        let requests = requests();
        for stream in [false, true] {
            for (what, members, body) in &requests {
                let header = format!(r#"{{"cmd":"exec","stream":{stream},{members}}}"#);
                let mut command = b"true".repeat((*body).min(1));
                command.resize(*body, if members.contains("argv_size") { 0 } else { b' ' });
                if members.contains("env_size") {
                    command.splice(*body - 4.., *b" =x\0");
                }
                let (client, server) = socket_pair();
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        let options = within(LONG);
                        frame::send(client.as_fd(), Some(&header), &command, &options).unwrap();
                        recv(client.as_fd().into());
                    });
                    let before = forget_the_peak();
                    serve(server.as_fd().into(), &limited()).unwrap();
                    let used = peak_memory() - before;
                    assert!(used < FOR_EACH_BYTE * SIZE as u64, "{what}: {used} bytes");
                });
            }
        }
    });
}
