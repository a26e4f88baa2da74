//! The text of an address, both ways.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, netdevice, socket_with};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::quote;

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name to be looked up.
    Name {
        /// The name.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// An IP address and a TCP port.
    Ip(SocketAddr),
    /// The path of a Unix socket.
    Path(Vec<u8>),
    /// The name of a Unix socket in the abstract namespace.
    Abstract(Vec<u8>),
    /// A virtual machine's socket.
    Vsock {
        /// The machine.
        cid: u32,
        /// The port.
        port: u32,
    },
}

impl Address {
    /// Parses an address. The details of [`ErrorKind::Argument`] name the mistake.
    ///
    /// The scope of an IPv6 address is an interface's name or number; it is looked up here.
    pub fn parse(text: &[u8]) -> Result<Address> {
        let refused = |why: String| {
            Error::new(ErrorKind::Argument, format!("the address {}: {why}", quote(text)))
        };
        if text.contains(&0) {
            return Err(refused("it has a NUL".into()));
        }
        if let Some(name) = text.strip_prefix(b"unix:") {
            return unix(name).map_err(refused);
        }
        let text = std::str::from_utf8(text).map_err(|_| refused("it is not UTF-8".into()))?;
        let address = match text.strip_prefix("vsock:") {
            Some(rest) => vsock(rest),
            None => internet(text),
        };
        address.map_err(refused)
    }

    /// The text, which parses to the same address again.
    pub fn to_text(&self) -> Vec<u8> {
        match self {
            Address::Name { host, port } => format!("{host}:{port}").into_bytes(),
            Address::Ip(SocketAddr::V6(address)) if address.scope_id() != 0 => {
                let scope = interface_name(address.scope_id());
                format!("[{}%{scope}]:{}", address.ip(), address.port()).into_bytes()
            }
            Address::Ip(address) => address.to_string().into_bytes(),
            Address::Path(path) if path.starts_with(b"@") => [b"unix:./", &path[..]].concat(),
            Address::Path(path) => [b"unix:", &path[..]].concat(),
            Address::Abstract(name) => [b"unix:@", &name[..]].concat(),
            Address::Vsock { cid, port } => format!("vsock:{cid}:{port}").into_bytes(),
        }
    }
}

/// The text of a socket address.
pub(super) fn shown(address: &SocketAddrAny) -> Result<Vec<u8>> {
    let unsupported = |what: String| Error::new(ErrorKind::Unsupported, what);
    let bytes = bytes_of(address);
    let known = match address.address_family() {
        AddressFamily::UNIX => Some(unix_name(&bytes[FAMILY..])),
        AddressFamily::VSOCK => vsock_numbers(bytes),
        _ => {
            SocketAddr::try_from(address.clone()).ok().map(|address| Address::Ip(as_ipv4(address)))
        }
    };
    match known {
        Some(Address::Abstract(name)) if name.contains(&0) => {
            Err(unsupported("the socket's abstract name has a NUL in it".into()))
        }
        Some(address) => Ok(address.to_text()),
        None => {
            let family = address.address_family().as_raw();
            Err(unsupported(format!("a socket of address family {family}")))
        }
    }
}

/// An IPv4 address that an IPv6 socket shows as one of its own kind is the IPv4 address.
fn as_ipv4(mut address: SocketAddr) -> SocketAddr {
    if let IpAddr::V4(ip) = address.ip().to_canonical() {
        address.set_ip(ip.into());
    }
    address
}

fn vsock_numbers(bytes: &[u8]) -> Option<Address> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    // family, reserved, port, cid
    Some(Address::Vsock { port: number(4)?, cid: number(8)? })
}

/// The bytes after the family in a Unix socket's address. The kernel ends a path with a NUL,
/// which may be the byte after the struct.
fn unix_name(name: &[u8]) -> Address {
    match name {
        [0, name @ ..] => Address::Abstract(name.to_vec()),
        path => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            Address::Path(path[..end].to_vec())
        }
    }
}

fn bytes_of(address: &SocketAddrAny) -> &[u8] {
    let (start, len) = (address.as_ptr().cast::<u8>(), address.addr_len() as usize);
    // SAFETY: the type keeps `len` initialised bytes at `start`, for as long as it lives.
    unsafe { std::slice::from_raw_parts(start, len) }
}

fn unix(name: &[u8]) -> Result<Address, String> {
    let limit = |name: &[u8], what: &str| match name.len() {
        0 => Err(format!("it has no {what}")),
        1..=UNIX_NAME => Ok(name.to_vec()),
        more => Err(format!("the {what} has {more} bytes, and {UNIX_NAME} are the limit")),
    };
    match name.strip_prefix(b"@") {
        Some(name) => Ok(Address::Abstract(limit(name, "name")?)),
        None => Ok(Address::Path(limit(name, "path")?)),
    }
}

fn vsock(text: &str) -> Result<Address, String> {
    let (cid, port) = text.split_once(':').ok_or("it has no port")?;
    Ok(Address::Vsock { cid: number(cid, "cid", u32::MAX)?, port: number(port, "port", u32::MAX)? })
}

fn internet(text: &str) -> Result<Address, String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        let port = rest.strip_prefix(':').ok_or("it has no port after the bracket")?;
        return ipv6(host, number(port, "port", u16::MAX)?);
    }
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    if host.contains(['[', ']']) {
        return Err("it has a bracket in the wrong place".into());
    }
    if host.contains(':') {
        return Err("an IPv6 address has to be in brackets".into());
    }
    if host.is_empty() {
        return Err("it has no host".into());
    }
    let port = number(port, "port", u16::MAX)?;
    Ok(match host.parse::<Ipv4Addr>() {
        Ok(ip) => Address::Ip((ip, port).into()),
        Err(_) => Address::Name { host: host.to_owned(), port },
    })
}

fn ipv6(text: &str, port: u16) -> Result<Address, String> {
    let (ip, scope) = match text.split_once('%') {
        Some((ip, scope)) => (ip, interface_index(scope)?),
        None => (text, 0),
    };
    let ip: Ipv6Addr =
        ip.parse().map_err(|_| format!("{} is not an IPv6 address", quote(ip.as_bytes())))?;
    Ok(Address::Ip(SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// A decimal number. A sign is not one of its digits.
fn number<T: Copy + Display + FromStr>(text: &str, what: &str, max: T) -> Result<T, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        format!("the {what} {} is not a number from 0 to {max}", quote(text.as_bytes()))
    })
}

fn interface_index(scope: &str) -> Result<u32, String> {
    let unknown = || format!("there is no network interface {}", quote(scope.as_bytes()));
    if let Ok(socket) = any_socket()
        && let Ok(index) = netdevice::name_to_index(&socket, scope)
    {
        return Ok(index);
    }
    match number(scope, "scope", u32::MAX) {
        Ok(0) | Err(_) => Err(unknown()),
        Ok(index) => Ok(index),
    }
}

/// The name of an interface, or its number if it has gone.
fn interface_name(index: u32) -> String {
    any_socket()
        .and_then(|socket| netdevice::index_to_name(&socket, index))
        .unwrap_or_else(|_| index.to_string())
}

/// Any socket can be used to ask the kernel about interfaces.
fn any_socket() -> rustix::io::Result<std::os::fd::OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// The longest path or abstract name: `sun_path` has 108 bytes, one of them for the NUL.
const UNIX_NAME: usize = 107;
/// Bytes of the family at the start of every address.
const FAMILY: usize = size_of::<libc::sa_family_t>();

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text.as_bytes()).unwrap()
    }

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn every_form_is_read_and_written_back() {
        let name = |host: &str, port| Address::Name { host: host.into(), port };
        for (text, address) in [
            ("localhost:0", name("localhost", 0)),
            ("a-b.example:65535", name("a-b.example", 65535)),
            ("1.2.3.4.5:80", name("1.2.3.4.5", 80)),
            ("127.0.0.1:80", ip("127.0.0.1:80")),
            ("[::1]:80", ip("[::1]:80")),
            ("[::]:0", ip("[::]:0")),
            ("unix:/run/a b.sock", Address::Path(b"/run/a b.sock".to_vec())),
            ("unix:sock", Address::Path(b"sock".to_vec())),
            ("unix:./@sock", Address::Path(b"./@sock".to_vec())),
            ("unix:@name", Address::Abstract(b"name".to_vec())),
            ("unix:@@", Address::Abstract(b"@".to_vec())),
            ("vsock:2:4294967295", Address::Vsock { cid: 2, port: u32::MAX }),
        ] {
            assert_eq!(parse(text), address);
            assert_eq!(address.to_text(), text.as_bytes());
        }
        let latin = Address::parse(b"unix:/caf\xe9").unwrap();
        assert_eq!(latin.to_text(), b"unix:/caf\xe9", "a path is bytes");
        assert_eq!(parse("127.0.0.1:0080"), ip("127.0.0.1:80"));
    }

    #[test]
    fn a_file_whose_name_begins_with_at_is_not_abstract() {
        let address = Address::Path(b"@sock".to_vec());
        assert_eq!(address.to_text(), b"unix:./@sock");
    }

    #[test]
    fn a_scope_is_a_name_or_a_number() {
        let socket = any_socket().unwrap();
        let index = netdevice::name_to_index(&socket, "lo").unwrap();
        let expected = ip(&format!("[fe80::1%{index}]:80"));
        assert_eq!(parse("[fe80::1%lo]:80"), expected);
        assert_eq!(parse(&format!("[fe80::1%{index}]:80")), expected);
        assert_eq!(expected.to_text(), b"[fe80::1%lo]:80");
        let gone = parse("[fe80::1%999999]:80");
        assert_eq!(gone.to_text(), b"[fe80::1%999999]:80");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("unix:/{}", "x".repeat(107));
        let longer = format!("unix:@{}", "x".repeat(108));
        for (text, why) in [
            ("", "no port"),
            ("localhost", "no port"),
            (":80", "no host"),
            ("localhost:", "the port \"\" is not a number from 0 to 65535"),
            ("localhost:http", "the port \"http\" is not a number"),
            ("localhost:+80", "the port \"+80\" is not a number"),
            ("localhost: 80", "the port \" 80\" is not a number"),
            ("127.0.0.1:65536", "from 0 to 65535"),
            ("127.0.0.1:-1", "from 0 to 65535"),
            ("::1:80", "in brackets"),
            ("::1", "in brackets"),
            ("[::1", "not closed"),
            ("[::1]", "no port after"),
            ("[::1]80", "no port after"),
            ("[::1]:x", "the port \"x\""),
            ("::1]:80", "wrong place"),
            ("a[::1]:80", "wrong place"),
            ("[]:80", "not an IPv6 address"),
            ("[localhost]:80", "\"localhost\" is not an IPv6 address"),
            ("[127.0.0.1]:80", "not an IPv6 address"),
            ("[fe80::1%none-such]:80", "no network interface \"none-such\""),
            ("[fe80::1%]:80", "no network interface \"\""),
            ("[fe80::1%0]:80", "no network interface \"0\""),
            ("local\0host:80", "NUL"),
            ("unix:", "no path"),
            ("unix:@", "no name"),
            ("unix:/a\0b", "NUL"),
            (&long, "the path has 108 bytes, and 107 are the limit"),
            (&longer, "the name has 108 bytes"),
            ("vsock:2", "no port"),
            ("vsock:host:1", "the cid \"host\" is not a number from 0 to 4294967295"),
            ("vsock:4294967296:1", "the cid"),
            ("vsock:2:-1", "the port"),
            ("vsock:2:3:4", "the port \"3:4\""),
        ] {
            let error = Address::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{text}");
            assert!(error.detail().contains(why), "{text}: {error}");
        }
        let error = Address::parse(b"caf\xe9:80").unwrap_err();
        assert!(error.detail().contains("not UTF-8"), "{error}");
    }

    #[test]
    fn a_unix_name_ends_as_the_kernel_ends_it() {
        for (bytes, address) in [
            (&b""[..], Address::Path(vec![])),
            (b"/a\0", Address::Path(b"/a".to_vec())),
            (b"/a", Address::Path(b"/a".to_vec())),
            (b"\0a", Address::Abstract(b"a".to_vec())),
            (b"\0a\0", Address::Abstract(b"a\0".to_vec())),
        ] {
            assert_eq!(unix_name(bytes), address);
        }
    }
}
