//! The greeting at the beginning of a tunnel: TLS, and for the host the tunnel was asked for.
//!
//! That keeps everything but TLS out, and whoever asks for one host to speak to another one behind the same addresses. What is said inside of
//! TLS is not ours to read: a host that serves others' content by the name in the request stays the operator's risk. For the same reason a greeting
//! with a second, encrypted one inside (ECH) is refused: the outer name would say nothing.

use bytes::{Buf as _, BufMut as _, BytesMut};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::refusal::Refusal;
use crate::config::HostName;

/// Largest greeting, in bytes; usual ones have 200 to 2,000.
const GREETING_MAX: usize = 32 * 1024;

const RECORD_HEAD: usize = 5;
const HANDSHAKE_HEAD: usize = 4;
/// Version and random.
const FIXED: usize = 34;
/// `encrypted_client_hello` (RFC 9849).
const ECH: u16 = 0xfe0d;

/// Reads until the greeting is complete. Returns all that was read, which the host must get; none: the tool closed without a word.
pub(super) async fn read(inside: &mut (impl AsyncRead + Unpin), host: &HostName) -> Result<Option<BytesMut>, Refusal> {
    let mut acceptor = Acceptor::default();
    let mut greeting = BytesMut::with_capacity(2048);
    loop {
        let before = greeting.len();
        let mut room = (&mut greeting).limit(GREETING_MAX - before);
        // At the limit there is no room to read into, which looks like an end.
        if inside.read_buf(&mut room).await.map_err(|_| Refusal::NotTls)? == 0 {
            return if before == 0 { Ok(None) } else { Err(Refusal::NotTls) };
        }
        let mut fresh = &greeting[before..];
        while !fresh.is_empty() {
            if acceptor.read_tls(&mut fresh).map_err(|_| Refusal::NotTls)? == 0 {
                return Err(Refusal::NotTls);
            }
            let Some(accepted) = acceptor.accept().map_err(|_| Refusal::NotTls)? else { continue };
            let named = accepted.client_hello().server_name().and_then(|name| HostName::parse(name).ok());
            if named.as_ref() != Some(host) || hides_another(&greeting).ok_or(Refusal::NotTls)? {
                return Err(Refusal::WrongName);
            }
            return Ok(Some(greeting));
        }
    }
}

/// Whether a complete greeting has an encrypted one inside; none: it isn't what it was taken for.
fn hides_another(greeting: &[u8]) -> Option<bool> {
    let message = unwrap_records(greeting)?;
    let mut rest = message.get(FIXED..)?;
    let _session = take(&mut rest, 1)?;
    let _ciphers = take(&mut rest, 2)?;
    let _compressions = take(&mut rest, 1)?;
    let mut extensions = take(&mut rest, 2)?;
    while !extensions.is_empty() {
        let kind = extensions.try_get_u16().ok()?;
        let _content = take(&mut extensions, 2)?;
        if kind == ECH {
            return Some(true);
        }
    }
    Some(false)
}

/// The first handshake message without the records it came in.
fn unwrap_records(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let length = usize::from(u16::from_be_bytes(bytes.get(3..RECORD_HEAD)?.try_into().ok()?));
        message.extend_from_slice(bytes.get(RECORD_HEAD..RECORD_HEAD + length)?);
        bytes = &bytes[RECORD_HEAD + length..];
        if let Some([_kind, high, middle, low]) = message.get(..HANDSHAKE_HEAD) {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            if let Some(whole) = message.get(HANDSHAKE_HEAD..HANDSHAKE_HEAD + length) {
                return Some(whole.to_vec());
            }
        }
    }
}

/// Takes a piece that begins with its length, which has so many bytes.
fn take<'bytes>(bytes: &mut &'bytes [u8], length_bytes: usize) -> Option<&'bytes [u8]> {
    let (head, rest) = bytes.split_at_checked(length_bytes)?;
    let length = head.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (piece, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(piece)
}

#[cfg(test)]
pub(super) mod tests;
