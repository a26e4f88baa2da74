//! What counts as the reply to a command, for a client that waits for one and for one that reads
//! a stream; with a key, and without one.

use std::io::Write as _;
use std::os::fd::AsFd as _;

use framefd::ops::exec::{self, Running};
use framefd::wire::auth::{Key, answer};
use framefd::{ErrorKind, Result};

use crate::common::channel::socket_pair;
use crate::common::encoded;
use crate::common::exec::{LONG, connect};
use crate::common::stream::shell;

/// What a client makes of a reply to its first command.
fn answered(reply: &[u8], is_keyed: bool, streams: bool) -> Result<()> {
    let (client, mut server) = socket_pair();
    let mut client = connect(client.as_fd());
    if is_keyed {
        let key = Key::new(&[1; 32]).unwrap();
        server.write_all(&[2; 32]).unwrap();
        client.auth_client(&key, LONG).unwrap();
        let mut proof = [0; 32];
        std::io::Read::read_exact(&mut server, &mut proof).unwrap();
        assert_eq!(proof, answer(&key, &[2; 32]));
    }
    server.write_all(reply).unwrap();
    if !streams {
        return exec::call(&mut client, &shell("x"), LONG).map(drop);
    }
    let mut running = Running::start(&mut client, &shell("x"), LONG)?;
    running.finish(&mut client, LONG).map(drop)
}

#[test]
fn only_a_reply_of_its_own_kind_and_id_is_one() {
    const BAD: Option<ErrorKind> = Some(ErrorKind::BadReply);
    const BUSY: Option<ErrorKind> = Some(ErrorKind::RemoteBusy);
    const WRONG: Option<ErrorKind> = Some(ErrorKind::RemoteBadRequest);
    // Without a key, and with one.
    for (header, body, expected) in [
        (r#"{"id":"~1","exit_code":0}"#, "", [None, None]),
        (r#"{"id":"~1","exit_code":null,"status":"ok"}"#, "", [None, None]),
        (r#"{"id":"~1","status":"error","code":"busy"}"#, "", [BUSY, BUSY]),
        // Servers that repeat no ids.
        (r#"{"exit_code":0}"#, "", [None, BAD]),
        (r#"{"data_size":3}"#, "out", [None, BAD]),
        (r#"{"data_size":3,"total":1}"#, "out", [None, BAD]),
        (r#"{"status":"error","code":"busy"}"#, "", [BUSY, BAD]),
        (r#"{"status":"error","code":"bad_request"}"#, "", [WRONG, WRONG]),
        // The request itself, as an echo server sends it back, in capital letters too.
        (r#"{"data_size":1,"cmd":"exec","id":"~1"}"#, "x", [BAD, BAD]),
        (r#"{"cmd":"exec","id":"~1","exit_code":0,"status":"ok"}"#, "", [BAD, BAD]),
        (r#"{"cmd":"exec","id":"~1","status":"error","code":"busy"}"#, "", [BAD, BAD]),
        (r#"{"DATA_SIZE":1,"CMD":"EXEC","ID":"~1"}"#, "", [BAD, BAD]),
        (r#"{"stream":"stdin","data_size":0}"#, "", [BAD, BAD]),
        (r#"{"signal":"INT","data_size":0}"#, "", [BAD, BAD]),
        (r#"{"resize":{"rows":1,"columns":2},"data_size":0}"#, "", [BAD, BAD]),
        // Replies to something else.
        ("{}", "", [BAD, BAD]),
        (r#"{"id":"~1"}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","data_size":3}"#, "out", [BAD, BAD]),
        (r#"{"id":"~2","exit_code":0}"#, "", [BAD, BAD]),
        (r#"{"id":1,"exit_code":0}"#, "", [BAD, BAD]),
        (r#"{"id":null,"data_size":3}"#, "out", [BAD, BAD]),
        (r#"{"status":"ok","data_size":3}"#, "out", [BAD, BAD]),
        (r#"{"id":"~1","status":"ok"}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","status":"perhaps","exit_code":0}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","status":1,"exit_code":0}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","status":"error","code":"busy","data_size":1}"#, "x", [BAD, BAD]),
        (r#"{"id":"~1","status":"error","code":["busy"]}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","exit_code":"0"}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","exit_code":0,"truncated":1}"#, "", [BAD, BAD]),
        (r#"{"id":"~1","stream":1,"exit_code":0}"#, "", [BAD, BAD]),
    ] {
        for streams in [false, true] {
            for is_keyed in [false, true] {
                let got = answered(&encoded(header, body.as_bytes()), is_keyed, streams);
                let got = got.err().map(|error| error.kind());
                let expected = expected[usize::from(is_keyed)];
                assert_eq!(got, expected, "{header}, key: {is_keyed}, stream: {streams}");
            }
        }
    }
}
