//! How a server runs commands, and its policy.

use std::ffi::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::time::Duration;

use super::request::{EXEC_DETACHED, EXEC_MERGE, EXEC_TTY, split};
use crate::error::Result;
use crate::ffi::boundary::arguments::invalid;
use crate::ffi::boundary::hook::hook;
use crate::ffi::boundary::options::{self, FRAME_NO_TIMEOUT, SizedStruct, limit, time};
use crate::ffi::boundary::parameters::{Context, Text, Texts, numbers};
use crate::ffi::boundary::policy::{self, CArray, ClientText, c_string, pointer};
use crate::io::process::environment::{Base, Environment};
use crate::io::process::spawn::Confinement;
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::exec::{Choice, Inquiry, Limits, OnOutputLimit, ServeOptions};
use crate::wire::message::exec::OnClose;

/// For exec_options.flags: commands get the host's whole environment instead of a clean one.
pub const EXEC_HOST_ENVIRONMENT: u32 = 16;
/// For exec_options.flags: a command is ended at the output limit. Without this flag the command
/// runs on and the rest of its output is dropped.
pub const EXEC_END_AT_LIMIT: u32 = 32;
/// For exec_options.flags: commands have the umask of exec_options.umask instead of the host's.
pub const EXEC_UMASK: u32 = 64;
/// For exec_options.flags of a server that runs as root: commands run as exec_options.uid and
/// gid, without other groups. HOME, USER and LOGNAME are set only if env sets them.
pub const EXEC_USER: u32 = 128;

/// A client's request, as a policy sees it. Everything in it is valid until the policy returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecInquiry {
    /// sizeof(struct exec_inquiry) of this library: members beyond it do not exist.
    pub size: u32,
    /// EXEC_MERGE, EXEC_TTY and EXEC_DETACHED of the request.
    pub flags: u32,
    /// The header of the request, as JSON text; NULL from exec_and_reply().
    pub header: *const c_char,
    /// The shell code, command_len bytes; empty if there is an argv.
    pub command: *const c_char,
    /// Bytes of command.
    pub command_len: u64,
    /// A program and its arguments, then NULL; NULL for shell code.
    pub argv: *const *const c_char,
    /// The requested working directory, or NULL.
    pub cwd: *const c_char,
    /// The requested variables "NAME=value", then NULL. Never NULL itself.
    pub env: *const *const c_char,
    /// The id of the key that the client has proved, "" for a key without an id; NULL if there
    /// was no handshake on a connection.
    pub key_id: *const c_char,
    /// The address of the client, as of frame_address(); NULL if it has none, or there is no
    /// connection.
    pub address: *const c_char,
    /// At a Unix socket the client's process; otherwise 0. See frame_credentials.
    pub pid: i32,
    /// The same: its user id; otherwise UINT32_MAX.
    pub uid: u32,
    /// The same: its group id; otherwise UINT32_MAX.
    pub gid: u32,
    /// 0.
    pub reserved: u32,
    /// How the command will be run. The policy may change it.
    pub choice: *mut ExecChoice,
}

/// How one command is run, for a policy to change. It has what exec_options say at first. A
/// request's own wishes are looked at after that: it can lower command_timeout_ms, and its cwd is
/// relative to the one here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecChoice {
    /// sizeof(struct exec_choice) of this library: members beyond it do not exist.
    pub size: u32,
    /// EXEC_UMASK and EXEC_USER.
    pub flags: u32,
    /// Milliseconds after which the command is ended, or FRAME_NO_TIMEOUT.
    pub command_timeout_ms: i32,
    /// With EXEC_UMASK: its umask.
    pub umask: u32,
    /// With EXEC_USER: its user id.
    pub uid: u32,
    /// With EXEC_USER: its group id.
    pub gid: u32,
    /// Its working directory; NULL is that of exec_options. What a pointer here points to is read
    /// after the policy has returned: it must not be a local variable of the policy.
    pub cwd: *const c_char,
    /// Variables "NAME=value", then NULL: they are added to those of exec_options. NULL at first.
    pub env: *const *const c_char,
    /// With EXEC_USER: its supplementary groups. NULL at first.
    pub groups: *const u32,
    /// How many groups there are.
    pub groups_len: u64,
    /// Shell code that is run in place of what was asked for, with its input. NULL at first.
    pub command: *const c_char,
}

/// How a server runs commands. A request can only lower the limits.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExecOptions {
    /// sizeof(struct exec_options).
    pub size: u32,
    /// EXEC_DETACHED, EXEC_HOST_ENVIRONMENT, EXEC_END_AT_LIMIT, EXEC_UMASK, EXEC_USER.
    pub flags: u32,
    /// Milliseconds without a byte sent or read after which a client is given up; default 30 s. On
    /// average it must let 1 KiB pass in a second. It applies to the request and to the reply. To
    /// a streamed command's output it applies once the command has ended, but only if it is set:
    /// by default the client may read that as slowly as before the end, until command_timeout_ms
    /// has passed.
    pub reply_timeout_ms: i32,
    /// Milliseconds after which a command is ended; default FRAME_NO_TIMEOUT.
    pub command_timeout_ms: i32,
    /// Milliseconds from SIGTERM to SIGKILL; default 2 s.
    pub grace_ms: i32,
    /// Milliseconds for which output is read after the command's end while another process keeps
    /// it open; default 500 ms.
    pub drain_ms: i32,
    /// Milliseconds from the client's end of stream, which may be a half-close, until its
    /// command is ended; default 2 s. A hang-up ends it at once.
    pub close_grace_ms: i32,
    /// exec_and_reply() only: the descriptor to write to, if it is another one than fd.
    pub write_fd: i32,
    /// Bytes kept of each of the two outputs; default 16 MiB.
    pub max_output: u64,
    /// Bytes of a command, or of all its arguments, each with its NUL; default 64 KiB, at most
    /// 131,071.
    pub max_command: u64,
    /// Seconds of processor time for each process of a command (RLIMIT_CPU of setrlimit(2)). 0
    /// is the host's own limit, as for the next three members.
    pub cpu_seconds: u64,
    /// Bytes of memory for each process of a command (RLIMIT_AS).
    pub memory: u64,
    /// Processes that the command's user may have in all (RLIMIT_NPROC).
    pub processes: u64,
    /// Bytes of a file that a command writes (RLIMIT_FSIZE).
    pub file_size: u64,
    /// With EXEC_UMASK: the umask of commands.
    pub umask: u32,
    /// With EXEC_USER: the user id of commands.
    pub uid: u32,
    /// With EXEC_USER: their group id.
    pub gid: u32,
    /// 0.
    pub reserved: u32,
    /// The working directory of commands; NULL is the host's own.
    pub cwd: *const c_char,
    /// Variables "NAME=value", then NULL. They are added to the clean environment.
    pub env: *const *const c_char,
    /// Called before a command is run; may be NULL. Return 0 to allow the request, after changes
    /// of inquiry->choice if you like, or a FRAME_E... code to refuse it; any other number is
    /// FRAME_EACCES. The client receives the reply code for it, and as message the C string that
    /// was written to reason, which has reason_size bytes. It is called on the thread of the
    /// call.
    pub policy: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            inquiry: *const ExecInquiry,
            reason: *mut c_char,
            reason_size: usize,
        ) -> c_int,
    >,
    /// exec_and_reply(), exec_run() and exec_datagram_serve() only: as in frame_options. A
    /// connection uses its own.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to policy() and interrupted().
    pub context: *mut c_void,
}

// SAFETY: numbers and pointers, `size` first, no padding.
unsafe impl SizedStruct for ExecOptions {}

impl ExecOptions {
    /// The options of Rust, without policy and interrupt.
    pub(in crate::ffi) fn convert(&self) -> Result<ServeOptions<'static>> {
        let known =
            EXEC_DETACHED | EXEC_HOST_ENVIRONMENT | EXEC_END_AT_LIMIT | EXEC_UMASK | EXEC_USER;
        options::flags(self.flags, known, "exec_options.flags")?;
        options::unused(self.reserved, "exec_options.reserved")?;
        let has = |flag| self.flags & flag != 0;
        let bound = |value: u64| (value != 0).then_some(value);
        Ok(ServeOptions {
            limits: self.limits()?,
            on_close: if has(EXEC_DETACHED) { OnClose::Run } else { OnClose::Kill },
            close_grace: grace(self.close_grace_ms, limits::CLOSE_GRACE, "close_grace_ms")?,
            reply_timeout: match self.reply_timeout_ms {
                0 => None,
                ms => Some(time(ms, None, "reply_timeout_ms")?.unwrap_or(Duration::MAX)),
            },
            environment: Environment {
                base: if has(EXEC_HOST_ENVIRONMENT) { Base::Host } else { Base::Clean },
                additions: variables(self.env)?,
            },
            directory: Text::of(self.cwd)
                .optional_bytes("cwd")?
                .map(|path| std::ffi::OsStr::from_bytes(path).into()),
            confinement: Confinement {
                umask: umask(has(EXEC_UMASK), self.umask, "a server without EXEC_UMASK")?,
                cpu_seconds: bound(self.cpu_seconds),
                memory: bound(self.memory),
                processes: bound(self.processes),
                file_size: bound(self.file_size),
                user: user(has(EXEC_USER), self.uid, self.gid, "a server without EXEC_USER")?,
            },
            groups: Vec::new(),
            policy: None,
            interrupt: None,
        })
    }

    /// The caller's policy.
    pub(in crate::ffi) fn policy(
        &self,
    ) -> Option<impl Fn(&Inquiry<'_>, &mut Choice) -> Result<()> + Send + Sync + use<>> {
        let (policy, context) = (self.policy?, Context::new(self.context));
        Some(move |inquiry: &Inquiry<'_>, choice: &mut Choice| {
            show(inquiry, choice, |shown, reason, size| {
                policy::call(policy, context, shown, reason, size)
            })
        })
    }

    /// The caller's hook, for a call without a connection.
    pub(in crate::ffi) fn interrupt(&self) -> Option<Interrupt> {
        self.interrupted.map(|asked| Interrupt::by_hook(hook(asked, self.context)))
    }

    fn limits(&self) -> Result<Limits> {
        let end = self.flags & EXEC_END_AT_LIMIT != 0;
        let (default, hard) = (limits::MAX_COMMAND, limits::MAX_COMMAND_HARD);
        Ok(Limits {
            max_command: limit(self.max_command, default, hard, "max_command")?,
            time: time(self.command_timeout_ms, None, "command_timeout_ms")?,
            term_grace: grace(self.grace_ms, limits::TERM_GRACE, "grace_ms")?,
            drain_grace: grace(self.drain_ms, limits::DRAIN_GRACE, "drain_ms")?,
            max_output: limit(self.max_output, limits::MAX_OUTPUT, u64::MAX, "max_output")?,
            on_output_limit: if end { OnOutputLimit::End } else { OnOutputLimit::Drain },
        })
    }
}

fn umask(is_set: bool, umask: u32, elsewhere: &str) -> Result<Option<u32>> {
    match umask {
        0 if !is_set => Ok(None),
        _ if !is_set => Err(options::not_here("umask", elsewhere)),
        umask if umask & !0o777 == 0 => Ok(Some(umask)),
        umask => Err(invalid(format!("umask is {umask:#o}"))),
    }
}

fn user(is_set: bool, uid: u32, gid: u32, elsewhere: &str) -> Result<Option<(u32, u32)>> {
    match (uid, gid) {
        (0, 0) if !is_set => Ok(None),
        _ if !is_set => Err(options::not_here("uid or gid", elsewhere)),
        // A gid that was forgotten would leave the command in root's group.
        (0, _) | (_, 0) => Err(invalid("EXEC_USER needs a uid and a gid that are not 0")),
        user => Ok(Some(user)),
    }
}

fn variables(env: *const *const c_char) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let pairs = Texts::of(env).optional("env")?.unwrap_or_default();
    let owned = |pair| split(pair).map(|(name, value)| (name.to_vec(), value.to_vec()));
    pairs.into_iter().map(owned).collect()
}

impl ExecChoice {
    fn of(choice: &Choice) -> ExecChoice {
        let Confinement { umask, user, .. } = choice.confinement;
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        let (uid, gid) = user.unwrap_or_default();
        let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        ExecChoice {
            size: u32::try_from(size_of::<ExecChoice>()).unwrap_or(u32::MAX),
            flags: flag(EXEC_UMASK, umask.is_some()) | flag(EXEC_USER, user.is_some()),
            command_timeout_ms: choice.limits.time.map_or(FRAME_NO_TIMEOUT, ms),
            umask: umask.unwrap_or_default(),
            uid,
            gid,
            cwd: ptr::null(),
            env: ptr::null(),
            groups: ptr::null(),
            groups_len: 0,
            command: ptr::null(),
        }
    }

    /// What a policy has made of it.
    fn apply(&self, choice: &mut Choice) -> Result<()> {
        options::flags(self.flags, EXEC_UMASK | EXEC_USER, "exec_choice.flags")?;
        let has = |flag| self.flags & flag != 0;
        let (before, confinement) = (ExecChoice::of(choice), &mut choice.confinement);
        confinement.umask = umask(has(EXEC_UMASK), self.umask, "a choice without EXEC_UMASK")?;
        let elsewhere = "a choice without EXEC_USER";
        confinement.user = user(has(EXEC_USER), self.uid, self.gid, elsewhere)?;
        if self.command_timeout_ms != before.command_timeout_ms {
            let what = "exec_choice.command_timeout_ms";
            choice.limits.time = time(self.command_timeout_ms, choice.limits.time, what)?;
        }
        if let Some(path) = Text::of(self.cwd).optional_bytes("cwd")? {
            choice.directory = Some(std::ffi::OsStr::from_bytes(path).into());
        }
        choice.environment.additions.extend(variables(self.env)?);
        choice.groups = numbers(self.groups, self.groups_len, "groups")?;
        let command = Text::of(self.command).optional_bytes("command")?;
        choice.command = command.map(<[u8]>::to_vec);
        Ok(())
    }
}

/// Shows an inquiry to a policy of C.
fn show(
    inquiry: &Inquiry<'_>,
    choice: &mut Choice,
    ask: impl FnOnce(&ExecInquiry, *mut c_char, usize) -> c_int,
) -> Result<()> {
    let request = inquiry.request;
    let header = inquiry.header.map(|header| c_string(header.text(), "header")).transpose()?;
    let cwd = request.cwd.as_deref().map(|cwd| c_string(cwd, "cwd")).transpose()?;
    let argv = request.argv.iter().flatten().cloned();
    let argv = request.argv.is_some().then(|| CArray::new(argv, "argv")).transpose()?;
    let env = request.env.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let env = CArray::new(env, "env")?;
    let flags = [
        (request.merge == Some(true), EXEC_MERGE),
        (request.tty.is_some(), EXEC_TTY),
        (request.on_close == Some(OnClose::Run), EXEC_DETACHED),
    ];
    let who = ClientText::of(&inquiry.client);
    let mut chosen = ExecChoice::of(choice);
    let shown = ExecInquiry {
        size: u32::try_from(size_of::<ExecInquiry>()).unwrap_or(u32::MAX),
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
        header: pointer(header.as_ref()),
        command: inquiry.command.as_ptr().cast(),
        command_len: inquiry.command.len() as u64,
        argv: argv.as_ref().map_or(ptr::null(), CArray::as_ptr),
        cwd: pointer(cwd.as_ref()),
        env: env.as_ptr(),
        key_id: pointer(who.key_id.as_ref()),
        address: pointer(who.address.as_ref()),
        pid: who.credentials.pid,
        uid: who.credentials.uid,
        gid: who.credentials.gid,
        reserved: 0,
        choice: &raw mut chosen,
    };
    policy::ask(|reason, size| ask(&shown, reason, size))?;
    chosen.apply(choice)
}

/// A time that always ends.
fn grace(milliseconds: i32, default: Duration, what: &str) -> Result<Duration> {
    time(milliseconds, Some(default), what)?
        .ok_or_else(|| invalid(format!("{what} cannot be FRAME_NO_TIMEOUT")))
}
