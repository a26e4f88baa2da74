//! Users of this machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the system knows of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    name: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    home: Vec<u8>,
    shell: Vec<u8>,
}

impl Account {
    /// The user of this process; nothing if the system does not know it.
    pub fn ours() -> Option<Account> {
        Account::find(&rustix::process::geteuid().as_raw().to_string())
    }

    /// A user by name or number, as passwd(5) has it, or else getent(1), which asks directories.
    pub fn find(user: &str) -> Option<Account> {
        let is =
            |account: &Account| account.name == user.as_bytes() || account.uid.to_string() == user;
        let local = fs::read("/etc/passwd").unwrap_or_default();
        accounts(&local).find(is).or_else(|| {
            let mut getent = Command::new("getent");
            let getent = getent.args(["passwd", "--", user]).stdin(Stdio::null()).output();
            accounts(&getent.ok()?.stdout).find(is)
        })
    }

    /// Its groups, as group(5) has them, or else getent(1).
    pub fn groups(&self) -> Vec<u32> {
        let local = fs::read("/etc/group").unwrap_or_default();
        let mut groups = memberships(&local, &self.name);
        let name = OsStr::from_bytes(&self.name);
        let getent = Command::new("getent").args(["initgroups", "--"]).arg(name).output();
        let told = getent.map(|output| output.stdout).unwrap_or_default();
        // The name, and then the numbers.
        let more = String::from_utf8_lossy(&told);
        groups.extend(more.split_whitespace().skip(1).filter_map(|word| word.parse::<u32>().ok()));
        groups.push(self.gid);
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Where its commands begin.
    pub fn directory(&self) -> PathBuf {
        let home = PathBuf::from(OsStr::from_bytes(&self.home));
        if home.is_dir() { home } else { "/".into() }
    }

    /// The variables of a command that describe its user.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let shell = if self.shell.is_empty() { b"/bin/sh" } else { &self.shell[..] };
        let home = if self.home.is_empty() { b"/" } else { &self.home[..] };
        [("HOME", home), ("USER", &self.name), ("LOGNAME", &self.name), ("SHELL", shell)]
            .into_iter()
    }
}

/// The lines of passwd(5).
fn accounts(text: &[u8]) -> impl Iterator<Item = Account> + '_ {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        Some(Account {
            name: name.to_vec(),
            uid: number(uid)?,
            gid: number(gid)?,
            home: home.to_vec(),
            shell: shell.to_vec(),
        })
    })
}

/// The groups that name the user as a member: group(5).
fn memberships(text: &[u8], user: &[u8]) -> Vec<u32> {
    let group = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let [_, _, gid, members] = fields[..] else { return None };
        let is_member = members.split(|&byte| byte == b',').any(|member| member == user);
        is_member.then(|| std::str::from_utf8(gid).ok()?.parse().ok())?
    };
    text.split(|&byte| byte == b'\n').filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let text = b"root:x:0:0:root:/root:/bin/bash\n+nis\n\nbad:x:a:0::/:\nweb:x:33:34::/srv:\n";
        let found: Vec<_> = accounts(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].uid, found[1].gid), (33, 34));
        let variables: Vec<_> = found[1].variables().collect();
        let text = |text: &'static str| text.as_bytes();
        let expected =
            [("HOME", "/srv"), ("USER", "web"), ("LOGNAME", "web"), ("SHELL", "/bin/sh")];
        assert_eq!(variables, expected.map(|(name, value)| (name, text(value))));
    }

    #[test]
    fn a_group_is_one_that_names_the_user() {
        let text = b"root:x:0:\nwww:x:33:web\nadm:x:4:syslog,web,ab\nbad:x:y:web\nab:x:7:webs\n";
        assert_eq!(memberships(text, b"web"), [33, 4]);
        assert!(Account::find("root").unwrap().groups().contains(&0));
    }

    #[test]
    fn a_user_is_found_by_name_and_number() {
        let root = Account::find("root").unwrap();
        assert_eq!((root.uid, root.gid, Account::find("0")), (0, 0, Some(root.clone())));
        assert_eq!(Account::find("nobody-has-this-name"), None);
        assert_eq!(Account::find("--help"), None);
    }
}
