//! Throws bytes at the frame parser of the link between supervisor and server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenroom::fuzzing::frames(data));
