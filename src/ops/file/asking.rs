//! The questions about one request: to the rights that there are, and to the policy.

use std::os::fd::AsFd as _;

use super::options::{Choice, Inquiry, Rights, ServeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::io::fs::root::Root;
use crate::ops::frame::Client;
use crate::wire::json::header::Header;
use crate::wire::name::Name;

/// One request, until all is known that it would do.
pub(super) struct Asking<'a> {
    options: &'a ServeOptions<'a>,
    header: &'a Header,
    client: Client<'a>,
    choice: Choice,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        options: &'a ServeOptions<'a>,
        header: &'a Header,
        client: Client<'a>,
    ) -> Asking<'a> {
        let ServeOptions { rights, max_size, mode, .. } = *options;
        let choice = Choice { rights, root: None, max_size, mode };
        Asking { options, header, client, choice }
    }

    /// Asks whether this may be done.
    pub(super) fn permit(&mut self, cmd: &str, name: &[u8], filesize: Option<u64>) -> Result<()> {
        allow(self.options.rights, cmd)?;
        let Some(policy) = self.options.policy else { return Ok(()) };
        let inquiry = Inquiry { cmd, name, filesize, header: self.header, client: self.client };
        policy(&inquiry, &mut self.choice)?;
        self.choice.rights = self.choice.rights.and(self.options.rights);
        allow(self.choice.rights, cmd)
    }

    /// Asks for each directory that would be made on the way to `name`.
    pub(super) fn permit_parents(&mut self, root: Root<'_>, name: Name<'_>) -> Result<()> {
        let mut missing = Vec::new();
        let mut below = name;
        let root = self.choice.root(root)?;
        let is_limited = self.options.policy.is_some() || !self.options.rights.create;
        while let Some(dir) = below.split().0.filter(|_| is_limited)
            && root.stat(Some(dir)).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
            missing.push(dir);
            below = dir;
        }
        let mut missing = missing.iter().rev();
        missing.try_for_each(|dir| self.permit("mkdir", dir.as_bytes(), None))
    }

    /// What was chosen, once there are no more questions.
    pub(super) fn choice(self) -> Choice {
        self.choice
    }
}

impl Choice {
    /// The root that was chosen, or `root`.
    pub(super) fn root<'r>(&'r self, root: Root<'r>) -> Result<Root<'r>> {
        self.root.as_ref().map_or(Ok(root), |chosen| Root::new(chosen.as_fd()))
    }

    /// If nothing may be created, refuses to store what is not there.
    pub(super) fn check_new(&self, root: Root<'_>, name: Name<'_>) -> Result<()> {
        let is_new = |error: Error| error.kind() == ErrorKind::NotFound;
        if !self.rights.create && root.stat(Some(name)).is_err_and(is_new) {
            return Err(off("creating"));
        }
        Ok(())
    }
}

/// Whether this is possible at all with these rights.
fn allow(rights: Rights, cmd: &str) -> Result<()> {
    let (may, what) = match cmd {
        "get" | "stat" | "list" => (rights.read, "reading"),
        "put" => (rights.create || rights.replace, "writing"),
        _ => (rights.create, "creating"),
    };
    if may { Ok(()) } else { Err(off(what)) }
}

fn off(what: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("{what} is off here"))
}
