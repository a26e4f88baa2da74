//! Stands for wire/seal in a library that is built without it: nothing can be sealed.

#[allow(dead_code)]
#[path = "seal/terms.rs"]
pub mod terms;

/// The handshake, which there is none of.
pub mod handshake {
    use super::record::{Opener, Sealer};
    use super::terms::{Suite, Terms};
    use crate::error::{Error, ErrorKind, Result};
    use crate::wire::auth::{Key, KeyId};

    /// There is none.
    #[derive(Debug)]
    pub enum Handshake {}

    /// What follows a step.
    #[allow(missing_docs)]
    pub enum Step {
        More,
        Reply(Vec<u8>),
        Done { session: Box<Session>, confirm: Vec<u8> },
    }

    /// There is none.
    #[allow(missing_docs)]
    pub struct Session {
        pub sealer: Sealer,
        pub opener: Opener,
        pub hash: [u8; 32],
        pub key_id: KeyId,
        pub suite: Suite,
    }

    #[allow(missing_docs)]
    impl Handshake {
        pub fn client(
            _key: &Key,
            _id: &KeyId,
            _terms: &Terms,
            _suite: Suite,
        ) -> Result<(Handshake, Vec<u8>)> {
            Err(absent())
        }

        pub fn server(_terms: &Terms) -> Result<Handshake> {
            Err(absent())
        }

        pub fn needs(&self) -> usize {
            match *self {}
        }

        pub fn step(&mut self, _bytes: &[u8], _key_for: &dyn Fn(&KeyId) -> Key) -> Result<Step> {
            match *self {}
        }
    }

    fn absent() -> Error {
        Error::new(ErrorKind::Unsupported, "this library was built without sealing")
    }
}

/// The records, which there are none of.
#[allow(missing_docs)]
pub mod record {
    use crate::error::Result;

    #[derive(Debug)]
    pub enum Sealer {}

    impl Sealer {
        pub fn data(&mut self, _: &[&[u8]], _: usize, _: &mut Vec<u8>) -> Result<usize> {
            match *self {}
        }

        pub fn end(&mut self, _: &mut Vec<u8>) -> Result<()> {
            match *self {}
        }

        pub fn has_ended(&self) -> bool {
            match *self {}
        }
    }

    #[derive(Debug)]
    pub enum Opener {}

    pub enum Opened {
        More,
        Data,
        End,
    }

    impl Opener {
        pub fn feed(&mut self, _: &[u8]) -> Result<()> {
            match *self {}
        }

        pub fn space(&mut self) -> Result<&mut Vec<u8>> {
            match *self {}
        }

        pub fn open(&mut self) -> Result<Opened> {
            match *self {}
        }

        pub fn opened(&self) -> &[u8] {
            match *self {}
        }

        pub fn take(&mut self, _: usize) {
            match *self {}
        }

        pub fn is_empty(&self) -> bool {
            match *self {}
        }

        pub fn finish(&self) -> Result<()> {
            match *self {}
        }

        pub fn release(&mut self) {
            match *self {}
        }
    }
}

/// The stream for event loops, which there is none of.
#[allow(missing_docs)]
pub mod stream {
    use super::handshake::{Handshake, Session};
    use super::terms::{Suite, Terms};
    use crate::error::{Error, Result};
    use crate::wire::auth::{Key, KeyId};

    pub enum Seal {}

    pub enum Read<'a> {
        More,
        Bytes(&'a [u8]),
        End,
    }

    impl Seal {
        pub fn client(key: &Key, id: &KeyId, terms: &Terms, suite: Suite) -> Result<Seal> {
            let (handshake, _) = Handshake::client(key, id, terms, suite)?;
            match handshake {}
        }

        pub fn server(terms: &Terms, _: Box<dyn Fn(&KeyId) -> Key + Send>) -> Result<Seal> {
            match Handshake::server(terms)? {}
        }

        pub fn space(&mut self) -> Result<&mut Vec<u8>> {
            match *self {}
        }

        pub fn buffer(&mut self) -> &mut Vec<u8> {
            match *self {}
        }

        pub fn read(&mut self) -> Result<Read<'_>> {
            match *self {}
        }

        pub fn finish(&mut self) -> Result<()> {
            match *self {}
        }

        pub fn write(&mut self, _: &[u8], _: bool) -> Result<()> {
            match *self {}
        }

        pub fn check(&self) -> Result<()> {
            match *self {}
        }

        pub fn output(&self) -> &[u8] {
            match *self {}
        }

        pub fn written(&mut self, _: usize) {
            match *self {}
        }

        pub fn session(&self) -> Option<&Session> {
            match *self {}
        }

        pub fn fail(&mut self, _: Error) -> Error {
            match *self {}
        }
    }
}
