//! Connections of agents that a hub lends.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use framefd::frame::{Connection, ConnectionOptions, Deadline, Header, HeaderBuilder, connect};
use framefd::{Error, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::failure::{Failure, Result, text_of};
use crate::output::{one_line, show, shown};

/// A hub, and an agent of it.
#[derive(Clone, Debug)]
pub struct Via {
    pub socket: PathBuf,
    pub agent: String,
}

/// Where a hub of this user lends connections, if nothing else is said.
pub fn default_socket() -> Result<PathBuf> {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(directory) if directory.is_absolute() => Ok(directory.join("framefd-hub")),
        _ if rustix::process::geteuid().is_root() => Ok("/run/framefd-hub".into()),
        _ => {
            let line = "there is no XDG_RUNTIME_DIR for the hub's socket: say where it is with \
                        --socket PATH, or via = \"PATH\" in the file of hosts";
            Err(Failure::new(line))
        }
    }
}

/// Borrows a connection to an agent. Nobody else has it, or had it before.
pub fn borrow(host: &str, via: &Via, timeout: Duration) -> Result<OwnedFd> {
    let deadline = Deadline::after(timeout);
    let (mut connection, socket) = ask(&via.socket, deadline)
        .map_err(|failure| Failure::new(format!("{host}: {}", failure.line)))?;
    let hub = shown(via.socket.as_os_str());
    let failed = |why: &str| Failure::new(format!("{host}: the hub at {hub}: {why}"));
    let mut request = HeaderBuilder::new();
    // Its answer must come before our time is up.
    let wait = i64::try_from(timeout.as_millis() * 9 / 10).unwrap_or(i64::MAX);
    request
        .string("cmd", "lend")
        .and_then(|()| request.string("agent", &via.agent))
        .and_then(|()| request.integer("wait_ms", wait))
        .map_err(|error| failed(&text_of(&error)))?;
    let reply = connection.call(request.text(), &[], remaining(deadline));
    reply.map_err(|error| failed(&told(&error)))?;
    received(&socket, deadline).ok_or_else(|| failed("it has gone away: is it running? Try again"))
}

/// Shows who is there.
pub fn list(path: &Path) -> Result<()> {
    let deadline = Deadline::after(Duration::from_secs(10));
    let (mut connection, _) = ask(path, deadline)?;
    let reply =
        connection.call(r#"{"cmd":"list"}"#, &[], remaining(deadline)).map_err(|error| {
            Failure::new(format!("the hub at {}: {}", shown(path.as_os_str()), text_of(&error)))
        })?;
    let mut shown = String::new();
    for line in reply.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(agent) = Header::parse(line.to_vec(), 32) else { continue };
        let text = |key| agent.string(key).map_or(String::new(), |text| one_line(text.as_bytes()));
        let number = |key| agent.integer(key).unwrap_or(0);
        shown.push_str(&match agent.integer("free") {
            Ok(free) if free > 0 => format!(
                "{}  {free} free  {} lent  {}\n",
                text("agent"),
                number("lent"),
                text("address")
            ),
            Ok(_) => format!(
                "{}  0 free  {} lent  {}  {} s ago\n",
                text("agent"),
                number("lent"),
                text("address"),
                number("seen_s")
            ),
            Err(_) => format!("{}  never connected\n", text("agent")),
        });
    }
    show(shown.as_bytes())
}

/// A conversation with a hub, and its socket.
fn ask(path: &Path, deadline: Deadline) -> Result<(Connection<'static>, OwnedFd)> {
    let refused = |error: &Error, advice: &str| {
        let path = shown(path.as_os_str());
        Failure::new(format!("the hub at {path}: {}{advice}", text_of(error)))
    };
    let address = [b"unix:", path.as_os_str().as_bytes()].concat();
    let socket = connect(&address, deadline, None).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(format!(
            "no hub is at {}: start framefd hub, or say where it is (--socket, via)",
            shown(path.as_os_str())
        )),
        ErrorKind::Denied => refused(&error, "; it is for its own user only"),
        _ => refused(&error, "; is framefd hub running?"),
    })?;
    let copy = socket.try_clone().map_err(|error| Failure::new(error.to_string()))?;
    // The byte with the connection is not read with the reply.
    let options = ConnectionOptions { exact: true, ..ConnectionOptions::default() };
    let connection = Connection::new(copy, options).map_err(|error| refused(&error, ""))?;
    Ok((connection, socket))
}

/// What a hub said.
fn told(error: &Error) -> String {
    let advice = match error.kind() {
        ErrorKind::RemoteNotFound => "; framefd hub list shows who is there",
        ErrorKind::RemoteBusy => "; try again, or give its agent a larger --hold",
        ErrorKind::Closed | ErrorKind::Truncated => "; is it running?",
        _ => "",
    };
    match error.kind() {
        ErrorKind::RemoteNotFound | ErrorKind::RemoteBusy => {
            format!("{}{advice}", error.detail())
        }
        _ => format!("{}{advice}", text_of(error)),
    }
}

/// The descriptor that comes with a byte.
fn received(socket: &OwnedFd, deadline: Deadline) -> Option<OwnedFd> {
    let left = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    poll(&mut fds, left.as_ref()).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags).ok()?;
    if message.bytes == 0 || message.flags.contains(ReturnFlags::CTRUNC) {
        return None;
    }
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

fn remaining(deadline: Deadline) -> Duration {
    deadline.remaining().unwrap_or_default()
}
