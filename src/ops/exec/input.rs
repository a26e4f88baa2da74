//! What a command reads: the rest of its request's body, and after that what its client
//! sends.
//!
//! | State   | Means                                              | The client's descriptor   |
//! |---------|----------------------------------------------------|---------------------------|
//! | reading | no piece of input is held, and more may come       | is read                   |
//! | held    | the command has not taken the piece that was read  | is watched for its end    |
//! | closed  | nothing more can come: the body was read and there | is watched for its end    |
//! |         | are no frames, or end-of-stream was read           |                           |
//!
//! `reading` becomes `held` by a piece, and again `reading` once the command has taken it.
//! Once the command reads no more, what comes is dropped, and nothing is held.

use std::time::Duration;

use rustix::process::Signal;

use super::handler::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::ops::frame::link::Inbox;
use crate::ops::frame::{Body, BodyReader};
use crate::wire::message::exec::{ClientFrame, Tty};

/// A command's input on its way. One piece of it is held at a time, and no more is read
/// until the command has taken that.
pub(super) struct ClientInput<'a, 'b> {
    /// The rest of the request.
    body: Body<'a, 'b>,
    /// Where frames come from, if they do.
    frames: Option<Inbox<'a>>,
    /// The body of the frame at hand, if it has one, and whether it is input.
    frame: Option<(BodyReader<'a>, bool)>,
    /// The piece that is held.
    piece: Vec<u8>,
    start: usize,
    end: usize,
    /// The rest of the body and of the frame at hand is all that there will be.
    is_last: bool,
    /// The command reads no more.
    is_closed: bool,
    /// The client has closed its sending side.
    at_end: bool,
}

/// What a client does while its command runs, besides giving input.
pub(super) enum ClientEvent {
    /// It has the command signalled.
    Signal(Signal),
    /// It has another terminal size.
    Resize(Tty),
    /// It has closed its sending side.
    End,
}

impl<'a, 'b> ClientInput<'a, 'b> {
    /// The input is `body`, and, unless that is the last, what comes in `frames`.
    pub(super) fn new(body: Body<'a, 'b>, frames: Option<Inbox<'a>>, is_last: bool) -> Self {
        ClientInput {
            body,
            frames,
            frame: None,
            piece: Vec::new(),
            start: 0,
            end: 0,
            is_last,
            is_closed: false,
            at_end: false,
        }
    }

    /// What the command may read next.
    pub(super) fn input(&self) -> Input<'_> {
        let more_of_frame = matches!(self.frame, Some((_, true)));
        match &self.body {
            _ if self.is_closed => Input::End,
            _ if self.start < self.end => Input::Bytes(&self.piece[self.start..self.end]),
            Body::Memory(bytes) if !bytes.is_empty() => Input::Bytes(bytes),
            body if self.is_last && body.is_empty() && !more_of_frame => Input::End,
            _ => Input::Later,
        }
    }

    /// The command took so many bytes of that.
    pub(super) fn consumed(&mut self, length: usize) {
        if self.start < self.end {
            self.start += length;
        } else if let Body::Memory(bytes) = &mut self.body {
            *bytes = &bytes[length..];
        }
    }

    /// The command reads no more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.end = self.start;
        if let Body::Memory(bytes) = &mut self.body {
            *bytes = &[];
        }
    }

    /// Whether more can be read from the client now.
    pub(super) fn reads(&self) -> bool {
        self.start == self.end && self.has_unread()
    }

    /// Whether more may come from the client that has to be read.
    pub(super) fn has_unread(&self) -> bool {
        !self.at_end && (self.is_in_body() || self.frames.is_some())
    }

    /// Whether something has begun to come whose rest is needed for the stream to be in
    /// sync.
    pub(super) fn is_mid_frame(&self) -> bool {
        let is_in_header = || self.frames.as_ref().is_some_and(Inbox::is_mid_header);
        !self.at_end && (self.is_in_body() || self.frame.is_some() || is_in_header())
    }

    fn is_in_body(&self) -> bool {
        matches!(&self.body, Body::Stream(body) if body.left() > 0)
    }

    /// Nothing more can come from the client.
    pub(super) fn cut(&mut self) {
        self.at_end = true;
        self.is_last = true;
    }

    /// One step: takes the next frame, or what is there of the body at hand. A frame that is
    /// not for a running command is an error, as is end-of-stream inside of one.
    pub(super) fn advance(&mut self) -> Result<Option<ClientEvent>> {
        if let Body::Stream(body) = &mut self.body
            && body.left() > 0
        {
            let got = read_piece(body, &mut self.piece)?;
            self.hold(got);
            return Ok(None);
        }
        if self.frame.is_none()
            && let Some(event) = self.take_frame()?
        {
            return Ok(Some(event));
        }
        if let Some((frame, is_input)) = &mut self.frame {
            let got = read_piece(frame, &mut self.piece)?;
            let kept = if *is_input { got } else { 0 };
            if frame.left() == 0 {
                self.frame = None;
            }
            self.hold(kept);
        }
        Ok(None)
    }

    /// Takes the header of the next frame, if all of it is there.
    fn take_frame(&mut self) -> Result<Option<ClientEvent>> {
        let Some(frames) = &mut self.frames else { return Ok(None) };
        let (header, body) = match frames.next() {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => frame,
            Err(error) if error.kind() == ErrorKind::Closed => {
                self.cut();
                return Ok(Some(ClientEvent::End));
            }
            Err(error) => return Err(error),
        };
        Ok(match ClientFrame::read(&header)? {
            ClientFrame::Input { last } => {
                self.frame = (body.left() > 0).then_some((body, !self.is_last));
                self.is_last |= last;
                None
            }
            ClientFrame::Resize(size) => Some(ClientEvent::Resize(size)),
            ClientFrame::Signal(number) => Signal::from_named_raw(number).map(ClientEvent::Signal),
        })
    }

    fn hold(&mut self, got: usize) {
        self.start = 0;
        self.end = if self.is_closed { 0 } else { got };
    }
}

/// Reads what is there of a body, 0 bytes if there is nothing.
fn read_piece(body: &mut BodyReader<'_>, piece: &mut Vec<u8>) -> Result<usize> {
    if piece.is_empty() {
        piece
            .try_reserve_exact(PIECE)
            .map_err(|_| Error::new(ErrorKind::NoMemory, "a piece of input"))?;
        piece.resize(PIECE, 0);
    }
    match body.read(piece, Some(Duration::ZERO)) {
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(0),
        got => got,
    }
}

/// What a pipe takes at once.
const PIECE: usize = limits::GROW_STEP;
