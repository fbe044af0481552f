//! The fuzzers' corpus without a fuzzer: every file of `fuzz/corpus`, and a fixed number of fixed mutations of each, through the functions that
//! the fuzzers call. What breaks is told as file, mutation and bytes; the seed never changes, so it breaks again.

use std::{
    fs,
    panic::{RefUnwindSafe, catch_unwind},
    path::Path,
};

/// Mutations of each file.
const MUTATIONS: usize = 200;
/// Longest input, in bytes: mutations may grow.
const LONGEST: usize = 24 * 1024;
/// Bytes that mean something to somebody.
const TELLING: [u8; 16] = [0, 1, 2, 0x7f, 0x80, 0xff, b'\n', b'\r', b'"', b'\\', b'{', b'}', b'[', b']', b',', b':'];

/// One file.
struct Input {
    name: String,
    data: Vec<u8>,
}

fn corpus(target: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs = Vec::new();
    for entry in entries {
        let path = entry.expect("the corpus can be read").path();
        let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
        inputs.push(Input { name, data: fs::read(&path).expect("the corpus can be read") });
    }
    inputs.sort_by(|one, other| one.name.cmp(&other.name));
    inputs
}

/// Chance that is the same every time (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the limit; 0 when there is none.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).expect("it is below a usize")
    }
}

/// Changes an input in one to four places; `other` is another file of the corpus.
fn mutate(data: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(data.len() + 1);
        let end = (at + 1 + chance.below(16)).min(data.len());
        match chance.below(8) {
            0 if at < data.len() => data[at] ^= 1 << chance.below(8),
            1 if at < data.len() => data[at] = TELLING[chance.below(TELLING.len())],
            2 => data.insert(at, TELLING[chance.below(TELLING.len())]),
            3 => drop(data.drain(at..end)),
            4 => data.truncate(at),
            5 => {
                let again = data[at..end].repeat(1 + chance.below(64));
                data.splice(at..at, again);
            }
            6 => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(512)).min(other.len());
                data.splice(at..end, other[from..to].iter().copied());
            }
            // How the rest is cut.
            _ if !data.is_empty() => data[0] = u8::try_from(chance.below(256)).expect("below 256"),
            _ => {}
        }
    }
    data.truncate(LONGEST);
}

fn survives(target: &str, least: usize, read: impl Fn(&[u8]) + RefUnwindSafe) {
    let inputs = corpus(target);
    assert!(inputs.len() >= least, "{target} has {} files only", inputs.len());
    let mut chance = Chance(1);
    for input in &inputs {
        for mutation in 0..=MUTATIONS {
            let mut data = input.data.clone();
            if mutation > 0 {
                let other = &inputs[chance.below(inputs.len())];
                mutate(&mut data, &other.data, &mut chance);
            }
            let read = catch_unwind(|| read(&data));
            assert!(read.is_ok(), "{target}: {}, mutation {mutation}, breaks it:\n{}", input.name, data.escape_ascii());
        }
    }
}

#[test]
fn no_frames_break_the_link() {
    survives("frames", 40, greenroom::fuzzing::frames);
}

#[test]
fn no_output_breaks_the_reader_of_agents() {
    survives("agent_output", 25, greenroom::fuzzing::agent_output);
}
