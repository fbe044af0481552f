//! Throws bytes at all that reads an agent's standard output.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenroom::fuzzing::agent_output(data));
