//! What the program understands: its verbs and their options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs commands and copies files on other machines, over sealed connections.
#[derive(Parser)]
#[command(name = "framefd", version, after_help = HOSTS, disable_help_subcommand = true)]
#[command(max_term_width = 100, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    Serve(Serve),
    Run(Run),
    Shell(Shell),
    Put(Put),
    Get(Get),
    Ls(Look),
    Stat(Look),
    Mkdir(Mkdir),
    Sync(Sync),
    Pipe(Pipe),
    Forward(Forward),
    Ssh(Ssh),
    Hub(Hub),
    Key(Key),
}

/// How to reach a host. What is given here comes before what the file of hosts says.
#[derive(Args, Clone, Default)]
pub struct Peer {
    /// The key that this side and the host have
    #[arg(short, long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The host's name for that key; none if it has only one
    #[arg(long)]
    pub id: Option<OsString>,
    /// The name that the host gives itself
    #[arg(long)]
    pub name: Option<OsString>,
    /// Not sealed: with a key, only this side is proved; everything can be read on its way
    #[arg(long)]
    pub plain: bool,
    /// How long to connect
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub connect_timeout: Duration,
}

/// Serve commands and files to those who hold a key.
///
/// It listens where it is told to, and on the sockets that systemd has opened for it: then the
/// first lines of the output are "listening on ADDRESS". Nothing is served that is not asked for
/// here. HUP reads the keys and opens the log again; the connections of keys that are gone
/// end. INT or TERM stops: requests that have come are answered. A second one stops at once.
/// The log has a JSON object on each line, also for each request when it is over.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Serve {
    /// Where; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<OsString>,
    /// One connection, which is standard input: for inetd, socat EXEC, systemd's Accept=yes
    #[arg(long, conflicts_with = "listen")]
    pub stdio: bool,
    /// A hub to connect to, which lends the connections to clients; may be given several times
    #[arg(long, value_name = "ADDRESS", requires = "dial_key", requires = "name")]
    #[arg(conflicts_with_all = ["stdio", "plain"])]
    pub dial: Vec<OsString>,
    /// The key that this host and the hub have, and no client
    #[arg(long, value_name = "FILE", requires = "dial")]
    pub dial_key: Option<PathBuf>,
    /// How many connections wait at each hub
    #[arg(long, value_name = "N", default_value = "2", requires = "dial")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=32))]
    pub hold: u16,
    /// Run commands, with all rights of this user
    #[arg(long)]
    pub exec: bool,
    /// Send the files below it
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// Store files as well
    #[arg(long, requires = "root")]
    pub writable: bool,
    /// The key of the clients, who need no --id
    #[arg(short, long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A directory of keys, one for each client; the name of a file is the id
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "key")]
    pub keys: Option<PathBuf>,
    /// What each key may do; without it, everything that is served
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The name of this host, for --name of its clients and for hubs
    #[arg(long)]
    pub name: Option<OsString>,
    /// Not sealed: with a key, only clients are proved; everything can be read on its way
    #[arg(long)]
    pub plain: bool,
    /// How long a command may run; without it, as long as it likes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// The most connections
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub max: u32,
    /// The most commands at a time; others wait
    #[arg(long, value_name = "N", default_value = "64", requires = "exec")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_commands: u32,
    /// The log, or "journal" for that of systemd; otherwise it is standard error
    #[arg(long, value_name = "FILE|journal")]
    pub log: Option<PathBuf>,
}

/// Run a command on a host, or on many.
///
/// One COMMAND is shell code. After -- come a program and its arguments, without a shell.
/// Standard input is the command's, unless it is a terminal; output comes as it is written.
/// INT, TERM and HUP go to the command; a second one ends the connection. The exit status is the
/// command's, 128 and the signal if one ended it, or 255 if it could not be run.
///
/// With --hosts each line of output begins with its host, and the exit status is 0 if all
/// commands succeeded, 1 if one failed, 255 if a host could not run it.
#[derive(Args)]
#[command(override_usage = "framefd run [OPTIONS] HOST COMMAND\n       \
                            framefd run [OPTIONS] HOST -- PROGRAM [ARGUMENT]...\n       \
                            framefd run [OPTIONS] --hosts FILE|A,B,C COMMAND")]
pub struct Run {
    #[command(flatten)]
    pub peer: Peer,
    /// A name of the file of hosts, or an address; and shell code
    #[arg(value_names = ["HOST", "COMMAND"], num_args = 0..=2)]
    pub words: Vec<OsString>,
    /// A program and its arguments
    #[arg(last = true, value_names = ["PROGRAM", "ARGUMENT"], num_args = 0..)]
    pub program: Vec<OsString>,
    /// How long the command may run; a host that does not end it then is given up 10 s later
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Its working directory
    #[arg(long, value_name = "DIRECTORY")]
    pub cwd: Option<OsString>,
    /// A variable for it; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<OsString>,
    /// Give it a terminal
    #[arg(short, long, conflicts_with = "hosts")]
    pub tty: bool,
    /// Send its standard error to its standard output
    #[arg(long)]
    pub merge: bool,
    /// Its standard input
    #[arg(long, value_name = "FILE", conflicts_with = "no_input")]
    pub input: Option<PathBuf>,
    /// It has no standard input: for a loop whose lines it would read
    #[arg(short = 'n', long)]
    pub no_input: bool,
    /// Many hosts: a file with one on each line, or a list
    #[arg(long, value_name = "FILE|A,B,C")]
    pub hosts: Option<OsString>,
    /// On how many of them at a time
    #[arg(long, value_name = "N", default_value = "32", requires = "hosts")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub at_once: u16,
}

/// Open a shell on a host, with a terminal.
///
/// Enter, ~ and a dot end the connection, also if the host does not answer any more; so they do in
/// run --tty and ssh -t. Two tildes are one.
#[derive(Args)]
pub struct Shell {
    #[command(flatten)]
    pub peer: Peer,
    /// A name of the file of hosts, or an address
    pub host: OsString,
}

/// What put and get have in common.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Copy {
    #[command(flatten)]
    pub peer: Peer,
    /// Directories, with everything in them; modes and times are kept
    #[arg(short, long)]
    pub recursive: bool,
    /// Go on where the last attempt was cut; with -r, pass over files that are the same
    #[arg(long)]
    pub resume: bool,
    /// Write over a file that is there, and do not replace it
    #[arg(long)]
    pub in_place: bool,
    /// Do not compare the SHA-256 of the content
    #[arg(long)]
    pub no_checksum: bool,
    /// What to do with the symbolic links of a directory
    #[arg(long, value_enum, default_value = "skip", requires = "recursive")]
    pub links: Links,
    /// No bar and no result
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Links {
    /// Leave them out
    Skip,
    /// End at the first one
    Refuse,
    /// Send what they lead to, if that is in the directory
    Follow,
    /// Make the same links
    Copy,
}

/// Send files to a host.
///
/// PATH is below the host's root. A file goes into PATH if that ends with a slash, or is left out.
#[derive(Args)]
pub struct Put {
    #[command(flatten)]
    pub copy: Copy,
    /// Make the directories that are missing
    #[arg(long)]
    pub parents: bool,
    /// Local files, or - for standard input, and then HOST:PATH
    #[arg(value_names = ["LOCAL", "HOST:PATH"], num_args = 1.., required = true)]
    pub names: Vec<OsString>,
}

/// Fetch a file from a host.
///
/// It goes into LOCAL if that is a directory. LOCAL can be -, which is standard output; if it is
/// left out, the file gets the last part of PATH as its name here.
#[derive(Args)]
pub struct Get {
    #[command(flatten)]
    pub copy: Copy,
    #[arg(value_name = "HOST:PATH")]
    pub remote: OsString,
    #[arg(value_name = "LOCAL")]
    pub local: Option<OsString>,
}

/// Show kind, mode, size, time and name: of a directory's entries, or of a name.
#[derive(Args)]
pub struct Look {
    #[command(flatten)]
    pub peer: Peer,
    #[arg(value_name = "HOST:PATH")]
    pub remote: OsString,
}

/// Make a directory on a host.
#[derive(Args)]
pub struct Mkdir {
    #[command(flatten)]
    pub peer: Peer,
    /// Make the directories above it as well
    #[arg(short, long)]
    pub parents: bool,
    #[arg(value_name = "HOST:PATH")]
    pub remote: OsString,
}

/// Bring a directory into line with another one; one of the two is HOST:DIRECTORY.
///
/// What is in FROM is copied into TO if it is new, or has another size or time of modification.
/// Files keep their modes and times. A mode is set if it differs for the owner, or gives others
/// more. Directories that are there keep their modes, and none keeps its time. Run it again after
/// it was cut: it goes on there. Each name that is deleted is shown. A local directory with a colon
/// in its name begins with ./
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Sync {
    #[command(flatten)]
    pub peer: Peer,
    /// Compare files of the same size by their SHA-256, and not by their times
    #[arg(short, long)]
    pub checksum: bool,
    /// Delete what is in TO, a local directory, and not in FROM
    #[arg(long)]
    pub delete: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// What to do with symbolic links
    #[arg(long, value_enum, default_value = "copy")]
    pub links: Links,
    /// Show each change
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Show no name and no result
    #[arg(short, long, conflicts_with = "dry_run")]
    pub quiet: bool,
    /// A directory, or HOST:DIRECTORY
    pub from: OsString,
    /// HOST:DIRECTORY, or a directory
    pub to: OsString,
}

/// Connect standard input and output to a host, sealed.
///
/// For a program that knows only read and write. The end of standard input is passed on; the
/// other direction goes on to its own end.
#[derive(Args)]
pub struct Pipe {
    #[command(flatten)]
    pub peer: Peer,
    /// A name of the file of hosts, or an address
    pub host: OsString,
}

/// Listen, and pass connections on: sealed on one side and plain on the other.
///
/// --to-sealed takes plain connections and passes them to HOST sealed. --from-sealed takes sealed
/// connections and passes them to HOST, an address, plain. The first line of the output is
/// "listening on ADDRESS". INT or TERM ends the listening, and then the program, once the
/// connections have ended; a second one ends them.
#[derive(Args)]
pub struct Forward {
    #[command(flatten)]
    pub peer: Peer,
    /// HOST is sealed (the default)
    #[arg(long, conflicts_with = "from_sealed")]
    pub to_sealed: bool,
    /// What comes to LISTEN is sealed
    #[arg(long)]
    pub from_sealed: bool,
    /// With --from-sealed: a directory of keys, whose names are their ids
    #[arg(long, value_name = "DIRECTORY", requires = "from_sealed", conflicts_with = "key")]
    pub keys: Option<PathBuf>,
    /// The most connections at a time; more have to wait
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max: u32,
    /// An address
    pub listen: OsString,
    /// A name of the file of hosts, or an address
    pub host: OsString,
}

/// Take the place of ssh: for Ansible, git, rsync and others that call it.
///
/// What ssh accepts is accepted, and ignored if it has no meaning here; options that forward
/// something are refused. The host is looked up in the file of hosts; if it is not there, it is an
/// address with the port of -p. The user is always that of the server. Called as framefd-ssh, the
/// program does this as well.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    override_usage = "framefd ssh [--key FILE] [--id ID] \
          [--name NAME] [--plain] [SSH'S OPTIONS] HOST [COMMAND]..."
)]
pub struct Ssh {
    /// Options, the host and the command, which is joined by blanks
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub words: Vec<OsString>,
}

/// Lend the connections of agents that dial out.
///
/// Agents connect with framefd serve --dial. Their hosts need no open port. The hub passes their
/// connections to clients of its own user on this machine, and is not in between then: commands
/// and files are sealed from client to agent, with keys that the hub does not have. A client's
/// HOST is hub:NAME, or a name of the file of hosts with via = "PATH". HUP reads the keys and
/// opens the log again.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct Hub {
    #[command(subcommand)]
    pub verb: Option<HubVerb>,
    /// Where agents connect to; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<OsString>,
    /// A directory of keys, one for each agent; the name of a file is that of its agent
    #[arg(long, value_name = "DIRECTORY")]
    pub keys: Option<PathBuf>,
    /// Where local clients connect to; otherwise $XDG_RUNTIME_DIR/framefd-hub, or /run for root
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// The most connections of agents
    #[arg(long, value_name = "N", default_value = "20000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub max: u32,
    /// The log, or "journal" for that of systemd; otherwise it is standard error
    #[arg(long, value_name = "FILE|journal")]
    pub log: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum HubVerb {
    /// Show the agents: their free connections, how many were lent, and where they came from
    List,
}

/// Make a key, or show which one a file has.
#[derive(Args)]
pub struct Key {
    #[command(subcommand)]
    pub verb: KeyVerb,
}

#[derive(Subcommand)]
pub enum KeyVerb {
    /// Make a file with 32 random bytes, which only its owner can read
    New { file: PathBuf },
    /// Show the key's id, which is the name of its file, and its fingerprint
    Show { file: PathBuf },
}

/// A number of seconds, at least a millisecond.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: Option<f64> = text.parse().ok().filter(|number| (0.001..=2e9).contains(number));
    let refused = || "it is not a number of seconds from 0.001 to 2000000000".to_owned();
    number.map(Duration::from_secs_f64).ok_or_else(refused)
}

const HOSTS: &str = "\
HOST is an address (host:port, [::1]:port, unix:/path, vsock:cid:port), hub:NAME for an agent
that dials out, or a name in ~/.config/framefd/hosts.toml, the file of hosts:

  [web-1]
  address = \"10.0.0.1:7000\"
  key = \"keys/web-1\"    # beside this file
  id = \"laptop\"
  name = \"web-1\"

  [db-1]
  via = \"/run/framefd-hub\"   # it dials out, to the hub that has its socket there
  key = \"keys/db-1\"

  [\"*\"]                # what the others do not say
  key = \"keys/all\"

framefd VERB --help says more about each verb.";
