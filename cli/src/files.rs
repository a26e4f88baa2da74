//! Files and trees: sent, fetched, and looked at.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use framefd::file::{self, Kind, Local, Stat, Transfer, Transferred};
use framefd::frame::{Connection, Deadline, TimeLimit};
use framefd::{ErrorKind, limits};
use rustix::fs::{Mode, OFlags};

use crate::args::{Copy, Get, Links, Look, Mkdir, Peer, Put};
use crate::failure::{Failure, Result, SOME};
use crate::hosts::{Hosts, Target, split_place};
use crate::output::{one_line, say, show, shown, unwritten};
use crate::run::without_number;
use crate::signals::Stop;
use crate::{dial, output};

/// A connection for requests about files, which a signal ends in good order.
pub struct Session {
    pub target: Target,
    pub connection: Connection<'static>,
    stop: Stop,
    verb: &'static str,
    /// How a transfer goes on that was cut.
    pub again: &'static str,
}

impl Session {
    /// Connects to the host of HOST:PATH for a verb; returns the path as well.
    pub fn open(verb: &'static str, place: &OsStr, peer: &Peer) -> Result<(Session, Vec<u8>)> {
        let hosts = Hosts::load()?;
        let (host, path) = split_place(place, &hosts);
        let target = hosts.find(host, None, peer)?;
        let stop = Stop::default();
        let connection = dial::connection(&target, peer.connect_timeout, Some(stop.hook()))?;
        stop.watch()?;
        let again = "go on with --resume";
        Ok((Session { target, connection, stop, verb, again }, path.to_vec()))
    }

    pub fn failed(&self, name: &[u8], error: &framefd::Error) -> Failure {
        let again = self.again;
        if let (ErrorKind::Canceled, Some(number)) = (error.kind(), self.stop.number()) {
            return Failure::by_signal(number, &format!("interrupted: {again}"));
        }
        let place = format!("{}:{}", self.target.shown, one_line(name));
        Failure::of_file(&place, self.verb, again, &self.target, error)
    }
}

/// Runs `framefd put`.
pub fn put(arguments: &Put) -> Result<u8> {
    let Some((place, locals @ [_, ..])) = arguments.names.split_last() else {
        return Err(Failure::new("put: LOCAL and HOST:PATH are needed: see framefd put --help"));
    };
    let (mut session, path) = Session::open("put", place, &arguments.copy.peer)?;
    let is_inside = path.is_empty() || path.ends_with(b"/");
    if locals.len() > 1 && !is_inside {
        let line =
            format!("{}: several files go into a directory: end it with a slash", shown(place));
        return Err(Failure::new(line));
    }
    let mut worst = 0;
    for local in locals {
        let name = match Path::new(local).file_name() {
            _ if !is_inside => path.clone(),
            Some(last) if *local != *"-" => [&path[..], last.as_bytes()].concat(),
            _ if arguments.copy.recursive && !path.is_empty() => path[..path.len() - 1].to_vec(),
            _ => {
                let line =
                    format!("{}: it has no name of its own: give one in HOST:PATH", shown(local));
                return Err(Failure::new(line));
            }
        };
        match put_one(&mut session, arguments, local, &name) {
            Ok(()) => {}
            // The others can still be sent.
            Err(failure)
                if failure.status == SOME && session.connection.state().broken.is_none() =>
            {
                say(&failure.line);
                worst = SOME;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(worst)
}

fn put_one(session: &mut Session, arguments: &Put, local: &OsString, name: &[u8]) -> Result<()> {
    let (path, copy) = (Path::new(local), &arguments.copy);
    let whole;
    let mut what = if *local == *"-" || path.metadata().is_ok_and(|meta| is_stream(&meta)) {
        let path = if *local == *"-" { Path::new("/dev/stdin") } else { path };
        whole = spooled(session, path)?;
        Transfer::fd(name, whole.as_fd())
    } else {
        let meta = path.metadata().map_err(|error| here(path, &error))?;
        if meta.is_dir() && !copy.recursive {
            let line = format!("{}: it is a directory: give -r", shown(local));
            return Err(Failure::new(line).with_status(SOME));
        }
        if meta.is_dir() { Transfer::tree(name, path) } else { Transfer::path(name, path) }
    };
    what.parents = arguments.parents;
    transfer(session, copy, what, Direction::Put)
}

fn is_stream(meta: &fs::Metadata) -> bool {
    let kind = meta.file_type();
    kind.is_fifo() || kind.is_char_device()
}

/// All of a stream: a put says first how long it is. A file is what it is.
fn spooled(session: &Session, path: &Path) -> Result<File> {
    let failed = |error: io::Error| here(path, &error);
    let mut stream: File = if path == Path::new("/dev/stdin") {
        io::stdin().as_fd().try_clone_to_owned().map_err(failed)?.into()
    } else {
        File::open(path).map_err(failed)?
    };
    if stream.metadata().is_ok_and(|meta| meta.is_file()) {
        return Ok(stream);
    }
    let directory = std::env::temp_dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let here_too = |error: io::Error| here(&directory, &error);
    let file = rustix::fs::open(&directory, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(file.map_err(|errno| here_too(errno.into()))?);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if let Some(number) = session.stop.number() {
            return Err(Failure::by_signal(number, "interrupted; nothing was sent"));
        }
        // A read would not end at a signal.
        if !output::is_readable(stream.as_fd(), LOOK) {
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => file.write_all(&buffer[..got]).map_err(here_too)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    file.rewind().map_err(here_too)?;
    Ok(file)
}

/// Runs `framefd get`.
pub fn get(arguments: &Get) -> Result<u8> {
    let copy = &arguments.copy;
    let (mut session, path) = Session::open("get", &arguments.remote, &copy.peer)?;
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    let last = OsStr::from_bytes(path.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
    let is_tree = copy.recursive && is_directory(&mut session, path)?;
    let given = arguments.local.as_deref().map(Path::new);
    if given == Some(Path::new("-")) {
        if copy.recursive || copy.resume || copy.in_place {
            return Err(Failure::new("-r, --resume and --in-place do not go with standard output"));
        }
        let stdout = io::stdout();
        let what = Transfer::fd(path, stdout.as_fd());
        return transfer(&mut session, copy, what, Direction::Show).map(|()| 0);
    }
    let local: PathBuf = match given {
        Some(directory) if !is_tree && directory.is_dir() => directory.join(last),
        Some(local) => local.to_owned(),
        None => PathBuf::from(last),
    };
    if local.as_os_str().is_empty() {
        let line = format!("{}: no name for it here: give LOCAL", shown(&arguments.remote));
        return Err(Failure::new(line));
    }
    let what = if is_tree { Transfer::tree(path, &local) } else { Transfer::path(path, &local) };
    transfer(&mut session, copy, what, Direction::Get).map(|()| 0)
}

fn is_directory(session: &mut Session, path: &[u8]) -> Result<bool> {
    match file::stat(&mut session.connection, path, PATIENT) {
        Ok(stat) => Ok(stat.kind == Kind::Dir),
        Err(error) => Err(session.failed(path, &error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Put,
    Get,
    /// To standard output.
    Show,
}

/// Does it, with a bar, and says what was done.
fn transfer(
    session: &mut Session,
    copy: &Copy,
    what: Transfer<'_>,
    direction: Direction,
) -> Result<()> {
    let bar = Bar::new(copy.quiet);
    let draw = |_: &[u8], done: u64, total: u64| {
        bar.draw(done, total);
        ControlFlow::Continue(())
    };
    let so_far = Cell::new(Transferred::default());
    let what = Transfer {
        resume: copy.resume,
        in_place: copy.in_place,
        checksum: !copy.no_checksum,
        preserve: what.tree,
        links: if what.tree { links(copy.links) } else { file::Links::Skip },
        progress: Some(&draw),
        so_far: Some(&so_far),
        ..what
    };
    let outcome = patiently(session, &what, direction);
    bar.end();
    let is_done = match &outcome {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::Incomplete,
    };
    if is_done && !copy.quiet && direction != Direction::Show {
        show(&summary(&what, &so_far.get(), direction))?;
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if direction == Direction::Show && error.errno() == BROKEN_PIPE => {
            Err(unwritten("standard output", rustix::io::Errno::PIPE))
        }
        Err(error) => Err(session.failed(what.name, &error)),
    }
}

/// With --resume it waits while the file is busy: the last attempt may have been interrupted just
/// now. Once that is silent for 2 s, this one takes the file over.
fn patiently(
    session: &mut Session,
    what: &Transfer<'_>,
    direction: Direction,
) -> framefd::Result<Transferred> {
    let begin = Instant::now();
    loop {
        let connection = &mut session.connection;
        let outcome = match direction {
            Direction::Put => file::put(connection, what, None),
            Direction::Get | Direction::Show => file::get(connection, what, None),
        };
        match outcome {
            Err(error)
                if error.kind() == ErrorKind::RemoteBusy
                    && what.resume
                    && begin.elapsed() < PATIENCE
                    && session.stop.number().is_none() => {}
            outcome => return outcome,
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn summary(what: &Transfer<'_>, done: &Transferred, direction: Direction) -> Vec<u8> {
    let verb = if direction == Direction::Put { "put" } else { "get" };
    let name = match what.local {
        Local::Path(path) if direction == Direction::Get => shown(path.as_os_str()),
        _ => one_line(what.name),
    };
    let said = if what.tree {
        let Transferred { bytes, files, directories, links, skipped, failed, .. } = done;
        let left_out = skipped + failed;
        format!(
            "{bytes} bytes, files: {files}, directories: {directories}, links: {links}, \
             left out: {left_out}"
        )
    } else {
        let digest = done.sha256.map(|digest| format!(", sha256 {digest}"));
        format!("{} bytes{}", done.bytes, digest.unwrap_or_default())
    };
    format!("{verb} {name}: {said}\n").into_bytes()
}

pub fn links(links: Links) -> file::Links {
    match links {
        Links::Skip => file::Links::Skip,
        Links::Refuse => file::Links::Refuse,
        Links::Follow => file::Links::Follow,
        Links::Copy => file::Links::Copy,
    }
}

fn here(path: &Path, error: &io::Error) -> Failure {
    let line = format!("{}: {}", shown(path.as_os_str()), without_number(error));
    Failure::new(line).with_status(SOME)
}

// ---- what is there

/// Runs `framefd ls`.
pub fn ls(arguments: &Look) -> Result<u8> {
    let (mut session, path) = Session::open("ls", &arguments.remote, &arguments.peer)?;
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    if !path.is_empty() {
        let stat = file::stat(&mut session.connection, path, PATIENT)
            .map_err(|error| session.failed(path, &error))?;
        if stat.kind != Kind::Dir {
            return show(&line(&stat, path)).map(|()| 0);
        }
    }
    let mut entries = file::list(&mut session.connection, path, PATIENT)
        .map_err(|error| session.failed(path, &error))?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let lines: Vec<u8> = entries.iter().flat_map(|entry| line(&entry.stat, &entry.name)).collect();
    show(&lines).map(|()| 0)
}

/// Runs `framefd stat`.
pub fn stat(arguments: &Look) -> Result<u8> {
    let (mut session, path) = Session::open("stat", &arguments.remote, &arguments.peer)?;
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    let stat = file::stat(&mut session.connection, path, PATIENT)
        .map_err(|error| session.failed(path, &error))?;
    show(&line(&stat, path)).map(|()| 0)
}

/// Runs `framefd mkdir`.
pub fn mkdir(arguments: &Mkdir) -> Result<u8> {
    let (mut session, path) = Session::open("mkdir", &arguments.remote, &arguments.peer)?;
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    file::mkdir(&mut session.connection, path, None, arguments.parents, PATIENT)
        .map_err(|error| session.failed(path, &error))?;
    Ok(0)
}

/// One line for one file, whatever its name.
fn line(stat: &Stat, name: &[u8]) -> Vec<u8> {
    let kind = match stat.kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Other => "other",
    };
    let when = utc(stat.mtime.div_euclid(1000));
    format!("{kind} {:04o} {} {when} {}\n", stat.mode, stat.size, one_line(name)).into_bytes()
}

/// Seconds since 1970 as a date, by the rule of the Gregorian calendar's 400 years.
fn utc(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, so that the leap day is the last of its year.
    let day = day.saturating_add(719_468);
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

// ---- the bar

/// How far a transfer is, on a terminal.
struct Bar {
    is_shown: bool,
    begin: Instant,
    due: Cell<Option<Instant>>,
}

impl Bar {
    fn new(quiet: bool) -> Bar {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_shown = !quiet && !is_dumb && io::stderr().is_terminal();
        Bar { is_shown, begin: Instant::now(), due: Cell::new(None) }
    }

    fn draw(&self, done: u64, total: u64) {
        let now = Instant::now();
        if !self.is_shown || self.due.get().is_some_and(|due| now < due) {
            return;
        }
        self.due.set(Some(now + Duration::from_millis(100)));
        let part = |scale: u128| match total {
            0 => scale,
            // The other side may have said less than it has.
            _ => u128::from(done.min(total)) * scale / u128::from(total),
        };
        let filled = usize::try_from(part(WIDTH as u128)).unwrap_or(0).min(WIDTH);
        let rate = u128::from(done) * 10 / (self.begin.elapsed().as_millis().max(1) * 1000);
        let (bar, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
        let (percent, whole, tenth) = (part(100), rate / 10, rate % 10);
        // Nobody may be left who sees it.
        let _ = write!(io::stderr(), "\r[{bar}{empty}] {percent:3}% {whole:5}.{tenth} MB/s");
    }

    fn end(&self) {
        if self.due.get().is_some() {
            let _ = write!(io::stderr(), "\r{}\r", " ".repeat(WIDTH + 22));
        }
    }
}

const WIDTH: usize = 40;
const PATIENCE: Duration = Duration::from_secs(3);
/// For requests that are answered at once: as for a transfer.
const PATIENT: TimeLimit =
    TimeLimit { deadline: Deadline::NEVER, stall: Some(limits::STALL_TIMEOUT) };
/// Between two looks for a signal.
const LOOK: Duration = Duration::from_millis(500);
const BROKEN_PIPE: i32 = rustix::io::Errno::PIPE.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_a_date() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
