use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store::{Store as _, fake::Fake};

fn log_on(store: &Arc<Fake>, max_bytes: usize) -> Arc<EventLog> {
    EventLog::new(SessionId::from_client("ses_test"), Arc::clone(store) as AnyStore, max_bytes)
}

fn log(max_bytes: usize) -> Arc<EventLog> {
    log_on(&Fake::new(), max_bytes)
}

async fn expired(log: &EventLog, after: u64) -> u64 {
    match log.read(after, 10).await {
        Err(LogError::Expired(CursorExpired { earliest })) => earliest,
        other => panic!("{other:?} is not expired"),
    }
}

#[tokio::test]
async fn a_reader_replays_and_follows_without_hole_or_repetition() {
    let log = log(usize::MAX);
    for number in 0..3000 {
        log.append(EventType::MessageDelta, None, &json!({"text": number, "much": "x".repeat(200)}));
    }
    let writer = Arc::clone(&log);
    let mut reader = log.follow(0);
    let writing = tokio::spawn(async move {
        for number in 3000..4000 {
            writer.append(EventType::MessageDelta, None, &json!({"text": number}));
            tokio::task::yield_now().await;
        }
        writer.append(EventType::SessionEnded, None, &json!({}));
    });
    let mut seen = Vec::new();
    while let Some(event) = reader.next().await.expect("nothing expires") {
        seen.push(event.seq);
    }
    writing.await.expect("the writer ends");
    assert_eq!(seen, (1..=4001).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_sees_what_is_not_durable() {
    let store = Fake::new();
    let log = log_on(&store, usize::MAX);
    log.append(EventType::SessionReady, None, &json!({}));
    store.hold();
    log.append(EventType::MessageDelta, None, &json!({"text": "hello"}));
    assert_eq!((log.last_seq(), log.read(1, 10).await.expect("kept").len()), (1, 0));
    assert!(log.under_way() > 0);
    let mut reader = log.follow(1);
    assert!(timeout(Duration::from_millis(20), reader.next()).await.is_err());
    assert!(log.settled(Duration::from_millis(20)).await.is_err());
    store.release();
    log.settled(Duration::ZERO).await.expect("all is durable");
    assert_eq!(reader.next().await.expect("kept").map(|event| event.seq), Some(2));
    assert_eq!(log.under_way(), 0);
}

#[tokio::test]
async fn a_place_that_is_gone_is_told_with_the_earliest_number() {
    let store = Fake::new();
    let log = log_on(&store, 10_000);
    for _ in 0..1000 {
        log.append(EventType::MessageDelta, None, &json!({"text": "0123456789".repeat(100)}));
    }
    log.rest();
    let earliest = expired(&log, 0).await;
    assert!(earliest > 950, "{earliest}");
    assert_eq!(log.read(earliest - 1, 10).await.expect("kept")[0].seq, earliest);
    assert!(log.bytes() <= 10_000);
}

#[tokio::test]
async fn one_read_is_bounded_in_bytes_and_the_next_goes_on_where_it_ended() {
    let log = log(usize::MAX);
    for size in [READ_BYTES * 2, READ_BYTES / 3, READ_BYTES / 3, READ_BYTES / 3, READ_BYTES * 2] {
        log.append(EventType::MessageDelta, None, &json!({"text": "x".repeat(size)}));
    }
    log.append(EventType::SessionEnded, None, &json!({}));
    let (mut after, mut pages) = (0, Vec::new());
    while after < log.last_seq() {
        let page = log.read(after, READ_MAX).await.expect("kept");
        after = page.last().expect("one is always given").seq;
        pages.push(page.len());
    }
    assert_eq!(pages, [1, 2, 1, 1, 1]);
}

#[tokio::test]
async fn a_reader_of_a_session_that_is_forgotten_is_told() {
    let store = Fake::new();
    let log = log_on(&store, usize::MAX);
    for _ in 0..3 {
        log.append(EventType::MessageDelta, None, &json!({}));
    }
    log.rest();
    let mut reader = log.follow(0);
    store.write(vec![Change::Forget { session: SessionId::from_client("ses_test") }], Box::new(|| ()));
    assert!(matches!(reader.next().await, Err(LogError::Expired(CursorExpired { earliest: 4 }))));
}

#[tokio::test]
async fn nothing_comes_after_the_end() {
    let log = log(usize::MAX);
    assert_eq!(log.append(EventType::SessionEnded, None, &json!({})), 1);
    assert_eq!(log.append(EventType::MessageDelta, None, &json!({})), 1);
    assert_eq!(log.read(0, 10).await.expect("kept").len(), 1);
}

proptest! {
    #[test]
    fn every_read_is_a_run_without_holes(
        count in 0_u64..400, after in 0_u64..450, limit in 0_usize..300, size in 100_usize..400_000, text in 0_usize..3000
    ) {
        let log = log(size);
        for _ in 0..count {
            log.append(EventType::MessageDelta, None, &json!({"text": "x".repeat(text)}));
        }
        let read = tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(log.read(after, limit));
        match read {
            Ok(events) => {
                prop_assert!(events.is_empty() == (after >= count || limit == 0));
                for (offset, event) in (1..).zip(&events) {
                    prop_assert_eq!(event.seq, after + offset);
                }
            }
            Err(LogError::Expired(CursorExpired { earliest })) => prop_assert!(after + 1 < earliest && earliest <= count),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
