//! Agents that dial out, and the hub that lends their connections.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use framefd::auth::{KeyId, Keyring, Read, Rules, SealedStream, ServerName, Terms, generate};
use framefd::exec::{self, Request};
use framefd::frame::{Connection, ConnectionOptions};

use crate::host::{Host, Kind, done, eventually, kill, pattern, read_until, refused};

/// A program that is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory for a hub, its agents and their clients: each agent has the key in hub/NAME for
/// the hub and that in keys/me for clients.
struct Place(Host);

impl Place {
    fn new(agents: &[&str]) -> Place {
        let place = Place(Host::new(Kind::Plain));
        let home = place.0.home();
        let mode = fs::Permissions::from_mode(0o700);
        for directory in ["hub", "keys"] {
            fs::create_dir(home.join(directory)).unwrap();
            fs::set_permissions(home.join(directory), mode.clone()).unwrap();
        }
        fs::rename(home.join("key"), home.join("keys/me")).unwrap();
        for agent in agents {
            generate(&home.join("hub").join(agent)).unwrap();
        }
        place.0.known(
            "[web-1]\nvia = '~/socket'\n[other]\nvia = '~/socket'\nname = 'web-1'\n\
             ['*']\nvia = '~/socket'\nkey = '~/keys/me'\nid = 'me'\n",
        );
        place
    }

    /// The program, which finds the hub's socket by itself.
    fn framefd(&self, words: &[&str]) -> Command {
        let mut command = self.0.framefd(words);
        command.env("XDG_RUNTIME_DIR", self.0.home());
        command
    }

    fn hub(&self, listen: &str) -> (Running, String) {
        let words =
            ["hub", "--listen", listen, "--keys", "hub", "--socket", "socket", "--log", "hub.log"];
        let mut child = self.framefd(&words).stderr(Stdio::null()).spawn().unwrap();
        let line = read_until(child.stdout.as_mut().unwrap(), "\n");
        let address = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        (Running(child), address)
    }

    fn agent(&self, hub: &str, name: &str, more: &[&str]) -> Running {
        let (key, log) = (format!("hub/{name}"), format!("{name}.log"));
        let words = ["serve", "--dial", hub, "--dial-key", &key, "--name", name, "--log", &log];
        let what = ["--exec", "--root", "../root", "--writable", "--keys", "keys"];
        let words = [&words, &what[..], more].concat();
        Running(self.framefd(&words).stderr(Stdio::null()).spawn().unwrap())
    }

    fn list(&self) -> String {
        let told = done(&mut self.framefd(&["hub", "list", "--socket", "socket"]));
        assert_eq!((told.0, told.2.as_str()), (0, ""));
        told.1
    }

    #[track_caller]
    fn eventually_lists(&self, what: &str) {
        eventually(what, || self.list().contains(what));
    }

    fn run(&self, host: &str, command: &str) -> (i32, String, String) {
        done(&mut self.framefd(&["run", host, command]))
    }

    fn log_of(&self, name: &str) -> String {
        fs::read_to_string(self.0.home().join(name)).unwrap_or_default()
    }
}

/// How many sockets of a program listen.
fn listening(child: &Child) -> usize {
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let sockets: Vec<String> = fds
        .filter_map(|entry| link(entry.unwrap()))
        .filter_map(|link| {
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(Into::into)
        })
        .collect();
    assert!(!sockets.is_empty());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f[3] == "0A" && sockets.iter().any(|socket| socket == f[9])).count()
}

#[test]
fn an_agent_that_listens_on_nothing_is_reached_by_its_name() {
    let place = Place::new(&["web-1", "web-2"]);
    let (hub, address) = place.hub("127.0.0.1:0");
    let agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free  0 lent  127.0.0.1:");
    assert!(place.list().contains("web-2  never connected\n"));
    let ok = |told: &str| (0, told.to_owned(), String::new());
    for host in ["web-1", "other", "hub:web-1"] {
        assert_eq!(place.run(host, "echo a"), ok("a\n"), "{host}");
    }
    place.eventually_lists("web-1  2 free  3 lent");
    assert_eq!((listening(&hub.0), listening(&agent.0)), (1, 0));
    let sent = pattern(3_000_000);
    fs::write(place.0.home().join("file"), &sent).unwrap();
    assert_eq!(done(&mut place.framefd(&["put", "-q", "file", "web-1:a"])), ok(""));
    assert!(fs::read(place.0.root("a")).unwrap() == sent);
    assert_eq!(done(&mut place.framefd(&["get", "-q", "hub:web-1:a", "copy"])), ok(""));
    assert!(fs::read(place.0.home().join("copy")).unwrap() == sent);
    assert_eq!(done(&mut place.framefd(&["ssh", "web-1", "echo", "b"])), ok("b\n"));
    let words = ["run", "--hosts", "web-1,hub:web-1,other", "echo c"];
    assert_eq!(done(&mut place.framefd(&words)).1.matches("c\n").count(), 3);
    // The default socket is that of XDG_RUNTIME_DIR.
    fs::rename(place.0.home().join("socket"), place.0.home().join("framefd-hub")).unwrap();
    place.0.known("");
    let words = ["run", "-k", "keys/me", "--id", "me", "hub:web-1", "echo d"];
    assert_eq!(done(&mut place.framefd(&words)), ok("d\n"));
}

/// Each has its own connection; no reply is lost, or goes to somebody else.
#[test]
fn many_clients_at_once_get_their_own_replies() {
    let place = Place::new(&["web-1", "web-2"]);
    let (_hub, address) = place.hub("127.0.0.1:0");
    let _agents = ["web-1", "web-2"].map(|name| place.agent(&address, name, &["--hold", "3"]));
    for name in ["web-1", "web-2"] {
        place.eventually_lists(&format!("{name}  3 free"));
    }
    std::thread::scope(|scope| {
        for client in 0..8 {
            let place = &place;
            scope.spawn(move || {
                for turn in 0..8 {
                    let host = format!("web-{}", 1 + (client + turn) % 2);
                    let said = format!("{host} {client} {turn}");
                    let told = place.run(&host, &format!("echo {said}"));
                    assert_eq!(told, (0, format!("{said}\n"), String::new()));
                }
            });
        }
    });
    place.eventually_lists("web-1  3 free  32 lent");
    place.eventually_lists("web-2  3 free  32 lent");
}

/// A command that was cut says so, and never has another one's output.
#[test]
fn kills_lose_connections_but_mix_nothing_up() {
    let place = Place::new(&["web-1"]);
    let (hub, address) = place.hub("127.0.0.1:0");
    let agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let place = &place;
                scope.spawn(move || {
                    let (mut succeeded, mut turn) = (0, 0);
                    while succeeded < 8 {
                        turn += 1;
                        let whole = format!("begin {client} {turn}\nend {client} {turn}\n");
                        let lines = whole.replace('\n', "; sleep 0.02; echo ");
                        let (status, told, why) = place.run("web-1", &format!("echo {lines}"));
                        if status == 0 {
                            assert_eq!(told, format!("{whole}\n"));
                            succeeded += 1;
                        } else {
                            assert!(status == 255 && whole.starts_with(&told), "{told}");
                            assert_eq!(why.matches('\n').count(), 1, "{why}");
                            std::thread::sleep(Duration::from_millis(50));
                        }
                    }
                })
            })
            .collect();
        let (mut hub, mut agent, mut kills) = (Some(hub), Some(agent), 0);
        while !clients.iter().all(ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(300));
            kills += 1;
            if kills % 2 == 0 {
                drop(hub.take());
                hub = Some(place.hub(&address).0);
            } else {
                drop(agent.take());
                agent = Some(place.agent(&address, "web-1", &[]));
            }
            // Long enough for a pause of the agent.
            eventually("it is there, or they are done", || {
                clients.iter().all(ScopedJoinHandle::is_finished)
                    || place.list().contains(" free  ") && !place.list().contains("  0 free")
            });
        }
    });
}

#[test]
fn a_hub_that_was_killed_comes_back_and_ends_no_command() {
    let place = Place::new(&["web-1"]);
    let (hub, address) = place.hub("127.0.0.1:0");
    let _agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    let mut words = place.framefd(&["run", "web-1", "echo on; read line; echo $line"]);
    let mut client = words.stdin(Stdio::piped()).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    drop(hub);
    refused(&mut place.framefd(&["run", "web-1", "true"]), "is framefd hub running?");
    eventually("it is said", || place.log_of("web-1.log").contains("refused; trying again"));
    client.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"still here\n"[..]));
    let (_hub, _) = place.hub(&address);
    place.eventually_lists("web-1  2 free");
    assert_eq!(place.run("web-1", "echo a").1, "a\n");
    let log = place.log_of("web-1.log");
    assert_eq!(log.matches("connected to the hub").count(), 2, "{log}");
}

#[test]
fn an_agent_that_stops_serves_what_it_has_and_is_gone() {
    let place = Place::new(&["web-1"]);
    let (_hub, address) = place.hub("127.0.0.1:0");
    let mut agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    let words = ["run", "web-1", "echo on; read line; echo $line"];
    let mut client = place.framefd(&words).stdin(Stdio::piped()).spawn().unwrap();
    read_until(client.stdout.as_mut().unwrap(), "on\n");
    kill(&agent.0, "-TERM");
    place.eventually_lists("web-1  0 free  1 lent");
    client.stdin.take().unwrap().write_all(b"done\n").unwrap();
    assert_eq!(client.wait_with_output().unwrap().stdout, b"done\n");
    assert_eq!(agent.0.wait().unwrap().code(), Some(0));
    let why = "the agent is not connected; it was ";
    eventually("it is gone", || place.run("web-1", "true").2.contains(why));
    refused(&mut place.framefd(&["run", "web-1", "true"]), "framefd hub list shows who is there");
}

#[test]
fn who_cannot_be_reached_is_said_on_one_line() {
    let place = Place::new(&["web-1", "web-2"]);
    let run = |host: &str| place.framefd(&["run", "--connect-timeout", "1", host, "true"]);
    refused(&mut run("web-1"), "socket: start framefd hub, or say where it is (--socket, via)");
    let list = ["hub", "list"];
    refused(&mut place.framefd(&list), "no hub is at ");
    let is_root = rustix::process::geteuid().is_root();
    let nowhere = if is_root { "/run/framefd-hub" } else { "there is no XDG_RUNTIME_DIR for the" };
    refused(&mut place.0.framefd(&list), nowhere);
    let (_hub, address) = place.hub("127.0.0.1:0");
    refused(
        &mut run("web-2"),
        "the agent has not connected since the hub was started; framefd hub",
    );
    refused(&mut run("web-3"), "web-3: the hub at ");
    refused(&mut run("web-3"), "no agent is called so; framefd hub list shows who is there");
    let mut plain = place.framefd(&["run", "--plain", "web-1", "true"]);
    refused(&mut plain, "connections that a hub lends are sealed: leave out plain");
    // An agent that is frozen makes no new connections.
    let agent = place.agent(&address, "web-1", &["--hold", "1"]);
    place.eventually_lists("web-1  1 free");
    kill(&agent.0, "-STOP");
    let why = "timed out: does the server speak sealed?";
    refused(&mut run("web-1"), why);
    refused(&mut run("web-1"), "all connections of this agent are in use; try again, or give its");
    kill(&agent.0, "-CONT");
    place.eventually_lists("web-1  1 free");
    assert_eq!(place.run("web-1", "echo a").1, "a\n");
}

#[test]
fn whoever_has_the_hub_cannot_give_orders() {
    let place = Place::new(&["web-1"]);
    let (_hub, address) = place.hub("127.0.0.1:0");
    let agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    for id in ["web-1", "me"] {
        let words = ["run", "-k", "hub/web-1", "--id", id, "web-1", "true"];
        refused(&mut place.framefd(&words), "the server refused the handshake");
    }
    // As a server of this name, and as another agent.
    let words = ["serve", "--dial", &address, "--dial-key", "keys/me", "--name", "web-1", "--exec"];
    let mut same = place.framefd(&[&words[..], &["--keys", "keys"]].concat());
    refused(&mut same, "it is the key of me as well, so the hub could give orders: make another");
    let mut same = place.framefd(&[&words[..], &["-k", "keys/me"]].concat());
    refused(&mut same, "it is the key of the clients' as well");
    // Nor once it runs, over the connections that the hub has.
    fs::copy(place.0.home().join("hub/web-1"), place.0.home().join("keys/web-1")).unwrap();
    kill(&agent.0, "-HUP");
    let why = "the keys stay as they are: --dial-key";
    eventually("it is said", || place.log_of("web-1.log").contains(why));
    let words = ["run", "-k", "hub/web-1", "--id", "web-1", "web-1", "true"];
    refused(&mut place.framefd(&words), "the server refused the handshake");
    assert_eq!(place.run("web-1", "echo a").1, "a\n");
}

/// The bytes of docs/protocol.md, in a program that takes agents without a hub.
#[test]
fn a_program_of_ones_own_can_take_the_agents() {
    let place = Place::new(&["web-1"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let _agent = place.agent(&address, "web-1", &["--hold", "1"]);
    let (mut socket, _) = listener.accept().unwrap();
    let ring = Keyring::new();
    ring.load(&place.0.home().join("hub"), Rules::default()).unwrap();
    let name = |name: &[u8]| ServerName::new(name).unwrap();
    let terms = Terms { name: name(b"hub"), client_serves: true };
    let mut seal = SealedStream::server(&Arc::new(ring), &terms).unwrap();
    let mut has_ended = false;
    while seal.read().unwrap() != Read::End {
        if seal.proof().unwrap().is_some() && !has_ended {
            seal.write(&[], true).unwrap();
            has_ended = true;
        }
        let output = seal.output(0).unwrap().to_vec();
        socket.write_all(&output).unwrap();
        assert!(seal.output(output.len()).unwrap().is_empty());
        if !has_ended || seal.proof().unwrap().is_some() {
            let mut received = [0; 1000];
            let got = socket.read(&mut received).unwrap();
            seal.space().unwrap().extend_from_slice(&received[..got]);
        }
    }
    assert_eq!(seal.proof().unwrap().unwrap().key_id.as_str(), "web-1");
    let mut agent = Connection::new(OwnedFd::from(socket), ConnectionOptions::default()).unwrap();
    let key = framefd::auth::load(&place.0.home().join("keys/me"), Rules::default()).unwrap();
    let terms = Terms { name: name(b"web-1"), client_serves: false };
    let time = Duration::from_secs(20);
    agent.seal_client(&key, &KeyId::new(b"me").unwrap(), &terms, None, time).unwrap();
    let request = Request { command: b"echo a", ..Request::default() };
    assert_eq!(exec::call(&mut agent, &request, None).unwrap().stdout(), b"a\n");
    // It has made the next connection meanwhile.
    listener.accept().unwrap();
}

#[test]
fn who_proves_nothing_is_no_agent() {
    let place = Place::new(&["web-1"]);
    let (hub, address) = place.hub("127.0.0.1:0");
    fs::create_dir(place.0.home().join("away")).unwrap();
    generate(&place.0.home().join("away/web-1")).unwrap();
    let words = ["serve", "--dial", &address, "--dial-key", "away/web-1", "--exec", "--keys"];
    let words = [&words[..], &["keys", "--name", "web-1", "--log", "web-1.log"]].concat();
    let _liar = Running(place.framefd(&words).spawn().unwrap());
    let why = "the hub refused the handshake: does it have this key (--dial-key), under the name";
    eventually("it is said", || place.log_of("web-1.log").contains(why));
    eventually("the hub says it", || place.log_of("hub.log").contains("refused"));
    // Strangers, who say nothing or nonsense.
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..80).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The oldest makes room, but not before it had a chance to prove a key.
    while !matches!(silent[0].read(&mut [0; 64]), Ok(0) | Err(_)) {}
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    silent[79].write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(matches!(silent[79].read(&mut [0]), Ok(0) | Err(_)));
    let _agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    // An agent whose key has left is gone, and one whose key stays is not.
    fs::rename(place.0.home().join("hub/web-1"), place.0.home().join("hub/web-2")).unwrap();
    kill(&hub.0, "-HUP");
    eventually("it is gone", || !place.list().contains("web-1"));
    assert!(place.run("web-1", "true").2.contains("no agent is called so"));
    fs::write(place.0.home().join("hub/bad"), "short").unwrap();
    kill(&hub.0, "-HUP");
    eventually("it is said", || place.log_of("hub.log").contains("the keys stay as they are"));
}

#[test]
fn a_hub_is_for_its_own_user() {
    let place = Place::new(&["web-1"]);
    let (mut hub, address) = place.hub("127.0.0.1:0");
    let _agent = place.agent(&address, "web-1", &[]);
    place.eventually_lists("web-1  2 free");
    let socket = place.0.home().join("socket");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
    if rustix::process::geteuid().is_root() {
        let wide = |path: &std::path::Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        };
        wide(place.0.directory.path());
        wide(&place.0.home());
        let list = || {
            let mut list = place.framefd(&["hub", "list", "--socket", "socket"]);
            list.uid(65534);
            list
        };
        refused(&mut list(), "it is for its own user only");
        wide(&socket);
        refused(&mut list(), "");
        assert!(place.log_of("hub.log").contains("of user 65534: refused"));
    }
    kill(&hub.0, "-TERM");
    assert_eq!(hub.0.wait().unwrap().code(), Some(0));
    assert!(!socket.exists(), "it is removed");
}

#[test]
fn what_is_no_hub_is_refused() {
    let place = Place::new(&["web-1"]);
    let hub = |words: &[&str]| place.framefd(&[&["hub"], words].concat());
    refused(&mut hub(&[]), "nowhere to listen: give --listen ADDRESS");
    refused(&mut hub(&["--listen", "127.0.0.1:0"]), "no keys: give --keys DIRECTORY");
    let file = ["--listen", "127.0.0.1:0", "--keys", "keys/me"];
    refused(&mut hub(&file), "it is a file: give a directory with one for each agent");
    let serve = |words: &[&str]| place.framefd(&[&["serve", "--exec"], words].concat());
    let dial = ["--dial", "127.0.0.1:1"];
    refused(&mut serve(&[&dial[..], &["--plain"]].concat()), "see framefd serve --help");
    let no_key = [&dial[..], &["--name", "a", "--dial-key", "none", "--keys", "keys"]].concat();
    refused(&mut serve(&no_key), "make one with framefd key new, for this host and the hub");
    let no_clients = [&dial[..], &["--name", "a", "--dial-key", "hub/web-1"]].concat();
    refused(&mut serve(&no_clients), "no key: give -k FILE or --keys DIRECTORY");
    for option in ["--dial-key", "--name"] {
        let words = [&dial[..], &[option, "x", "--keys", "keys"]].concat();
        refused(&mut serve(&words), "required arguments were not provided");
    }
}
