//! What a supervisor and the server say to each other over a link.
//!
//! A frame is a length (4 bytes, big-endian, of what follows), a kind (1 byte) and the fields of that kind in order, numbers
//! big-endian. Both ends refuse a frame longer than [`FRAME_MAX`] and one whose fields don't fill it exactly: a broken peer is
//! cut off, never guessed at. Pure: bytes in, frames out; [`super::connection`] does the I/O.
//!
//! ```text
//! supervisor → server   Hello · Output · InputTaken · Exited · Pong
//! server → supervisor   Welcome · Input · CloseInput · OutputTaken · Signal · Stop · Goodbye · Ping
//! ```
//! A link begins with `Hello` and its answer `Welcome`. `Output` and `Input`/`CloseInput` are numbered from 1, each on its own, and are
//! sent again on the next link until `OutputTaken` or `InputTaken` names them. `Exited` comes after all output; `Goodbye` says that nothing
//! more is wanted and lets the supervisor end.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of this protocol; both ends must speak the same.
pub const VERSION: u16 = 1;
/// Most bytes one output or input frame carries.
pub const CHUNK_MAX: usize = 64 * 1024;
/// Most bytes of one frame after its length: a chunk and its fields.
pub const FRAME_MAX: usize = CHUNK_MAX + 32;
/// Output that may be on its way to the server and not taken yet, in bytes. What the server must be able to hold for one sandbox.
pub const OUTPUT_WINDOW: usize = 1024 * 1024;
/// Input that may be on its way to the agent and not written to its stdin yet, in bytes.
pub const INPUT_WINDOW: usize = 256 * 1024;

const LENGTH_BYTES: usize = 4;

/// Which of the agent's outputs a chunk was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the agent ended, as `wait` told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// The supervisor introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the supervisor.
    pub version: u16,
    /// Port of the relay to the gateway on the sandbox's loopback.
    pub relay_port: u16,
    /// The agent's process id as the supervisor sees it; 0 when it could not be started.
    pub agent_pid: u32,
    /// Newest input frame it has.
    pub input_received: u64,
    /// Oldest output chunk it still keeps; the next number when it keeps none.
    pub oldest_output: u64,
}

/// One message. See the module's page for who says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First frame of the supervisor.
    Hello(Hello),
    /// First frame of the server.
    Welcome {
        /// [`VERSION`] of the server.
        version: u16,
        /// Newest output chunk the server has; sending goes on after it.
        output_received: u64,
    },
    /// Bytes the agent wrote.
    Output {
        /// Number over both outputs.
        number: u64,
        /// Where it was written.
        source: Source,
        /// At most [`CHUNK_MAX`].
        bytes: Bytes,
    },
    /// All output up to this number may be forgotten.
    OutputTaken(u64),
    /// Bytes for the agent's stdin.
    Input {
        /// Number over all input.
        number: u64,
        /// At most [`CHUNK_MAX`].
        bytes: Bytes,
    },
    /// The end of the agent's stdin; numbered like input.
    CloseInput(u64),
    /// All input up to this number is in the agent's stdin.
    InputTaken(u64),
    /// Send this signal to the agent's process group.
    Signal(i32),
    /// End the agent: TERM now, KILL after the grace.
    Stop {
        /// In milliseconds.
        grace_ms: u32,
    },
    /// The agent ended.
    Exited(Ending),
    /// The server has all it wants; the supervisor may end.
    Goodbye,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

/// Why bytes are not a frame. The link is cut: after any of these the position of the next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is 0 or over the limit.
    #[error("frame of {0} bytes: must have 1 to {FRAME_MAX}")]
    Length(usize),
    /// The kind, or a value in its fields, is unknown.
    #[error("unknown frame kind or value {0}")]
    Unknown(u8),
    /// Too few or too many bytes for its kind.
    #[error("the fields of a frame of kind {0} don't fill it")]
    Fields(u8),
}

mod kind {
    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const OUTPUT: u8 = 3;
    pub const OUTPUT_TAKEN: u8 = 4;
    pub const INPUT: u8 = 5;
    pub const CLOSE_INPUT: u8 = 6;
    pub const INPUT_TAKEN: u8 = 7;
    pub const SIGNAL: u8 = 8;
    pub const STOP: u8 = 9;
    pub const EXITED: u8 = 10;
    pub const GOODBYE: u8 = 11;
    pub const PING: u8 = 12;
    pub const PONG: u8 = 13;
}

impl Frame {
    /// Writes the frame at the end of `buffer`.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_u32(0);
        match self {
            Self::Hello(hello) => {
                buffer.put_u8(kind::HELLO);
                buffer.put_u16(hello.version);
                buffer.put_u16(hello.relay_port);
                buffer.put_u32(hello.agent_pid);
                buffer.put_u64(hello.input_received);
                buffer.put_u64(hello.oldest_output);
            }
            Self::Welcome { version, output_received } => {
                buffer.put_u8(kind::WELCOME);
                buffer.put_u16(*version);
                buffer.put_u64(*output_received);
            }
            Self::Output { number, source, bytes } => {
                buffer.reserve(bytes.len() + 16);
                buffer.put_u8(kind::OUTPUT);
                buffer.put_u64(*number);
                buffer.put_u8(match source {
                    Source::Stdout => 1,
                    Source::Stderr => 2,
                });
                buffer.put_slice(bytes);
            }
            Self::Input { number, bytes } => {
                buffer.put_u8(kind::INPUT);
                buffer.put_u64(*number);
                buffer.put_slice(bytes);
            }
            Self::OutputTaken(number) => put_number(buffer, kind::OUTPUT_TAKEN, *number),
            Self::CloseInput(number) => put_number(buffer, kind::CLOSE_INPUT, *number),
            Self::InputTaken(number) => put_number(buffer, kind::INPUT_TAKEN, *number),
            Self::Signal(number) => {
                buffer.put_u8(kind::SIGNAL);
                buffer.put_i32(*number);
            }
            Self::Stop { grace_ms } => {
                buffer.put_u8(kind::STOP);
                buffer.put_u32(*grace_ms);
            }
            Self::Exited(ending) => {
                buffer.put_u8(kind::EXITED);
                let (how, value) = match ending {
                    Ending::Code(code) => (1, code),
                    Ending::Signal(signal) => (2, signal),
                };
                buffer.put_u8(how);
                buffer.put_i32(*value);
            }
            Self::Goodbye => buffer.put_u8(kind::GOODBYE),
            Self::Ping => buffer.put_u8(kind::PING),
            Self::Pong => buffer.put_u8(kind::PONG),
        }
        let length = u32::try_from(buffer.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
        buffer[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes one frame off the front of `buffer`; none when it isn't complete yet.
    ///
    /// # Errors
    /// What is at the front can't be a frame.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(head) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length == 0 || length > FRAME_MAX {
            return Err(FrameError::Length(length));
        }
        if buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        let mut fields = buffer.split_to(length);
        let kind = fields.get_u8();
        decode_fields(kind, fields.freeze()).map(Some)
    }
}

fn put_number(buffer: &mut BytesMut, kind: u8, number: u64) {
    buffer.put_u8(kind);
    buffer.put_u64(number);
}

fn decode_fields(kind: u8, mut fields: Bytes) -> Result<Frame, FrameError> {
    let short = |_| FrameError::Fields(kind);
    let frame = match kind {
        kind::HELLO => Frame::Hello(Hello {
            version: fields.try_get_u16().map_err(short)?,
            relay_port: fields.try_get_u16().map_err(short)?,
            agent_pid: fields.try_get_u32().map_err(short)?,
            input_received: fields.try_get_u64().map_err(short)?,
            oldest_output: fields.try_get_u64().map_err(short)?,
        }),
        kind::WELCOME => Frame::Welcome {
            version: fields.try_get_u16().map_err(short)?,
            output_received: fields.try_get_u64().map_err(short)?,
        },
        kind::OUTPUT => {
            let number = fields.try_get_u64().map_err(short)?;
            let source = match fields.try_get_u8().map_err(short)? {
                1 => Source::Stdout,
                2 => Source::Stderr,
                other => return Err(FrameError::Unknown(other)),
            };
            Frame::Output { number, source, bytes: take_chunk(kind, &mut fields)? }
        }
        kind::OUTPUT_TAKEN => Frame::OutputTaken(fields.try_get_u64().map_err(short)?),
        kind::INPUT => {
            let number = fields.try_get_u64().map_err(short)?;
            Frame::Input { number, bytes: take_chunk(kind, &mut fields)? }
        }
        kind::CLOSE_INPUT => Frame::CloseInput(fields.try_get_u64().map_err(short)?),
        kind::INPUT_TAKEN => Frame::InputTaken(fields.try_get_u64().map_err(short)?),
        kind::SIGNAL => Frame::Signal(fields.try_get_i32().map_err(short)?),
        kind::STOP => Frame::Stop { grace_ms: fields.try_get_u32().map_err(short)? },
        kind::EXITED => {
            let how = fields.try_get_u8().map_err(short)?;
            let value = fields.try_get_i32().map_err(short)?;
            match how {
                1 => Frame::Exited(Ending::Code(value)),
                2 => Frame::Exited(Ending::Signal(value)),
                other => return Err(FrameError::Unknown(other)),
            }
        }
        kind::GOODBYE => Frame::Goodbye,
        kind::PING => Frame::Ping,
        kind::PONG => Frame::Pong,
        other => return Err(FrameError::Unknown(other)),
    };
    if fields.has_remaining() { Err(FrameError::Fields(kind)) } else { Ok(frame) }
}

fn take_chunk(kind: u8, fields: &mut Bytes) -> Result<Bytes, FrameError> {
    if fields.len() > CHUNK_MAX { Err(FrameError::Fields(kind)) } else { Ok(std::mem::take(fields)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            (any::<u16>(), any::<u16>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
                |(version, relay_port, agent_pid, input_received, oldest_output)| {
                    Frame::Hello(Hello { version, relay_port, agent_pid, input_received, oldest_output })
                }
            ),
            (any::<u16>(), any::<u64>())
                .prop_map(|(version, output_received)| Frame::Welcome { version, output_received }),
            (any::<u64>(), any::<bool>(), bytes()).prop_map(|(number, error, bytes)| {
                let source = if error { Source::Stderr } else { Source::Stdout };
                Frame::Output { number, source, bytes }
            }),
            any::<u64>().prop_map(Frame::OutputTaken),
            (any::<u64>(), bytes()).prop_map(|(number, bytes)| Frame::Input { number, bytes }),
            any::<u64>().prop_map(Frame::CloseInput),
            any::<u64>().prop_map(Frame::InputTaken),
            any::<i32>().prop_map(Frame::Signal),
            any::<u32>().prop_map(|grace_ms| Frame::Stop { grace_ms }),
            any::<i32>().prop_map(|code| Frame::Exited(Ending::Code(code))),
            any::<i32>().prop_map(|signal| Frame::Exited(Ending::Signal(signal))),
            Just(Frame::Goodbye),
            Just(Frame::Ping),
            Just(Frame::Pong),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(any_frame(), 0..20),
            cut in 1_usize..50,
        ) {
            let mut sent = BytesMut::new();
            for frame in &frames { frame.encode(&mut sent); }
            let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).expect("valid frames") { received.push(frame); }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(received, frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_loop(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
        }

        #[test]
        fn arbitrary_fields_never_panic(kind in 0_u8..20, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut buffer = BytesMut::new();
            buffer.put_u32(u32::try_from(bytes.len() + 1).expect("short"));
            buffer.put_u8(kind);
            buffer.put_slice(&bytes);
            if let Ok(Some(frame)) = Frame::decode(&mut buffer) {
                let mut again = BytesMut::new();
                frame.encode(&mut again);
                prop_assert_eq!(&again[5..], &bytes[..]);
            }
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut buffer = BytesMut::new();
        buffer.put_u32(u32::MAX);
        assert_eq!(Frame::decode(&mut buffer), Err(FrameError::Length(u32::MAX as usize)));
        let mut whole = BytesMut::new();
        Frame::Input { number: 1, bytes: Bytes::from(vec![0; CHUNK_MAX]) }.encode(&mut whole);
        assert!(matches!(Frame::decode(&mut whole), Ok(Some(_))));
    }
}
