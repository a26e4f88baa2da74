//! The process with the server: it starts the clients, and watches what the server uses.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use framefd::Result;
use framefd::file;
use framefd::frame::{address_of, listen};
use framefd::serve::{BodyMode, Commands, Counters, Files, Limits, Server, ServerOptions};
use tempfile::TempDir;

use crate::content::Random;
use crate::plan::Plan;
use crate::role::{Role, say};
use crate::talk::Work;
use crate::usage::{Usage, processor_time};
use crate::world::{LONG, World};

/// One server, from its start to its end.
pub fn run(world: &World, plan: &Plan) {
    let mut soak = Soak::start(world, plan);
    soak.warm_up();
    soak.crowd();
    soak.dawdlers();
    soak.sequence();
    soak.storm();
    soak.stop();
}

struct Soak {
    world: World,
    plan: Plan,
    random: Random,
    server: Arc<Server>,
    thread: Option<JoinHandle<Result<()>>>,
    /// What it used after the warm-up, without a client.
    before: Usage,
    processes: u64,
    _directories: [TempDir; 2],
}

impl Soak {
    fn start(world: &World, plan: &Plan) -> Soak {
        let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [files, sockets] = directories.each_ref().map(TempDir::path);
        let root: OwnedFd = std::fs::File::open(files).unwrap().into();
        let limits = Limits {
            max_connections: plan.crowd + 2000,
            max_unauthenticated: plan.dawdlers + 200,
            max_commands: LANE,
            max_transfers: LANE,
            ..Limits::default()
        };
        let (access, workers) = (world.access(), world.workers);
        let options =
            ServerOptions { access, workers, limits, hello: true, ..ServerOptions::default() };
        let server = Arc::new(Server::new(options).unwrap());
        serve_work(&server).unwrap();
        let mut commands = Commands::default();
        // Many clients leave their commands, which have no places for long then.
        commands.options.close_grace = Duration::from_millis(20);
        server.serve_commands(commands).unwrap();
        let options = file::ServeOptions::default();
        server.serve_files(Files { root, options, policy: None }).unwrap();
        // There are not ports enough for all connections of one address.
        let mut addresses: Vec<String> = (1..=4).map(|n| format!("127.0.0.{n}:0")).collect();
        addresses.push(format!("unix:{}", sockets.join("socket").display()));
        for address in &mut addresses {
            let listening = listen(&address, 0, 0).unwrap();
            if address.starts_with("127") {
                let bound = address_of(listening.as_fd(), false).unwrap();
                *address = String::from_utf8(bound).unwrap();
            }
            server.listen(listening).unwrap();
        }
        let own = Arc::clone(&server);
        let name = std::thread::Builder::new().name(SERVER[0].into());
        let thread = Some(name.spawn(move || own.run()).unwrap());
        Soak {
            world: World { addresses, ..world.clone() },
            plan: plan.clone(),
            random: world.random(0),
            server,
            thread,
            before: Usage::now(),
            processes: 0,
            _directories: directories,
        }
    }

    fn role(&mut self, role: &str, count: usize, time: Duration) -> Role {
        self.processes += 1;
        Role::start(&World {
            role: role.into(),
            process: self.processes,
            count,
            time,
            ..self.world.clone()
        })
    }

    fn counters(&self) -> Counters {
        self.server.counters()
    }

    /// Waits until no client is left; what the server uses then.
    #[track_caller]
    fn calm(&self) -> Usage {
        let end = Instant::now() + LONG;
        while self.counters().connections_now > 0 {
            assert!(Instant::now() < end, "clients stay: {:?}", self.counters());
            sleep(Duration::from_millis(5));
        }
        Usage::now()
    }

    /// The same, which must be what it used before.
    #[track_caller]
    fn is_as_before(&self, when: &str) {
        let mut now = self.calm();
        let end = Instant::now() + LONG;
        // Threads that a command or a transfer needed end a while after it.
        let most = self.before.threads + if self.plan.waits_for_threads { 0 } else { 2 * LANE };
        while now.threads > most && Instant::now() < end {
            sleep(Duration::from_millis(100));
            now = Usage::now();
        }
        let before = self.before;
        assert!(
            now.descriptors == before.descriptors
                && now.threads <= most
                && now.children == 0
                && now.memory <= before.memory + GROWTH,
            "{when}: {now:?}, and {before:?} before"
        );
    }

    /// What comes once, and stays: memory of the allocator, places in tables. The first thousands
    /// show how much memory an idle connection takes.
    fn warm_up(&mut self) {
        self.sequence_of(20);
        let small = self.calm();
        let mut crowd = self.gather();
        sleep(self.plan.rest);
        let taken = Usage::now().memory.saturating_sub(small.memory);
        figure("bytes of an idle connection", taken / self.plan.crowd as u64);
        crowd.tell("go");
        crowd.tell("end");
        crowd.finish(4 * LONG);
        let clients = [
            self.role("talkers", self.plan.talkers, self.plan.warm),
            self.role("storm", self.plan.faults, self.plan.warm),
            self.role("flood", 1, self.plan.warm),
        ];
        for client in clients {
            client.finish(self.plan.warm + LONG);
        }
        // The threads that it begins with are all that it keeps.
        self.before = Usage { threads: small.threads, ..self.calm() };
        figure("memory after the warm-up, MiB", mib(self.before.memory));
    }

    /// Thousands of connections.
    fn gather(&mut self) -> Role {
        let crowd = self.role("crowd", self.plan.crowd, LONG);
        crowd.hear("ready", 4 * LONG);
        assert_eq!(self.counters().connections_now, self.plan.crowd as u64);
        crowd
    }

    /// They are idle, while others are not.
    fn crowd(&mut self) {
        let active = self.plan.active;
        self.steady(&format!("{active} clients alone"), active);
        let mut crowd = self.gather();
        sleep(self.plan.rest);
        let start = processor_time(&SERVER);
        sleep(self.plan.idle);
        let used = processor_time(&SERVER).saturating_sub(start);
        figure(
            &format!("{} idle for {:.1} s: ms", self.plan.crowd, self.plan.idle.as_secs_f32()),
            format!("{:.2}", used.as_secs_f64() * 1e3),
        );
        assert!(used < self.plan.idle / 20, "idle connections take {used:?}");
        self.steady(&format!("{active} clients beside them"), active);
        crowd.tell("go");
        crowd.hear("alive", 4 * LONG);
        crowd.tell("end");
        crowd.finish(LONG);
        self.is_as_before("after the idle ones");
    }

    /// So many clients, which ask for one small thing after the other.
    fn steady(&mut self, who: &str, count: usize) {
        let start = processor_time(&SERVER);
        let clients = self.role("steady", count, self.plan.steady);
        let said = clients.hear("asked", self.plan.steady + LONG);
        clients.finish(LONG);
        let used = processor_time(&SERVER).saturating_sub(start);
        let said: Vec<u64> = said.split(' ').map(|word| word.parse().unwrap()).collect();
        figure(&format!("{who}: µs of the server a request"), micros(used, said[0]));
        figure(&format!("{who}: p50, p99 in µs"), format!("{} {}", said[1], said[2]));
    }

    /// Those that send nothing, or a byte now and then.
    fn dawdlers(&mut self) {
        self.steady("one client alone", 1);
        let mut slow = self.role("dawdlers", self.plan.dawdlers, self.plan.pause);
        slow.hear("ready", LONG);
        self.steady(&format!("one among {} that dawdle", self.plan.dawdlers), 1);
        slow.tell("end");
        slow.finish(LONG);
        self.is_as_before("after those that dawdle");
    }

    fn sequence(&mut self) {
        let start = Instant::now();
        self.sequence_of(self.plan.sequence);
        figure("connections one after the other", self.plan.sequence);
        figure("µs for each", micros(start.elapsed(), self.plan.sequence as u64));
        self.is_as_before("after connections in sequence");
    }

    fn sequence_of(&mut self, count: usize) {
        let clients = self.role("sequence", count, LONG);
        clients.finish(20 * LONG);
    }

    /// Everything at once, with clients that break rules and are killed. Those that do not get
    /// every reply.
    fn storm(&mut self) {
        let end = Instant::now() + self.plan.storm;
        let good = self.role("talkers", self.plan.talkers, self.plan.storm);
        let flood = self.role("flood", 1, self.plan.storm);
        let mut dawdlers = self.role("dawdlers", 100, self.plan.pause);
        let (mut kills, mut doomed) = (0, Vec::new());
        while Instant::now() < end {
            while doomed.len() < DOOMED {
                let (role, count) = match self.random.below(8) {
                    0 => ("talkers", 8),
                    1 => ("crowd", 100),
                    2 => ("flood", 1),
                    _ => ("storm", self.plan.faults),
                };
                doomed.push(self.role(role, count, self.plan.storm * 2));
            }
            sleep(Duration::from_millis(self.random.below(self.plan.life)));
            let index = usize::try_from(self.random.below(doomed.len() as u64)).unwrap();
            doomed.swap_remove(index).kill();
            kills += 1;
        }
        doomed.into_iter().for_each(Role::kill);
        let answered = good.hear("answered", LONG);
        let flooded = flood.hear("flooded", LONG);
        good.finish(LONG);
        flood.finish(LONG);
        dawdlers.tell("end");
        dawdlers.finish(LONG);
        figure("replies compared in the storm", answered.split(' ').next().unwrap());
        figure("frames of one that floods", flooded);
        figure("processes killed", kills);
        self.is_as_before("after the storm");
        figure("memory after all of it, MiB", mib(self.calm().memory));
        figure(
            "descriptors, threads",
            format!("{} {}", self.before.descriptors, Usage::now().threads),
        );
    }

    /// What was sent before the stop is answered.
    fn stop(&mut self) {
        let mut clients = self.role("talkers", self.plan.talkers, LONG);
        let requests = self.counters().requests;
        let end = Instant::now() + LONG;
        while self.counters().requests < requests + 500 {
            assert!(Instant::now() < end, "no client comes");
            sleep(Duration::from_millis(5));
        }
        clients.tell("stopping");
        clients.hear("stopping", LONG);
        let start = Instant::now();
        self.server.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
        figure("time of a stop under load, ms", start.elapsed().as_millis());
        let said = clients.hear("answered", LONG);
        clients.finish(LONG);
        figure("replies, and busy, around it", said);
        let counters = self.counters();
        assert_eq!((counters.connections_now, counters.requests_now), (0, 0));
        figure("connections in all", counters.connections);
        figure("requests in all", counters.requests);
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.server.stop();
            self.server.stop();
            let _ = thread.join();
        }
    }
}

/// The handlers of the soak: they check what they get, and send what can be checked.
fn serve_work(server: &Server) -> Result<()> {
    server.handle("work", BodyMode::Whole, |connection, request| {
        let (header, body) = Work::read(request.header)?.reply(request.body)?;
        // Without workers a wait for its client would be one for all.
        connection.reply(request.header.text(), Some(&header), &body, Duration::ZERO)
    })?;
    server.handle("pieces", BodyMode::Streamed, |connection, request| {
        let work = Work::read(request.header)?;
        let (mut body, mut piece) = (Vec::new(), vec![0; 10_000]);
        loop {
            match connection.read(&mut piece, LONG)? {
                0 => break,
                got => body.extend_from_slice(&piece[..got]),
            }
        }
        let (header, body) = work.reply(&body)?;
        connection.reply(request.header.text(), Some(&header), &body, None)
    })
}

/// A row of the table.
fn figure(what: &str, value: impl std::fmt::Display) {
    say(&format!("{what} = {value}"));
}

fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn micros(time: Duration, count: u64) -> String {
    let tenths = time.as_nanos() / u128::from(count) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The thread that runs the server, and those that it starts.
const SERVER: [&str; 2] = ["soak-server", "framefd"];
/// By how much memory may grow, whatever comes: the order of things is another each time.
const GROWTH: u64 = 8 << 20;
/// Commands and transfers at once.
const LANE: usize = 4;
/// Processes at once that are killed at a random time.
const DOOMED: usize = 3;
