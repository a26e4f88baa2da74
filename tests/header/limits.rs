//! The numbers of src/limits.rs that comments and documents state: each place says just the
//! numbers that it is listed with. So a default that changes is found wherever it is stated.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use framefd::limits::*;

use crate::items::Item;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Each place with the numbers it states: bytes, milliseconds, or a plain number. A place is
///
/// - `struct.member`, or `member` for those of the structs that are not listed themselves,
/// - the name of a function, a constant or a struct of the header,
/// - a document and a heading, or a document and what begins a row of a table of limits,
/// - a module of the Python package.
const PLACES: &[(&str, &[u64])] = &[
    ("max_header", &[MAX_HEADER, MAX_HEADER_HARD]),
    ("max_body", &[MAX_BODY]),
    ("max_depth", &[MAX_DEPTH as u64, MAX_DEPTH_HARD as u64]),
    ("prefix", &[4]),
    ("auth_options.timeout_ms", &[ms(AUTH_TIMEOUT), ms(AUTH_TIMEOUT_HARD)]),
    ("exec_options.reply_timeout_ms", &[ms(REPLY_TIMEOUT), LEAST_RATE]),
    ("grace_ms", &[ms(TERM_GRACE)]),
    ("drain_ms", &[ms(DRAIN_GRACE)]),
    ("close_grace_ms", &[ms(CLOSE_GRACE)]),
    ("max_output", &[MAX_OUTPUT]),
    ("max_command", &[MAX_COMMAND, MAX_COMMAND_HARD]),
    ("rows", &[24]),
    ("columns", &[80]),
    ("stall_ms", &[ms(STALL_TIMEOUT)]),
    ("frame_file_options.stall_ms", &[ms(STALL_TIMEOUT), LEAST_RATE]),
    ("progress", &[n(COPY_STEP)]),
    // What crosses the Internet unfragmented.
    ("max_datagram", &[n(DATAGRAM_SEND), n(DATAGRAM_HARD), 1_200]),
    ("connect_timeout_ms", &[ms(CONNECT_TIMEOUT)]),
    ("frame_listen", &[LISTEN_BACKLOG as u64]),
    ("max_queue", &[MAX_QUEUE]),
    ("frame_connection_end", &[LINGER]),
    // What a test of it allows.
    ("frame_connection_abort", &[100]),
    ("frame_connection_queue", &[n(WRITE_BEHIND)]),
    ("frame_decoder_reserve", &[n(READ_AHEAD_MIN), n(READ_AHEAD_MAX)]),
    ("auth_server", &[n(MAX_KEY)]),
    ("frame_connection_auth_client", &[n(MAX_KEY)]),
    ("frame_connection_auth_server", &[n(SEAL_KEY)]),
    ("frame_seal_client", &[n(MAX_KEY)]),
    ("frame_seal_server", &[n(SEAL_KEY)]),
    ("frame_seal_write", &[n(WRITE_BEHIND)]),
    ("auth_key_load", &[n(MAX_KEY)]),
    ("auth_keyring_add", &[n(MAX_KEY)]),
    ("frame_file_put", &[ASKED, REFUSED / 2]),
    ("frame_file_serve", &[REFUSED, ms(REFUSED_TIME)]),
    // What is dropped of a file that cannot be taken.
    ("frame_file_get", &[n(COPY_STEP)]),
    ("frame_file_list", &[MAX_BODY]),
    ("FRAME_FILE_RESUME", &[ms(SILENT)]),
    ("frame_file_sweep", &[ms(PARTIAL_AGE)]),
    ("exec_datagram_server", REPLAY_AND_SEEN),
    ("frame_datagram_recv", &[n(DATAGRAM_HARD)]),
    ("exec_datagram_server_new", &[n(MAX_KEY), ms(DATAGRAM_REPLAY)]),
    ("exec_datagram_serve", &[n(DATAGRAM_SEND), DATAGRAM_OUTPUT, MAX_OUTPUT, n(DATAGRAM_TABLE)]),
    (
        "exec_datagram_call",
        &[
            ms(DATAGRAM_RESEND),
            ms(DATAGRAM_RESEND_MAX),
            n(DATAGRAM_HARD),
            n(MAX_KEY),
            ms(DATAGRAM_TIMEOUT),
            DATAGRAM_OUTPUT,
            MAX_OUTPUT,
        ],
    ),
    ("frame_server_options.max_connections", &[n(CONNECTIONS)]),
    ("frame_server_options.max_unauthenticated", &[n(UNAUTHENTICATED), ms(CHANCE)]),
    ("frame_server_options.max_memory", &[SERVER_MEMORY]),
    ("frame_server_options.auth_timeout_ms", &[ms(AUTH_TIMEOUT), ms(AUTH_TIMEOUT_HARD)]),
    ("frame_server_options.frame_timeout_ms", &[ms(FRAME_TIMEOUT)]),
    ("frame_server_options.stall_ms", &[ms(REPLY_TIMEOUT), LEAST_RATE]),
    ("frame_server_options.idle_ms", &[ms(IDLE_TIMEOUT)]),
    ("frame_server_options.drain_ms", &[ms(DRAIN_TIMEOUT)]),
    ("FRAME_HANDLER_STREAM", &[REFUSED]),
    ("frame_server_serve_exec", &[ms(COMMAND_TIME)]),
    ("protocol.md: Frames", &[MAX_HEADER, MAX_BODY]),
    // Facts of the protocol: the least and the most of a record, and of its body.
    (
        "protocol.md: Sealed connections",
        &[n(SEAL_KEY), ms(AUTH_TIMEOUT), n(SEAL_RECORD), 65_518, 65_535],
    ),
    // Facts of the protocol: the text of an id, a name and its components.
    ("protocol.md: Agents that dial out", &[ms(AUTH_TIMEOUT)]),
    ("protocol.md: Requests and replies", &[KIB]),
    ("protocol.md: Files", &[4_095, 255]),
    ("protocol.md: exec", &[MAX_ENVIRONMENT, ms(CLOSE_GRACE), ms(TERM_GRACE)]),
    // How often a server at work says so: ten times as often as it must.
    ("protocol.md: put", &[REFUSED, ms(REFUSED_TIME), 10 * ms(WORKING), ms(SILENT)]),
    ("protocol.md: stat and list", &[MAX_BODY, ms(SILENT)]),
    ("protocol.md: Datagrams", &[ms(DATAGRAM_RESEND), ms(DATAGRAM_REPLAY)]),
    ("security.md: The plain handshake", &[ms(AUTH_TIMEOUT), ms(AUTH_TIMEOUT_HARD)]),
    ("security.md: Keys", &[n(MIN_KEY), n(MAX_KEY)]),
    ("security.md: Datagrams", &[ms(DATAGRAM_REPLAY)]),
    // What a pipe takes at once if it may block (PIPE_BUF).
    ("embedding.md: Descriptors", &[4_096]),
    ("embedding.md: Connections", &[n(WRITE_BEHIND), n(TAKEN_IN)]),
    ("embedding.md: Event loops", &[n(BUFFER_KEPT)]),
    // Measured: the stack of a call, fork(2) for each GiB, the memory of a command.
    ("embedding.md: Threads", &[32 * KIB]),
    ("embedding.md: Commands", &[20, ms(DRAIN_GRACE), MIB]),
    ("embedding.md: Memory", &[MAX_HEADER, MIB]),
    ("embedding.md: Files", &[n(COPY_STEP)]),
    ("embedding.md: header", &[MAX_HEADER, MAX_HEADER_HARD]),
    ("embedding.md: nesting in a header", &[MAX_DEPTH as u64, MAX_DEPTH_HARD as u64]),
    ("embedding.md: body or packet received into memory", &[MAX_BODY]),
    ("embedding.md: command, or all arguments together", &[MAX_COMMAND, MAX_COMMAND_HARD]),
    ("embedding.md: variables of a request", &[MAX_ENVIRONMENT]),
    ("embedding.md: messages queued on a connection", &[MAX_QUEUE]),
    ("embedding.md: read and dropped by an end with linger", &[LINGER]),
    (
        "embedding.md: read and dropped of a refused request about files",
        &[REFUSED, ms(REFUSED_TIME)],
    ),
    ("embedding.md: connecting, all addresses of a name", &[ms(CONNECT_TIMEOUT)]),
    ("embedding.md: output kept, of each stream", &[MAX_OUTPUT]),
    ("embedding.md: SIGTERM to SIGKILL", &[ms(TERM_GRACE)]),
    ("embedding.md: end-of-stream from the client to SIGTERM", &[ms(CLOSE_GRACE)]),
    ("embedding.md: a directory's listing", &[MAX_BODY]),
    (
        "embedding.md: a partial file without a write, before another transfer takes it over",
        &[ms(SILENT)],
    ),
    ("embedding.md: age of a partial file before a sweep removes it", &[ms(PARTIAL_AGE)]),
    (
        "embedding.md: reading output after the command's end, while another process keeps it open",
        &[ms(DRAIN_GRACE)],
    ),
    (
        "embedding.md: a request or a reply, if the client does not send or read",
        &[ms(REPLY_TIMEOUT)],
    ),
    ("embedding.md: the same in all", &[ms(REPLY_TIMEOUT)]),
    ("embedding.md: the same for a body that is dropped", &[DROPPED]),
    ("embedding.md: handshake", &[ms(AUTH_TIMEOUT), ms(AUTH_TIMEOUT_HARD)]),
    ("embedding.md: key", &[n(MIN_KEY), n(MAX_KEY)]),
    ("embedding.md: datagram sent", DATAGRAM),
    ("embedding.md: command in a datagram: the exchange", &[ms(DATAGRAM_TIMEOUT)]),
    ("embedding.md: the same: output kept, of each stream", &[DATAGRAM_OUTPUT, MAX_OUTPUT]),
    ("embedding.md: the same: requests remembered", &[ms(DATAGRAM_REPLAY), n(DATAGRAM_SEEN)]),
    ("embedding.md: the same: replies remembered", REPLAY),
    ("protocol.md: Streams", &[ms(TYPE_AGAIN)]),
    ("serving.md: Threads", &[SEALED_AT_REST, ms(TURN)]),
    ("serving.md: connections", &[n(CONNECTIONS)]),
    (
        "serving.md: connections beside them that have proved no key yet; the next one waits until the oldest has had 100 ms, and closes it",
        &[n(UNAUTHENTICATED), ms(CHANCE)],
    ),
    ("serving.md: commands at once, for each processor; others wait", &[n(COMMANDS_PER_CPU)]),
    ("serving.md: requests about files at once; others wait", &[n(TRANSFERS)]),
    ("serving.md: a request's header", &[MAX_HEADER]),
    ("serving.md: a request's body, in memory", &[MAX_BODY]),
    ("serving.md: unfinished requests of all connections", &[SERVER_MEMORY]),
    ("serving.md: replies of a connection that were not written yet", &[MAX_QUEUE]),
    ("serving.md: the handshake", &[ms(AUTH_TIMEOUT)]),
    ("serving.md: a request, from its first byte to the last of its header", &[ms(FRAME_TIMEOUT)]),
    ("serving.md: a body or a reply, without a byte", &[ms(REPLY_TIMEOUT)]),
    ("serving.md: a connection without a request", &[ms(IDLE_TIMEOUT)]),
    ("serving.md: a command", &[ms(COMMAND_TIME)]),
    ("serving.md: a stop", &[ms(DRAIN_TIMEOUT)]),
    ("serving.md: Stopping", &[ms(QUIET)]),
    // In seconds: what Python takes.
    ("_seal.py", &[n(WRITE_BEHIND)]),
    ("_auth.py", &[AUTH_TIMEOUT.as_secs(), AUTH_TIMEOUT_HARD.as_secs(), n(MAX_KEY)]),
    (
        "_connection.py",
        &[
            MAX_HEADER,
            MAX_BODY,
            MAX_DEPTH as u64,
            MAX_QUEUE,
            ms(CONNECT_TIMEOUT),
            ms(AUTH_TIMEOUT),
            LISTEN_BACKLOG as u64,
        ],
    ),
    (
        "_datagrams.py",
        &[
            n(DATAGRAM_SEND),
            n(DATAGRAM_HARD),
            ms(DATAGRAM_REPLAY),
            ms(DATAGRAM_TIMEOUT),
            DATAGRAM_OUTPUT,
        ],
    ),
    (
        "_exec.py",
        &[
            ms(REPLY_TIMEOUT),
            LEAST_RATE,
            ms(TERM_GRACE),
            ms(DRAIN_GRACE),
            ms(CLOSE_GRACE),
            MAX_OUTPUT,
            MAX_COMMAND,
        ],
    ),
    ("_files.py", &[ms(STALL_TIMEOUT), MAX_BODY, REFUSED / 2]),
    (
        "_server.py",
        &[
            n(CONNECTIONS),
            MAX_HEADER,
            MAX_BODY,
            SERVER_MEMORY,
            MAX_QUEUE,
            REFUSED,
            ms(COMMAND_TIME),
        ],
    ),
    ("_frames.py", &[MAX_HEADER, MAX_BODY, MAX_DEPTH as u64]),
    ("_core.py", &[LINGER]),
    // Pieces of at most 1 MiB are what the package asks for.
    ("_messages.py", &[n(WRITE_BEHIND), MIB]),
    ("_commands.py", &[MAX_OUTPUT, MIB]),
    ("aio/_connection.py", &[n(WRITE_BEHIND), ms(AUTH_TIMEOUT)]),
];

/// Replies in datagrams that are remembered: how long, how many, how large.
/// What tests/server_memory.rs allows.
const SEALED_AT_REST: u64 = 2 * KIB;
const REPLAY: &[u64] = &[ms(DATAGRAM_REPLAY), n(DATAGRAM_TABLE), n(DATAGRAM_TABLE_BYTES)];
const REPLAY_AND_SEEN: &[u64] =
    &[ms(DATAGRAM_REPLAY), n(DATAGRAM_SEEN), n(DATAGRAM_TABLE), n(DATAGRAM_TABLE_BYTES)];
const DATAGRAM: &[u64] = &[n(DATAGRAM_SEND), n(DATAGRAM_HARD)];

const fn n(limit: usize) -> u64 {
    limit as u64
}

const fn ms(time: Duration) -> u64 {
    time.as_secs() * 1000 + time.subsec_millis() as u64
}

/// Compares all places with their numbers.
pub fn check(sections: &[Vec<Item>]) {
    let mut found = stated_in_header(sections);
    found.extend(stated_in_documents());
    found.extend(stated_in_python());
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (place, text) in &found {
        let stated = numbers(text);
        let short = place.rsplit('.').next().unwrap();
        let entry = PLACES.iter().find(|(name, _)| name == place);
        let entry = entry.or_else(|| PLACES.iter().find(|(name, _)| *name == short));
        if let Some((name, expected)) = entry {
            used.insert(*name);
            let expected: BTreeSet<u64> = expected.iter().copied().collect();
            let passes = stated == expected || (name != place && stated.is_empty());
            if !passes {
                wrong.push(format!("{place} states {stated:?}, its limits are {expected:?}"));
            }
        } else if !stated.is_empty() {
            wrong.push(format!("{place} states {stated:?}: list it with its limits"));
        }
    }
    for (name, _) in PLACES.iter().filter(|(name, _)| !used.contains(name)) {
        wrong.push(format!("{name} is listed and is not there"));
    }
    assert!(wrong.is_empty(), "see tests/header/limits.rs:\n{}", wrong.join("\n"));
}

/// The comments of the header, by what they are of.
fn stated_in_header(sections: &[Vec<Item>]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for item in sections.iter().flatten() {
        found.push((item.name.clone(), item.comment.join(" ")));
        for (member, comment) in item.member_comments() {
            found.push((format!("{}.{member}", item.name), comment));
        }
    }
    found
}

/// The documents by their headings; a table of limits by its rows.
fn stated_in_documents() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for file in ["protocol.md", "security.md", "embedding.md", "serving.md"] {
        let text = fs::read_to_string(crate::root().join("docs").join(file)).unwrap();
        found.push((file.to_owned(), String::new()));
        let (mut heading, mut is_code) = ("", false);
        for line in text.lines() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if is_code {
                // A program has numbers of its own.
            } else if let Some(title) = line.strip_prefix('#') {
                heading = title.trim_start_matches('#').trim();
                found.push((format!("{file}: {heading}"), String::new()));
            } else if heading == "Limits" && line.starts_with("| ") {
                let what = line.split('|').nth(1).unwrap().trim();
                let numbers = line.replacen('|', "", 1).replacen('|', " default ", 1);
                found.push((format!("{file}: {what}"), numbers.replace('|', " at most ")));
            } else {
                let last = found.last_mut().unwrap();
                last.1 += line;
                last.1.push(' ');
            }
        }
    }
    found
}

/// The modules of the Python package; in _abi.py there is what the header has.
fn stated_in_python() -> Vec<(String, String)> {
    let root = crate::root().join("bindings/python/framefd");
    let mut found = Vec::new();
    for folder in ["", "aio/"] {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "py")) {
            let name = format!("{folder}{}", path.file_name().unwrap().to_str().unwrap());
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The numbers of a text that have a unit, or a comma within, or follow "default", "at most",
/// "at least" or "more than".
fn numbers(text: &str) -> BTreeSet<u64> {
    let marks = |c: char| !c.is_ascii_alphanumeric();
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(marks)).collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        let unit = match word(at + 1) {
            "KiB" => KIB,
            "MiB" => MIB,
            "ms" => 1,
            "s" => 1000,
            "h" => 60 * 60 * 1000,
            _ => 0,
        };
        let before = at.checked_sub(1).map_or("", word);
        let two_before = at.checked_sub(2).map_or("", word);
        let is_stated = word(at).contains(',')
            || before == "default"
            || matches!((two_before, before), ("at", "most" | "least") | ("more", "than"));
        let Some(thousandths) = number(word(at)) else { continue };
        if unit != 0 {
            found.insert(thousandths * unit / 1000);
        } else if is_stated && thousandths > 1000 {
            // 1 is no limit, as in "at least 1".
            found.insert(thousandths / 1000);
        }
    }
    found
}

/// A decimal number in thousandths: "0.5", "65,507"; not "0777".
fn number(word: &str) -> Option<u64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let groups: Vec<&str> = whole.split(',').collect();
    let is_grouped = groups[1..].iter().all(|group| group.len() == 3);
    if !is_grouped || (whole.starts_with('0') && part.is_empty()) {
        return None;
    }
    let whole: u64 = groups.concat().parse().ok()?;
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole * 1000 + part)
}

#[test]
fn numbers_are_found_in_words() {
    let stated = |text| numbers(text).into_iter().collect::<Vec<u64>>();
    assert_eq!(stated("default 64 KiB, at most 16 MiB."), [64 * KIB, 16 * MIB]);
    assert_eq!(stated("(default 30 s) or 0.5 s, up to 131,071;"), [500, 30_000, 131_071]);
    assert_eq!(stated("default 32, at most 127. Never more than 60"), [32, 60, 127]);
    assert!(numbers("default 0777, 5 of them, 16 bytes, 1,2,3, v0.1").is_empty());
}
