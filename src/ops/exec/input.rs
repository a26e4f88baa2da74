//! A command's input: the rest of its request's body, then the frames that its client sends.
//!
//! | State   | Means                                              | The client's descriptor   |
//! |---------|----------------------------------------------------|---------------------------|
//! | reading | no piece of input is held, and more may come       | is read                   |
//! | held    | the command has not taken the piece that was read  | is watched for its end    |
//! | closed  | nothing more can come: the body was read and there | is watched for its end    |
//! |         | are no frames, or end-of-stream was read           |                           |
//!
//! `reading` becomes `held` by a piece, and again `reading` once the command has taken it. Once
//! the command reads no more, further input is dropped, and nothing is held.

use rustix::process::Signal;

use super::handler::Input;
use crate::error::{ErrorKind, Result};
use crate::limits;
use crate::ops::frame::Connection;
use crate::wire::memory::reserve;
use crate::wire::message::exec::{ClientFrame, Tty};

/// A command's input. One piece of it is held at a time, and no more is read until the command
/// has taken that.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(super) struct ClientInput {
    /// Frames follow the body of the request.
    has_frames: bool,
    /// The current body is input; otherwise it is dropped.
    is_input: bool,
    /// The piece that is held, from `start` on.
    piece: Vec<u8>,
    start: usize,
    /// The rest of the current body is the last input.
    is_last: bool,
    /// The command reads no more.
    is_closed: bool,
    /// The client has closed its sending side.
    at_end: bool,
    /// The bytes that were read ahead are not enough: more must be received.
    is_dry: bool,
}

/// An event from the client of a running command, other than input.
pub(super) enum ClientEvent {
    /// It sends the command a signal.
    Signal(Signal),
    /// Its terminal has a new size.
    Resize(Tty),
    /// It has closed its sending side.
    End,
}

impl ClientInput {
    /// The input is the rest of the current body and, unless that is the last, of later frames.
    /// Frames may also be received if there is no input.
    pub(super) fn new(has_frames: bool, is_last: bool) -> ClientInput {
        ClientInput {
            has_frames,
            is_input: true,
            piece: Vec::new(),
            start: 0,
            is_last,
            is_closed: false,
            at_end: false,
            is_dry: false,
        }
    }

    /// The next input of the command.
    pub(super) fn input(&self, connection: &Connection<'_>) -> Input<'_> {
        let more_of_body = self.is_input && self.is_in_body(connection);
        if self.is_closed {
            Input::End
        } else if self.is_held() {
            Input::Bytes(&self.piece[self.start..])
        } else if self.is_last && !more_of_body {
            Input::End
        } else {
            Input::Later
        }
    }

    /// The command has taken this many bytes of it.
    pub(super) fn consumed(&mut self, length: usize) {
        self.start += length;
    }

    /// The command reads no more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.piece.clear();
        self.start = 0;
    }

    /// Whether more can be read from the client now.
    pub(super) fn reads(&self, connection: &Connection<'_>) -> bool {
        !self.is_held() && self.has_unread(connection)
    }

    /// Whether the client may send more that must be read.
    pub(super) fn has_unread(&self, connection: &Connection<'_>) -> bool {
        !self.at_end && (self.has_frames || connection.to_receive() > 0)
    }

    /// Whether bytes that were read ahead can be used now.
    pub(super) fn has_more(&self, connection: &Connection<'_>) -> bool {
        !self.is_dry && connection.has_input() && self.reads(connection)
    }

    /// Whether the rest of a body must be received.
    pub(super) fn is_in_body(&self, connection: &Connection<'_>) -> bool {
        !self.at_end && connection.to_receive() > 0
    }

    fn is_held(&self) -> bool {
        self.start < self.piece.len()
    }

    /// The client can send nothing more.
    pub(super) fn cut(&mut self) {
        self.at_end = true;
        self.is_last = true;
    }

    /// One step: takes the next frame, or the received part of the current body. A frame that is
    /// not for a running command is an error, and so is end of stream inside a frame.
    pub(super) fn advance(
        &mut self,
        connection: &mut Connection<'_>,
    ) -> Result<Option<ClientEvent>> {
        self.is_dry = false;
        if connection.to_receive() == 0
            && let Some(event) = self.take_frame(connection)?
        {
            return Ok(Some(event));
        }
        if connection.to_receive() > 0 {
            self.take_piece(connection)?;
        }
        Ok(None)
    }

    /// Takes the header of the next frame if all of it was received.
    fn take_frame(&mut self, connection: &mut Connection<'_>) -> Result<Option<ClientEvent>> {
        if !self.has_frames {
            return Ok(None);
        }
        let header = match connection.try_header() {
            Ok(Some(header)) => header,
            Ok(None) => {
                self.is_dry = true;
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Closed => {
                self.cut();
                return Ok(Some(ClientEvent::End));
            }
            Err(error) => return Err(error),
        };
        Ok(match ClientFrame::read(&header)? {
            ClientFrame::Input { last } => {
                self.is_input = !self.is_last;
                self.is_last |= last;
                None
            }
            ClientFrame::Resize(size) => Some(ClientEvent::Resize(size)),
            ClientFrame::Signal(number) => Signal::from_named_raw(number).map(ClientEvent::Signal),
        })
    }

    /// Reads the received part of the current body, and holds it if the command reads it.
    fn take_piece(&mut self, connection: &mut Connection<'_>) -> Result<()> {
        self.piece.clear();
        self.start = 0;
        reserve(&mut self.piece, PIECE)?;
        let got = connection.try_read_more(&mut self.piece, PIECE as u64)?;
        self.is_dry = got.is_none();
        if self.is_closed || !self.is_input {
            self.piece.clear();
        }
        Ok(())
    }
}

/// Bytes that a pipe accepts at once.
const PIECE: usize = limits::GROW_STEP;
