//! What a prompt asks for: `[name NUMBER key=NUMBER …]`, any number of them, done in order. What can't be read is passed over.
//!
//! | deed | does |
//! |---|---|
//! | `[emit 1000 size=100]` | so many updates of so many characters, as fast as they are taken |
//! | `[torrent 128 size=1000]`, `[gigabyte]` | updates until so many MiB are written |
//! | `[rate 1000 seconds=10 size=100]`, `[flood seconds=3]` | so many updates a second; a flood is 100,000 |
//! | `[line 100000000]` | so many bytes without a line end |
//! | `[invalid]` | lines that are not UTF-8, not JSON, not messages, and NULs |
//! | `[deep 10000]` | an update nested so deep |
//! | `[noise 100 size=100]` | updates with log text between them |
//! | `[ask]` | asks for permission and says which answer came |
//! | `[hang]` | nothing, until it is cancelled |
//!
//! The text of each update begins with the time it was said (`CLOCK_MONOTONIC`, nanoseconds) and its number in the agent's life.

/// Characters of an update whose size isn't told.
const SIZE: usize = 100;
/// Updates a second in a flood.
const FLOOD: u64 = 100_000;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Emit { count: u64, size: usize },
    Torrent { megabytes: u64, size: usize },
    Pace { rate: u64, seconds: u64, size: usize },
    Line { bytes: usize },
    Invalid,
    Deep { levels: usize },
    Noise { count: u64, size: usize },
    Ask,
    Hang,
}

/// All that a prompt asks for.
pub(crate) fn deeds(prompt: &str) -> impl Iterator<Item = Deed> {
    prompt.split('[').skip(1).filter_map(|rest| deed(rest.split_once(']')?.0))
}

fn deed(text: &str) -> Option<Deed> {
    let mut words = text.split_whitespace();
    let name = words.next()?;
    let (mut number, mut seconds, mut size) = (None, 1, SIZE);
    for word in words {
        match word.split_once('=') {
            Some(("size", value)) => size = value.parse().ok()?,
            Some(("seconds", value)) => seconds = value.parse().ok()?,
            Some(_) => return None,
            None => number = Some(word.parse::<u64>().ok()?),
        }
    }
    let count = usize::try_from(number.unwrap_or_default()).ok();
    Some(match name {
        "emit" => Deed::Emit { count: number?, size },
        "torrent" => Deed::Torrent { megabytes: number?, size: size.max(1000) },
        "gigabyte" => Deed::Torrent { megabytes: 1024, size: size.max(1000) },
        "rate" => Deed::Pace { rate: number?.max(1), seconds, size },
        "flood" => Deed::Pace { rate: FLOOD, seconds, size },
        "line" => Deed::Line { bytes: count? },
        "invalid" => Deed::Invalid,
        "deep" => Deed::Deep { levels: count? },
        "noise" => Deed::Noise { count: number.unwrap_or(100), size },
        "ask" => Deed::Ask,
        "hang" => Deed::Hang,
        _ => return None,
    })
}
