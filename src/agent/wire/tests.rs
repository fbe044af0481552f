//! Servers that die while they read an agent, and writers that are taken up in the middle of a prompt.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{Heard, Reader, Writer};
use crate::{
    agent::{AgentError, Mark, Place},
    sandbox::pipes::{CHUNK_COST, FromAgent, PIECE_MAX, Stream},
};

/// Longest beginning of a line that is held here.
const HELD: usize = 40 + 3 * CHUNK_COST;

/// What a supervisor keeps: chunks with their numbers, from the oldest that isn't forgotten.
#[derive(Debug, Clone)]
struct Kept(VecDeque<(u64, Stream, Bytes)>);

impl Kept {
    fn new(chunks: &[(Stream, Vec<u8>)]) -> Self {
        let numbered = (1..).zip(chunks).map(|(seq, (stream, bytes))| (seq, *stream, Bytes::copy_from_slice(bytes)));
        Self(numbered.collect())
    }

    fn forget(&mut self, number: u64) {
        self.0.retain(|(seq, ..)| *seq > number);
    }

    /// What a reader hears behind the mark, each with its mark, up to an error or the last chunk.
    fn read(&self, mark: Mark) -> (Vec<(Heard, Mark)>, Option<AgentError>) {
        let (output, to_reader) = mpsc::channel(self.0.len().max(1));
        for (seq, stream, bytes) in &self.0 {
            output.try_send(FromAgent::Chunk { seq: *seq, stream: *stream, bytes: bytes.clone() }).expect("room");
        }
        let mut reader = Reader::holding(to_reader, mark, HELD);
        let mut heard = Vec::new();
        loop {
            match reader.next().now_or_never() {
                Some(Ok(line)) => heard.push((line, reader.mark())),
                Some(Err(error)) => return (heard, Some(error)),
                None => return (heard, None),
            }
        }
    }
}

fn lines(heard: &[(Heard, Mark)]) -> Vec<&Heard> {
    heard.iter().map(|(heard, _)| heard).filter(|heard| **heard != Heard::Nothing).collect()
}

fn stdout(chunks: &[&str]) -> Kept {
    let chunks: Vec<_> = chunks.iter().map(|text| (Stream::Stdout, text.as_bytes().to_vec())).collect();
    Kept::new(&chunks)
}

fn line(text: &str) -> Heard {
    Heard::Line(Bytes::copy_from_slice(text.as_bytes()))
}

const fn place(chunk: u64, offset: u32) -> Place {
    Place { chunk, offset }
}

#[test]
fn a_mark_stands_behind_the_last_whole_line_and_holds_the_chunks_of_the_next() {
    let (heard, _) = stdout(&["one\ntw", "o\nthr", "e", "e\n"]).read(Mark::default());
    let marks: Vec<_> = heard.iter().map(|(_, mark)| (mark.stdout, mark.forgettable())).collect();
    assert_eq!(lines(&heard), [&line("one"), &line("two"), &line("three")]);
    // one, end of a chunk, two, end of a chunk, end of a chunk, three with its chunk
    let wanted =
        [(place(1, 4), 0), (place(1, 4), 0), (place(2, 2), 1), (place(2, 2), 1), (place(2, 2), 1), (place(5, 0), 4)];
    assert_eq!(marks, wanted);
}

#[test]
fn a_line_of_standard_error_without_an_end_holds_nothing() {
    let chunks = [(Stream::Stderr, b"50 %".to_vec()), (Stream::Stdout, b"one\n".to_vec())];
    let (heard, _) = Kept::new(&chunks).read(Mark::default());
    let (_, mark) = heard.last().expect("two chunks");
    assert_eq!((mark.stdout, mark.stderr, mark.forgettable()), (place(3, 0), Place::default(), 2));
}

#[test]
fn lines_that_are_empty_move_the_mark() {
    let (heard, _) = stdout(&["\n\n", "\n"]).read(Mark::default());
    assert_eq!(lines(&heard).len(), 0);
    assert_eq!(heard.last().map(|(_, mark)| mark.forgettable()), Some(2));
}

#[test]
fn the_beginning_of_a_long_line_is_given_up_until_its_end_has_come() {
    let long = "x".repeat(30);
    let kept = stdout(&["a\n", &long, &long, &long, "\nb\n"]);
    let (heard, _) = kept.read(Mark::default());
    let torn: Vec<_> = heard.iter().map(|(_, mark)| (mark.torn, mark.forgettable())).collect();
    assert_eq!(torn, [(false, 1), (false, 1), (false, 1), (true, 4), (false, 4), (false, 5)]);
}

#[test]
fn a_torn_line_is_read_again_if_all_of_it_is_there_and_is_the_end_if_not() {
    let long = "x".repeat(30);
    let mut kept = stdout(&["a\n", &long, &long, &long, "\nb\n"]);
    let (heard, _) = kept.read(Mark::default());
    let (_, torn) = heard[3];
    assert!(torn.torn);
    kept.forget(1);
    let (again, error) = kept.read(torn);
    assert!(error.is_none());
    assert_eq!(lines(&again), [&line(&long.repeat(3)), &line("b")]);
    kept.forget(torn.forgettable());
    let (again, error) = kept.read(torn);
    assert_eq!(again.len(), 0);
    let told = error.expect("it can't be taken up").to_string();
    assert!(told.contains("its beginning is gone"), "{told}");
}

#[test]
fn output_that_is_missing_behind_the_mark_is_the_end() {
    let mut kept = stdout(&["a\n", "b\n", "c\n", "d\n"]);
    let (heard, _) = kept.read(Mark::default());
    kept.forget(2);
    let error = kept.read(heard[0].1).1.expect("chunk 2 is missing");
    let wanted = "the agent broke its protocol: its output from chunk 2 on was wanted, but begins with chunk 3";
    assert_eq!(error.to_string(), wanted);
    assert!(kept.read(heard[1].1).1.is_none(), "chunk 3 is what is wanted");
}

#[test]
fn an_agent_that_nobody_had_is_read_from_whatever_is_left() {
    let mut kept = stdout(&["a\n", "b\n"]);
    kept.forget(1);
    assert_eq!(lines(&kept.read(Mark::default()).0), [&line("b")]);
}

/// What agents write, cut into chunks anywhere, both outputs in between.
fn output() -> impl Strategy<Value = Vec<(Stream, Vec<u8>)>> {
    let piece = prop_oneof![
        4 => "[a-c]{0,6}\n".prop_map(String::into_bytes),
        2 => "[a-c]{1,6}".prop_map(String::into_bytes),
        1 => "[a-c\n]{0,20}".prop_map(String::into_bytes),
        1 => Just(b"\r\n".to_vec()),
    ];
    let stream = prop_oneof![3 => Just(Stream::Stdout), 1 => Just(Stream::Stderr)];
    prop::collection::vec((stream, piece), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Server after server reads for a while and dies. What each has kept is some beginning of what it heard; what it acknowledged is some
    /// beginning of what it has kept. Together they have kept every line once.
    #[test]
    fn servers_that_die_lose_no_line_and_double_none(
        chunks in output(),
        deaths in prop::collection::vec((0_usize..20, 0_usize..20), 0..8),
    ) {
        let mut kept = Kept::new(&chunks);
        let (whole, error) = kept.read(Mark::default());
        prop_assert!(error.is_none());
        let (mut durable, mut mark) = (Vec::new(), Mark::default());
        let mut forgotten = 0;
        for (written, acknowledged) in deaths {
            let (heard, error) = kept.read(mark);
            if let Some(error) = error {
                prop_assert!(mark.torn, "{}", error);
                return Ok(());
            }
            let written = written.min(heard.len());
            if let Some((_, last)) = heard[..written].last() {
                mark = *last;
            }
            if let Some((_, last)) = heard[..acknowledged.min(written)].last() {
                forgotten = forgotten.max(last.forgettable());
                kept.forget(forgotten);
            }
            durable.extend(heard.into_iter().take(written));
        }
        let (rest, error) = kept.read(mark);
        if let Some(error) = error {
            prop_assert!(mark.torn, "{}", error);
            return Ok(());
        }
        durable.extend(rest);
        let of_protocol = |heard: &[(Heard, Mark)]| -> Vec<Bytes> {
            heard.iter().filter_map(|(heard, _)| if let Heard::Line(line) = heard { Some(line.clone()) } else { None }).collect()
        };
        prop_assert_eq!(of_protocol(&durable), of_protocol(&whole));
        // A line for people may lack its beginning: the supervisor doesn't keep it, and in a torn line it is given up.
        if forgotten == 0 && !whole.iter().any(|(_, mark)| mark.torn) {
            prop_assert_eq!(lines(&durable), lines(&whole));
        }
    }

    /// The same without anything forgotten: both outputs come whole, and in their order.
    #[test]
    fn what_was_not_acknowledged_comes_again_exactly(chunks in output(), at in 0_usize..60) {
        let kept = Kept::new(&chunks);
        let (whole, _) = kept.read(Mark::default());
        let (before, behind) = whole.split_at(at.min(whole.len()));
        let mark = before.last().map_or_else(Mark::default, |(_, mark)| *mark);
        // In a torn line, what was heard of a line for people is given up with it.
        prop_assume!(!before.iter().any(|(_, mark)| mark.torn));
        let (again, _) = kept.read(mark);
        prop_assert_eq!(lines(&again), lines(behind));
    }

    /// The supervisor is never asked to keep much more than a line may hold, and marks never move back.
    #[test]
    fn what_is_held_is_bounded(chunks in output()) {
        let kept = Kept::new(&chunks);
        let (heard, _) = kept.read(Mark::default());
        let cost = |after: u64, upto: u64| -> usize {
            kept.0.iter().filter(|(seq, ..)| (after + 1..=upto).contains(seq)).map(|(.., bytes)| bytes.len() + CHUNK_COST).sum()
        };
        let (mut before, mut chunk) = (Mark::default(), 0);
        for (_, mark) in &heard {
            prop_assert!(mark.forgettable() >= before.forgettable());
            prop_assert!(mark.stdout >= before.stdout && mark.stderr >= before.stderr);
            chunk = chunk.max(mark.stdout.chunk.saturating_sub(1)).max(mark.stderr.chunk.saturating_sub(1));
            prop_assert!(cost(mark.forgettable(), chunk) <= HELD + 20 + CHUNK_COST);
            before = *mark;
        }
    }

}

proptest! {
    // Few: each has up to four long pieces.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However much of a prompt the supervisor has, the agent gets it once, and every piece has the number that was planned.
    #[test]
    fn a_prompt_arrives_once(before in 0_u64..5, pieces in 1_usize..4, odd in 1_usize..PIECE_MAX, received in 0_u64..9) {
        let prompt: Bytes = (0..(pieces - 1) * PIECE_MAX + odd).map(|at| at.to_le_bytes()[0]).collect();
        let (input, mut from_writer) = mpsc::channel(16);
        let mut writer = Writer::new(input, before);
        let planned = writer.plan(prompt.clone());
        prop_assert_eq!((planned.first, planned.last), (before + 1, before + pieces as u64));
        writer.push(Bytes::from_static(b"behind"));
        prop_assert!(writer.is_empty(), "nothing goes before it may");
        writer.go();
        writer.write_all().now_or_never().expect("there is room");
        let mut sent: Vec<Bytes> = std::iter::from_fn(|| from_writer.try_recv().ok()).collect();
        let last = sent.pop();
        prop_assert_eq!(last.as_deref(), Some(&b"behind"[..]));
        prop_assert_eq!(sent.len(), pieces);

        let received = received.clamp(before, planned.last + 1);
        let (input, mut from_writer) = mpsc::channel(16);
        let mut next = Writer::new(input, received);
        next.complete(planned, prompt.clone());
        next.write_all().now_or_never().expect("there is room");
        let there = usize::try_from(received - before).expect("small").min(pieces);
        let rest = std::iter::from_fn(|| from_writer.try_recv().ok());
        let arrived: Vec<u8> = sent[..there].iter().cloned().chain(rest).flatten().collect();
        prop_assert!(arrived == prompt, "the prompt differs");
    }
}

#[test]
fn a_prompt_that_is_taken_back_leaves_its_numbers_to_others() {
    let (input, mut from_writer) = mpsc::channel(16);
    let mut writer = Writer::new(input, 0);
    let first = writer.plan(Bytes::from_static(b"never"));
    writer.push(Bytes::from_static(b"an answer"));
    writer.take_back();
    writer.write_all().now_or_never().expect("there is room");
    assert_eq!(from_writer.try_recv().ok().as_deref(), Some(&b"an answer"[..]));
    assert_eq!((first.first, writer.next_piece()), (1, 2));
}
