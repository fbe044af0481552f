//! Where fuzzers come in: what reads bytes that an agent or a broken peer chose. Not for other use, and no part of what is promised.
//!
//! The first byte says how the rest is cut into chunks, because what comes over a pipe or a socket is cut anywhere. Nothing here may panic,
//! hang, or keep more than it was given.

use bytes::BytesMut;

use crate::supervisor::frames::Frame;

/// Reads a link's bytes as frames. What comes out must go in again as the same bytes.
pub fn frames(data: &[u8]) {
    let mut buffer = BytesMut::new();
    for chunk in chunks(data) {
        buffer.extend_from_slice(chunk);
        loop {
            let before = buffer.clone();
            let Ok(found) = Frame::decode(&mut buffer) else { return };
            let Some(frame) = found else { break };
            let mut again = BytesMut::new();
            frame.encode(&mut again);
            assert!(before.starts_with(&again), "a frame changes on its way");
        }
    }
}

/// Reads an agent's standard output in every protocol, down to the events.
#[cfg(feature = "server")]
pub fn agent_output(data: &[u8]) {
    use bytes::Bytes;

    use crate::agent::framing::{LOG_LINE_LIMIT, Overlong, STDOUT_LINE_LIMIT, Splitter, readable};

    for (limit, overlong) in [(STDOUT_LINE_LIMIT, Overlong::Refuse), (16, Overlong::Refuse), (16, Overlong::Cut)] {
        let mut splitter = Splitter::new(limit, overlong);
        for chunk in chunks(data) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Ok(Some(line)) = splitter.next(&mut chunk) {
                assert!(line.bytes.len() <= limit && !line.bytes.contains(&b'\n'), "no line");
                crate::agent::acp::understand(&line.bytes);
                crate::agent::lines::understand(&line.bytes);
                readable(&line.bytes, LOG_LINE_LIMIT);
            }
        }
    }
}

fn chunks(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (size, rest) = data.split_first().map_or((1, data), |(size, rest)| (usize::from(*size).max(1), rest));
    rest.chunks(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..500)) {
            super::frames(&data);
            super::agent_output(&data);
        }
    }
}
