//! Hosts: names of the file of hosts, addresses, and what is known of them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use framefd::ErrorKind;
use framefd::auth::{self, Key, KeyId, Rules, ServerName, Terms};
use toml::{Table, Value};

use crate::args::Peer;
use crate::failure::{Failure, Result, text_of};
use crate::lend::{Via, default_socket};
use crate::output::shown;

/// A host, and how to reach it.
pub struct Target {
    /// What the user called it.
    pub shown: String,
    pub address: Vec<u8>,
    /// It dials out: the hub that has its connections.
    pub via: Option<Via>,
    pub key: Option<Key>,
    pub id: KeyId,
    pub terms: Terms,
    pub plain: bool,
    /// It is in the file of hosts.
    pub is_known: bool,
    /// That file, for people.
    pub hosts: String,
}

/// The file of hosts; it may be missing.
pub struct Hosts {
    path: PathBuf,
    table: Table,
}

impl Hosts {
    /// Reads `$XDG_CONFIG_HOME/framefd/hosts.toml`, or the same below `~/.config`.
    pub fn load() -> Result<Hosts> {
        let Some(path) = default_path() else {
            return Ok(Hosts { path: "~/.config/framefd/hosts.toml".into(), table: Table::new() });
        };
        Hosts::read(path)
    }

    fn read(path: PathBuf) -> Result<Hosts> {
        let example = "see framefd --help for an example";
        let table = private_table(&path, example)?.unwrap_or_default();
        Ok(Hosts { path, table })
    }

    /// Whether the file has this name.
    pub fn knows(&self, host: &OsStr) -> bool {
        host.to_str().is_some_and(|name| name != "*" && self.table.contains_key(name))
    }

    /// The host of this name or address. A port is for an address that has none.
    pub fn find(&self, host: &OsStr, port: Option<&OsStr>, peer: &Peer) -> Result<Target> {
        let known = if self.knows(host) { self.entry(&host.to_string_lossy())? } else { None };
        let others = self.entry("*")?.unwrap_or_default();
        let is_known = known.is_some();
        let entry = known.unwrap_or_default();
        let hub = entry.via.as_deref().or(others.via.as_deref());
        // An address is reached without the hub of the others.
        let is_by_hub = entry.via.is_some()
            || entry.address.is_none() && others.via.is_some() && !host.as_bytes().contains(&b':');
        let address = match entry.address {
            _ if is_by_hub => [HUB, host.as_bytes()].concat(),
            Some(address) => address.into_bytes(),
            None if is_known => {
                return Err(self.refused(&shown(host), "it has neither an address nor via"));
            }
            None => with_port(host, port),
        };
        if !is_known && !address.contains(&b':') {
            let (host, file) = (shown(host), shown(self.path.as_os_str()));
            let line = format!("{host}: not in {file}, and no address like host:port");
            return Err(Failure::new(line));
        }
        let plain = peer.plain || entry.plain.or(others.plain).unwrap_or(false);
        let file = match (&peer.key, entry.key.or(others.key)) {
            (Some(file), _) => Some(file.clone()),
            (None, file) => file.map(|file| self.beside(&file)),
        };
        if file.is_none() && !plain {
            let line = "it needs a key: -k FILE, or --plain for a connection that is not sealed";
            return Err(Failure::new(format!("{}: {line}", shown(host))));
        }
        let id = peer.id.clone().or(entry.id.or(others.id).map(OsString::from));
        let mut name = peer.name.clone().or(entry.name.or(others.name).map(OsString::from));
        let mut via = None;
        if let Some(agent) = address.strip_prefix(HUB) {
            if plain {
                let line = "connections that a hub lends are sealed: leave out plain";
                return Err(Failure::new(format!("{}: {line}", shown(host))));
            }
            // A host that dials out has one name, for the hub and for clients.
            let agent = name.get_or_insert_with(|| OsStr::from_bytes(agent).to_owned());
            let socket = match hub {
                Some(hub) => self.beside(hub),
                None => default_socket()?,
            };
            via = Some(Via { socket, agent: agent.to_string_lossy().into_owned() });
        }
        Ok(Target {
            shown: shown(host),
            address,
            via,
            key: file.map(|file| load_key(&file)).transpose()?,
            id: key_id(id.as_deref().unwrap_or_default())?,
            terms: terms(name.as_deref().unwrap_or_default())?,
            plain,
            is_known,
            hosts: shown(self.path.as_os_str()),
        })
    }

    /// The address of a name, or the address itself.
    pub fn address(&self, host: &OsStr) -> Result<Vec<u8>> {
        let name = host.to_str().filter(|_| self.knows(host)).unwrap_or("*");
        let address = self.entry(name)?.and_then(|entry| entry.address);
        Ok(address
            .filter(|_| self.knows(host))
            .map_or(host.as_bytes().to_vec(), String::into_bytes))
    }

    fn entry(&self, name: &str) -> Result<Option<Entry>> {
        let Some(value) = self.table.get(name) else { return Ok(None) };
        let Value::Table(table) = value else {
            return Err(self.refused(name, "it is not a table: write [NAME] above its keys"));
        };
        let mut entry = Entry::default();
        for (key, value) in table {
            let text = || match value {
                Value::String(text) => Ok(Some(text.clone())),
                _ => Err(self.refused(name, &format!("{key} is not a string: write it in quotes"))),
            };
            match (key.as_str(), value) {
                ("address", _) => entry.address = text()?,
                ("key", _) => entry.key = text()?,
                ("id", _) => entry.id = text()?,
                ("name", _) => entry.name = text()?,
                ("via", _) => entry.via = text()?,
                ("plain", Value::Boolean(plain)) => entry.plain = Some(*plain),
                ("plain", _) => return Err(self.refused(name, "plain is neither true nor false")),
                _ => {
                    let known = "address, via, key, id, name and plain are known";
                    let key = shown(OsStr::new(key));
                    return Err(self.refused(name, &format!("no key is called {key}: {known}")));
                }
            }
        }
        Ok(Some(entry))
    }

    fn refused(&self, name: &str, why: &str) -> Failure {
        Failure::new(format!("{}: [{name}]: {why}", shown(self.path.as_os_str())))
    }

    /// A path in the file: below the home directory, or beside the file.
    fn beside(&self, file: &str) -> PathBuf {
        if let Some(rest) = file.strip_prefix("~/")
            && let Some(home) = std::env::home_dir()
        {
            return home.join(rest);
        }
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }
}

/// Reads a TOML file that only its owner, or root, may write to; nothing if it is missing.
pub fn private_table(path: &Path, example: &str) -> Result<Option<Table>> {
    let refused = |why: &str| Failure::new(format!("{}: {why}", shown(path.as_os_str())));
    let text = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(&format!("{error}: check its permissions"))),
        Ok(file) => {
            let meta = file.metadata().map_err(|error| refused(&error.to_string()))?;
            // It says who may do what, which connections are plain, and where they go.
            let us = rustix::process::geteuid().as_raw();
            if meta.mode() & 0o022 != 0 || ![0, us].contains(&meta.uid()) {
                return Err(refused("others may write to it: chown it, and chmod go-w it"));
            }
            io::read_to_string(file).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => refused("it is not UTF-8 text"),
                _ => refused(&error.to_string()),
            })?
        }
    };
    let table = text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        let why = error.message().replace('\n', ", ");
        refused(&format!("line {line}: {why}; {example}"))
    })?;
    Ok(Some(table))
}

/// What the file says of one name.
#[derive(Default)]
struct Entry {
    address: Option<String>,
    key: Option<String>,
    id: Option<String>,
    name: Option<String>,
    via: Option<String>,
    plain: Option<bool>,
}

/// Begins the address of an agent that dials out.
const HUB: &[u8] = b"hub:";

fn default_path() -> Option<PathBuf> {
    let config = match std::env::var_os("XDG_CONFIG_HOME") {
        Some(config) if Path::new(&config).is_absolute() => PathBuf::from(config),
        _ => std::env::home_dir().filter(|home| home.is_absolute())?.join(".config"),
    };
    Some(config.join("framefd/hosts.toml"))
}

fn with_port(host: &OsStr, port: Option<&OsStr>) -> Vec<u8> {
    let bytes = host.as_bytes();
    let is_whole = bytes.starts_with(b"[") && bytes.contains(&b']');
    match port {
        Some(port) if !is_whole && bytes.split(|&byte| byte == b':').nth(2).is_some() => {
            [b"[", bytes, b"]:", port.as_bytes()].concat()
        }
        Some(port) if !bytes.contains(&b':') || bytes.ends_with(b"]") => {
            [bytes, b":", port.as_bytes()].concat()
        }
        _ => bytes.to_vec(),
    }
}

/// The key in a file.
pub fn load_key(file: &Path) -> Result<Key> {
    auth::load(file, Rules::default()).map_err(|error| no_key(&error))
}

/// A key, or a directory of them, that cannot be loaded.
pub fn no_key(error: &framefd::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::NotFound => "; make one with framefd key new, or see -k",
        _ => "",
    };
    Failure::new(format!("{}{advice}", text_of(error)))
}

/// The id of a key, as a user gave it.
pub fn key_id(id: &OsStr) -> Result<KeyId> {
    if id.is_empty() {
        // That of a key that is the only one.
        return Ok(KeyId::default());
    }
    KeyId::new(id.as_bytes()).map_err(|error| Failure::of("--id", &error))
}

/// What both ends know beforehand.
pub fn terms(name: &OsStr) -> Result<Terms> {
    let name = ServerName::new(name.as_bytes()).map_err(|error| Failure::of("--name", &error))?;
    Ok(Terms { name, ..Terms::default() })
}

/// Splits HOST:PATH. A name of the file of hosts has no colon; an address has one or more.
pub fn split_place<'a>(place: &'a OsStr, hosts: &Hosts) -> (&'a OsStr, &'a [u8]) {
    let bytes = place.as_bytes();
    let end = end_of_host(bytes, hosts);
    let path = bytes[end..].strip_prefix(b":").unwrap_or_default();
    // Names begin at the host's root with a slash or without.
    let path = path.strip_prefix(b"/").unwrap_or(path);
    (OsStr::from_bytes(&bytes[..end]), path)
}

/// Whether it is HOST:PATH, and not a local path: those with a colon have a slash before it.
pub fn is_place(text: &OsStr) -> bool {
    text.as_bytes().split(|&byte| byte == b'/').next().is_some_and(|first| first.contains(&b':'))
}

fn end_of_host(bytes: &[u8], hosts: &Hosts) -> usize {
    let colon = |from: usize| {
        let found = bytes.get(from..).and_then(|rest| rest.iter().position(|&byte| byte == b':'));
        found.map(|at| from + at)
    };
    let Some(first) = colon(0) else { return bytes.len() };
    if hosts.knows(OsStr::from_bytes(&bytes[..first])) {
        return first;
    }
    let begin = match bytes {
        [b'[', ..] => bytes.iter().position(|&byte| byte == b']').map_or(first, |at| at + 1),
        _ if bytes.starts_with(b"vsock:") || bytes.starts_with(HUB) => match colon(first + 1) {
            Some(second) => second,
            None => return bytes.len(),
        },
        _ => first,
    };
    if bytes.starts_with(HUB) {
        return begin;
    }
    // Behind it comes a port, or the path of a Unix socket; or there is none.
    let end = colon(begin + 1).unwrap_or(bytes.len());
    let port = bytes.get(begin + 1..end).unwrap_or_default();
    let is_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    if is_port || bytes.starts_with(b"unix:") { end } else { begin.min(bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Hosts {
        Hosts { path: "/etc/framefd/hosts.toml".into(), table: text.parse().unwrap() }
    }

    #[test]
    fn a_place_is_a_host_and_a_path() {
        let hosts = hosts("[web]\naddress = 'a:1'\n[db]\naddress = 'b:1'");
        for (place, host, path) in [
            ("web:a/b", "web", "a/b"),
            ("web:/a", "web", "a"),
            ("web:", "web", ""),
            ("web", "web", ""),
            ("web:7000:x", "web", "7000:x"),
            ("127.0.0.1:7000:a:b", "127.0.0.1:7000", "a:b"),
            ("127.0.0.1:7000", "127.0.0.1:7000", ""),
            ("127.0.0.1:7000:", "127.0.0.1:7000", ""),
            ("[::1]:7000:a", "[::1]:7000", "a"),
            ("[::1]:7000", "[::1]:7000", ""),
            ("unix:/run/x:a/b:c", "unix:/run/x", "a/b:c"),
            ("unix:/run/x", "unix:/run/x", ""),
            ("vsock:3:7000:a", "vsock:3:7000", "a"),
            ("unknown:a", "unknown", "a"),
        ] {
            let split = split_place(OsStr::new(place), &hosts);
            assert_eq!(split, (OsStr::new(host), path.as_bytes()), "{place}");
        }
    }

    #[test]
    fn a_local_path_has_no_colon_before_its_first_slash() {
        for place in ["web:", "web:a", "web:/a", "a:1:b", "unix:/run/x:a", "[::1]:7000:a/b"] {
            assert!(is_place(OsStr::new(place)), "{place}");
        }
        for path in ["", "web", "a/b", "./a:b", "/a:b", "a/b:c", "."] {
            assert!(!is_place(OsStr::new(path)), "{path}");
        }
    }

    #[test]
    fn a_port_is_for_an_address_without_one() {
        for (host, address) in [
            ("a", "a:22"),
            ("10.0.0.1", "10.0.0.1:22"),
            ("a:1", "a:1"),
            ("::1", "[::1]:22"),
            ("[::1]", "[::1]:22"),
            ("[::1]:1", "[::1]:1"),
        ] {
            let found = with_port(OsStr::new(host), Some(OsStr::new("22")));
            assert_eq!(found, address.as_bytes(), "{host}");
        }
        assert_eq!(with_port(OsStr::new("a"), None), b"a");
    }

    #[test]
    fn what_a_name_does_not_say_comes_from_the_others() {
        let hosts = hosts(
            "[a]\naddress = '/x:1'\nplain = true\nname = 'one'\n\
             [b]\naddress = 'h:1'\nplain = false\n['*']\nid = 'me'\nname = 'all'",
        );
        let found = hosts.find(OsStr::new("a"), None, &Peer::default()).unwrap();
        assert_eq!((found.id.as_str(), found.terms.name.as_str()), ("me", "one"));
        assert!(found.plain && found.is_known);
        let peer = Peer { plain: true, id: Some("you".into()), ..Peer::default() };
        let found = hosts.find(OsStr::new("c:1"), None, &peer).unwrap();
        assert_eq!((found.id.as_str(), found.terms.name.as_str()), ("you", "all"));
        let failure = hosts.find(OsStr::new("b"), None, &Peer::default()).err().unwrap();
        assert!(failure.line.contains("-k FILE, or --plain"), "{failure:?}");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, why) in [
            ("[a]\nadress = 'x:1'", "no key is called adress"),
            ("[a]\naddress = 1", "address is not a string"),
            ("[a]\nplain = 'yes'", "neither true nor false"),
            ("a = 'x:1'", "it is not a table"),
            ("[a]\nplain = true", "it has neither an address nor via"),
        ] {
            let failure = hosts(text).find(OsStr::new("a"), None, &Peer::default()).err().unwrap();
            assert!(failure.line.contains(why), "{failure:?}");
            assert!(failure.line.starts_with("/etc/framefd/hosts.toml: [a]: "), "{failure:?}");
        }
    }

    #[test]
    fn a_path_in_the_file_is_beside_it() {
        let hosts = hosts("");
        assert_eq!(hosts.beside("keys/a"), Path::new("/etc/framefd/keys/a"));
        assert_eq!(hosts.beside("/k"), Path::new("/k"));
        if let Some(home) = std::env::home_dir() {
            assert_eq!(hosts.beside("~/k"), home.join("k"));
        }
    }
}
