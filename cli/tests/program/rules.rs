//! What each key may do.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Child, Stdio};

use framefd::auth::generate;

use crate::host::{Host, Kind, done, eventually, kill, read_until, refused, refused_with};

/// A server with rules, and with the keys that the tests have.
struct Serving {
    child: Child,
    address: String,
    host: Host,
}

const IDS: [&str; 5] = ["admin", "strict", "forced", "reader", "stranger"];

impl Serving {
    fn new(rules: &str) -> Serving {
        let host = Host::new(Kind::Plain);
        let keys = host.home().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
        for id in IDS {
            generate(&keys.join(id)).unwrap();
        }
        fs::create_dir(host.root("below")).unwrap();
        fs::write(host.home().join("rules.toml"), rules).unwrap();
        let words = ["serve", "--listen", "127.0.0.1:0", "--exec", "--root", "../root"];
        let more = ["--writable", "--keys", "keys", "--config", "rules.toml", "--log", "log"];
        let mut command = host.framefd(&[&words[..], &more].concat());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let line = read_until(child.stdout.as_mut().unwrap(), "\n");
        let address = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        Serving { child, address, host }
    }

    fn command(&self, verb: &str, id: &str, words: &[&str]) -> std::process::Command {
        let key = format!("keys/{id}");
        let words = words.iter().map(|word| word.replace("{}", &self.address)).collect::<Vec<_>>();
        let mut all = vec![verb, "-k", &key, "--id", id];
        all.extend(words.iter().map(String::as_str));
        self.host.framefd(&all)
    }

    fn run(&self, id: &str, command: &str) -> (i32, String, String) {
        done(&mut self.command("run", id, &["{}", command]))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const RULES: &str = "
[admin]
[strict]
commands = ['echo a', ['echo', 'b c']]
rights = ['exec']
umask = '077'
timeout = 1
[forced]
command = 'echo forced: \"$FRAMEFD_ORIGINAL_COMMAND\"; cat'
file_size = '1K'
[reader]
rights = ['read']
root = '../root/below'
";

#[test]
fn a_key_may_do_what_its_rule_says_and_no_more() {
    let serving = Serving::new(RULES);
    let ok = |told: &str| (0, told.to_owned(), String::new());
    assert_eq!(serving.run("admin", "echo anything"), ok("anything\n"));
    // One without a table.
    let none = "may run no commands here";
    refused(
        &mut serving.command("run", "stranger", &["{}", "true"]),
        "the key stranger may run no",
    );
    refused(&mut serving.command("run", "reader", &["{}", "true"]), none);
    // Some commands only.
    assert_eq!(serving.run("strict", "echo a"), ok("a\n"));
    let argv = ["{}", "--", "echo", "b c"];
    assert_eq!(done(&mut serving.command("run", "strict", &argv)), ok("b c\n"));
    let why = "the key strict may not run this command here";
    for words in [&["{}", "echo a; id"][..], &["{}", "--", "echo", "b", "c"], &["{}", "--", "echo"]]
    {
        refused(&mut serving.command("run", "strict", words), why);
    }
    let env = ["--env", "LD_PRELOAD=x", "{}", "echo a"];
    refused(&mut serving.command("run", "strict", &env), "may set no variables here");
    let cwd = ["--cwd", "/", "{}", "echo a"];
    refused(&mut serving.command("run", "strict", &cwd), "may choose no directory here");
    // One command in place of all.
    let (status, told, _) =
        crate::host::done_with(&mut serving.command("run", "forced", &["{}", "rm -rf /"]), b"in");
    assert_eq!((status, told.as_str()), (0, "forced: rm -rf /\nin"));
    let argv = ["-n", "{}", "--", "rm", "a b"];
    assert_eq!(done(&mut serving.command("run", "forced", &argv)), ok("forced: rm 'a b'\n"));
    // Files.
    fs::write(serving.host.root("below/f"), "content").unwrap();
    fs::write(serving.host.root("above"), "secret").unwrap();
    let get = |id: &str, name: &str| serving.command("get", id, &["-q", name, "-"]);
    assert_eq!(done(&mut get("reader", "{}:f")).1, "content");
    assert_eq!(done(&mut get("admin", "{}:below/f")).1, "content");
    refused_with(&mut get("reader", "{}:above"), 1, "not found at the peer");
    let put = ["-q", "rules.toml", "{}:g"];
    let why = "the key reader may write no files here";
    refused_with(&mut serving.command("put", "reader", &put), 1, why);
    let why = "the key strict may read no files here";
    refused_with(&mut get("strict", "{}:below/f"), 1, why);
    assert_eq!(done(&mut serving.command("put", "admin", &put)).0, 0);
    assert!(serving.host.root("g").exists());
    let log = fs::read_to_string(serving.host.home().join("log")).unwrap();
    assert!(log.contains(r#""key":"stranger""#) && log.contains(r#""error":"denied""#), "{log}");
}

#[test]
fn limits_and_a_mask_are_those_of_the_rule() {
    let rules = "['*']\ntimeout = 1\n[admin]\numask = '027'\nfile_size = '1K'\ntimeout = 60\n\
                 max_output = 5\nmemory = '1G'\ncpu = 7\nprocesses = 4000";
    let serving = Serving::new(rules);
    let told = serving.run("admin", "umask; ulimit -t; ulimit -v");
    assert_eq!(told.1, "0027\n7\n1048576\n");
    let told = serving.run("admin", "(head -c 2000 /dev/zero >big) || wc -c <big");
    assert_eq!(told.1, "1024\n", "a file that is too large");
    let (status, told, why) = serving.run("stranger", "echo on; sleep 60");
    assert!(status == 143 && told == "on\n" && why.contains("its time was up"), "{status} {why}");
    // A mistake changes nothing.
    let write = |rules: &str| {
        fs::write(serving.host.home().join("rules.toml"), rules).unwrap();
        kill(&serving.child, "-HUP");
    };
    let log = || fs::read_to_string(serving.host.home().join("log")).unwrap();
    write("[admin]\nright = []");
    eventually("it is said", || log().contains("no member is called right"));
    assert!(log().contains("the rules and the keys stay as they are"));
    assert_eq!(serving.run("admin", "umask").1, "0027\n");
    write("[admin]\nrights = []");
    eventually("it is read", || serving.run("admin", "umask").0 == 255);
}

#[test]
fn another_user_has_its_own_groups_variables_and_home() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root becomes somebody else");
    }
    let serving = Serving::new("[admin]\nuser = 'nobody'\numask = '077'\n[strict]\nuser = '0'");
    let told = serving.run("admin", "id -un; id -G; echo $HOME $USER $LOGNAME $SHELL; umask; pwd");
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    let home =
        if fs::metadata(fields[5]).is_ok_and(|home| home.is_dir()) { fields[5] } else { "/" };
    let variables = format!("{} nobody nobody {}", fields[5], fields[6]);
    let expected = format!("nobody\n{}\n{variables}\n0077\n{home}\n", fields[3]);
    assert_eq!(told, (0, expected, String::new()));
    let root = serving.run("strict", "id -u; echo $HOME").1;
    assert!(root.starts_with("0\n/"), "{root}");
}

#[test]
fn what_is_wrong_with_the_rules_is_said() {
    let host = Host::new(Kind::Plain);
    let serve = |rules: &str, words: &[&str]| {
        fs::write(host.home().join("rules.toml"), rules).unwrap();
        let all = ["serve", "--listen", "127.0.0.1:0", "--exec", "--config", "rules.toml"];
        host.framefd(&[&all[..], words].concat())
    };
    let key = ["-k", "key"];
    refused(&mut serve("", &["--plain"]), "--config gives rights to keys, and there are none");
    refused(&mut serve("[a", &key), "rules.toml: line 1: ");
    refused(&mut serve("[a]\nshell = 1", &key), "[a]: no member is called shell: rights, user, ");
    refused(&mut serve("['a b']", &key), "[a b]: it cannot be the id of a key");
    refused(&mut serve("[a]\nroot = '.'", &key), "root is for files, which are not served: give");
    let mut none = host.framefd(&["serve", "--stdio", "--exec", "-k", "key", "--config", "none"]);
    refused(none.stdin(Stdio::null()), "standard input is no connected socket");
    let all = ["serve", "--listen", "127.0.0.1:0", "--exec", "-k", "key", "--config", "none"];
    refused(&mut host.framefd(&all), "--config none: there is no such file");
    let mut wide = serve("", &key);
    let path = host.home().join("rules.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&mut wide, "others may write to it: chown it, and chmod go-w it");
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        refused(&mut wide, "others may write to it");
    }
}
