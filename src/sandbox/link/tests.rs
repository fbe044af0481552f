//! A link against a scripted supervisor: what can't be made to happen with the real one.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{net::UnixStream, time::timeout};

use super::*;
use crate::{
    sandbox::pipes::{AgentExit, FromAgent},
    supervisor::{
        connection::{Connection, Turn},
        frames::{CHUNK_MAX, Ending, Frame, OUTPUT_WINDOW, Source, VERSION},
    },
};

const PATIENCE: Duration = Duration::from_secs(10);
const HELLO: Hello = Hello { version: VERSION, relay_port: 9, agent_pid: 8, input_received: 0, oldest_output: 1 };

struct House {
    _folder: TempDir,
    path: PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("link.sock");
        Self { _folder: folder, path }
    }

    async fn dial(&self, hello: Hello) -> Connection {
        let mut connection = Connection::new(UnixStream::connect(&self.path).await.expect("somebody listens"));
        connection.say(&Frame::Hello(hello));
        connection.flush(PATIENCE).await;
        connection
    }

    async fn link(&self, relink_timeout: Duration) -> (Connection, Link, AgentPipes) {
        self.link_of(relink_timeout, Leaving::default()).await
    }

    async fn link_of(&self, relink_timeout: Duration, leaving: Leaving) -> (Connection, Link, AgentPipes) {
        let listener = LinkListener::bind(&self.path).expect("bound").with(leaving);
        let mut supervisor = self.dial(HELLO).await;
        let config = LinkConfig { first_timeout: PATIENCE, relink_timeout };
        let (link, pipes) = listener.connect(own_pid(), config).await.expect("linked");
        assert_eq!(hear(&mut supervisor).await, Frame::Welcome { version: VERSION, output_received: 0 });
        (supervisor, link, pipes)
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("a process id")
}

/// The next frame that isn't a ping.
async fn hear(connection: &mut Connection) -> Frame {
    loop {
        match timeout(PATIENCE, connection.turn()).await.expect("in time").expect("linked") {
            Turn::Room | Turn::Heard(Frame::Ping) => {}
            Turn::Heard(frame) => return frame,
        }
    }
}

async fn say_output(connection: &mut Connection, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let bytes = Bytes::from(number.to_string());
        connection.say(&Frame::Output { number, source: Source::Stdout, bytes });
    }
    connection.flush(PATIENCE).await;
}

async fn receive(pipes: &mut AgentPipes) -> FromAgent {
    timeout(PATIENCE, pipes.output.recv()).await.expect("in time").expect("open")
}

async fn receive_number(pipes: &mut AgentPipes) -> u64 {
    match receive(pipes).await {
        FromAgent::Chunk { seq, bytes, .. } => {
            assert_eq!(bytes, seq.to_string());
            seq
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn output_sent_again_after_a_reconnection_arrives_once() {
    let house = House::new();
    let (mut supervisor, link, mut pipes) = house.link(PATIENCE).await;
    say_output(&mut supervisor, 1..=5).await;
    for number in 1..=5 {
        assert_eq!(receive_number(&mut pipes).await, number);
    }
    drop(supervisor);
    let mut supervisor = house.dial(HELLO).await;
    // The first link may not be seen as dead yet; then we are turned away and come again, as the real one does.
    while !matches!(
        timeout(PATIENCE, supervisor.turn()).await,
        Ok(Ok(Turn::Heard(Frame::Welcome { output_received: 5, .. })))
    ) {
        supervisor = house.dial(HELLO).await;
    }
    assert!(link.is_up());
    say_output(&mut supervisor, 3..=8).await;
    for number in 6..=8 {
        assert_eq!(receive_number(&mut pipes).await, number);
    }
    pipes.done_with.send(8).expect("open");
    assert_eq!(hear(&mut supervisor).await, Frame::OutputTaken(8));
}

#[tokio::test]
async fn input_that_did_not_arrive_is_sent_again_and_only_that() {
    let house = House::new();
    let (mut supervisor, _link, pipes) = house.link(PATIENCE).await;
    for text in ["a", "b", "c"] {
        pipes.input.send(Bytes::from(text)).await.expect("open");
    }
    for number in 1..=3 {
        assert!(matches!(hear(&mut supervisor).await, Frame::Input { number: found, .. } if found == number));
    }
    drop(supervisor);
    let hello = Hello { input_received: 2, ..HELLO };
    let mut supervisor = house.dial(hello).await;
    while !matches!(timeout(PATIENCE, supervisor.turn()).await, Ok(Ok(Turn::Heard(Frame::Welcome { .. })))) {
        supervisor = house.dial(hello).await;
    }
    assert_eq!(hear(&mut supervisor).await, Frame::Input { number: 3, bytes: Bytes::from_static(b"c") });
    drop(pipes.input);
    assert_eq!(hear(&mut supervisor).await, Frame::CloseInput(4));
}

/// Whoever goes first, and however late the link itself is dropped.
#[tokio::test]
async fn a_link_that_is_left_acknowledges_nothing_and_leaves_the_agents_stdin_open() {
    for reader_first in [true, false] {
        let (house, leaving) = (House::new(), Leaving::default());
        let (mut supervisor, _link, mut pipes) = house.link_of(PATIENCE, leaving.clone()).await;
        say_output(&mut supervisor, 1..=3).await;
        for number in 1..=3 {
            assert_eq!(receive_number(&mut pipes).await, number);
        }
        pipes.done_with.send(2).expect("open");
        assert_eq!(hear(&mut supervisor).await, Frame::OutputTaken(2));
        leaving.begin();
        let AgentPipes { input, output, done_with, .. } = pipes;
        drop(done_with);
        if reader_first {
            drop(output);
        } else {
            drop(input);
        }
        let rest = async {
            loop {
                match supervisor.turn().await {
                    Ok(Turn::Room | Turn::Heard(Frame::Ping)) => {}
                    Ok(Turn::Heard(frame)) => panic!("it said {frame:?}"),
                    Err(_) => return,
                }
            }
        };
        timeout(PATIENCE, rest).await.expect("the link ends");
    }
}

#[tokio::test]
async fn a_writer_waits_when_the_agent_does_not_read() {
    let house = House::new();
    let (mut supervisor, _link, pipes) = house.link(PATIENCE).await;
    let mut sent = 0;
    while timeout(Duration::from_millis(100), pipes.input.send(Bytes::from(vec![0; CHUNK_MAX]))).await.is_ok() {
        sent += 1;
        assert!(sent < 200, "input is not bounded");
    }
    let mut heard = 0;
    while let Ok(Ok(turn)) = timeout(Duration::from_millis(100), supervisor.turn()).await {
        if let Turn::Heard(Frame::Input { .. }) = turn {
            heard += 1;
        }
    }
    assert!(heard < sent);
    supervisor.say(&Frame::InputTaken(heard));
    supervisor.flush(PATIENCE).await;
    assert!(matches!(hear(&mut supervisor).await, Frame::Input { number, .. } if number == heard + 1));
}

#[tokio::test]
async fn a_reader_that_stalls_stops_neither_input_nor_pings() {
    let house = House::new();
    let (mut supervisor, link, pipes) = house.link(PATIENCE).await;
    for number in 1..=(OUTPUT_WINDOW / CHUNK_MAX) as u64 {
        supervisor.say(&Frame::Output { number, source: Source::Stderr, bytes: Bytes::from(vec![0; CHUNK_MAX - 100]) });
        supervisor.flush(PATIENCE).await;
    }
    pipes.input.send(Bytes::from_static(b"x")).await.expect("open");
    assert!(matches!(hear(&mut supervisor).await, Frame::Input { number: 1, .. }));
    link.signal(10).await;
    assert_eq!(hear(&mut supervisor).await, Frame::Signal(10));
}

#[tokio::test]
async fn a_missing_chunk_ends_the_link_and_says_so() {
    let house = House::new();
    let (mut supervisor, link, mut pipes) = house.link(PATIENCE).await;
    say_output(&mut supervisor, [1, 3]).await;
    assert_eq!(receive_number(&mut pipes).await, 1);
    assert!(matches!(receive(&mut pipes).await, FromAgent::Lost(why) if why.contains("chunk 3")));
    assert!(!link.is_up());
}

#[tokio::test]
async fn a_supervisor_that_does_not_come_back_is_lost_after_what_it_said() {
    let house = House::new();
    let (mut supervisor, _link, mut pipes) = house.link(Duration::from_millis(100)).await;
    say_output(&mut supervisor, 1..=2).await;
    drop(supervisor);
    assert_eq!(receive_number(&mut pipes).await, 1);
    assert_eq!(receive_number(&mut pipes).await, 2);
    assert!(matches!(receive(&mut pipes).await, FromAgent::Lost(why) if why.contains("not back within 100 ms")));
    assert!(pipes.output.recv().await.is_none());
}

#[tokio::test]
async fn the_end_is_told_after_all_output_and_goodbye_after_all_is_taken() {
    let house = House::new();
    let (mut supervisor, _link, mut pipes) = house.link(PATIENCE).await;
    say_output(&mut supervisor, 1..=200).await;
    supervisor.say(&Frame::Exited(Ending::Code(3)));
    supervisor.flush(PATIENCE).await;
    for number in 1..=200 {
        assert_eq!(receive_number(&mut pipes).await, number);
    }
    assert!(matches!(receive(&mut pipes).await, FromAgent::Exited(AgentExit { code: Some(3), signal: None })));
    pipes.done_with.send(200).expect("open");
    assert_eq!(hear(&mut supervisor).await, Frame::OutputTaken(200));
    assert_eq!(hear(&mut supervisor).await, Frame::Goodbye);
}

#[tokio::test]
async fn a_stop_asked_while_the_link_is_down_is_told_when_it_is_back() {
    let house = House::new();
    let (supervisor, link, _pipes) = house.link(PATIENCE).await;
    drop(supervisor);
    let came_back = async {
        let mut supervisor = house.dial(HELLO).await;
        while !matches!(timeout(PATIENCE, supervisor.turn()).await, Ok(Ok(Turn::Heard(Frame::Welcome { .. })))) {
            supervisor = house.dial(HELLO).await;
        }
        assert_eq!(hear(&mut supervisor).await, Frame::Stop { grace_ms: 70 });
        supervisor.say(&Frame::Exited(Ending::Signal(15)));
        supervisor.flush(PATIENCE).await;
        supervisor
    };
    let mut stopping = std::pin::pin!(link.stop(Duration::from_millis(70)));
    let supervisor = tokio::select! {
        supervisor = came_back => supervisor,
        () = &mut stopping => panic!("nobody was told"),
    };
    timeout(PATIENCE, stopping).await.expect("the end ends the wait");
    drop(supervisor);
}

#[tokio::test]
async fn a_supervisor_of_another_version_is_told_apart() {
    let house = House::new();
    let listener = LinkListener::bind(&house.path).expect("bound");
    let _supervisor = house.dial(Hello { version: 77, ..HELLO }).await;
    let config = LinkConfig { first_timeout: PATIENCE, relink_timeout: PATIENCE };
    let refused = listener.connect(own_pid(), config).await;
    assert!(matches!(refused, Err(LinkError::Version { theirs: 77, ours: VERSION })));
}

#[tokio::test]
async fn a_socket_an_earlier_server_left_is_replaced_and_a_file_is_not() {
    let house = House::new();
    drop(LinkListener::bind(&house.path).expect("bound"));
    drop(LinkListener::bind(&house.path).expect("bound again"));
    let file = house.path.with_file_name("other");
    std::fs::write(&file, "precious").expect("written");
    assert!(matches!(LinkListener::bind(&file), Err(LinkError::Listen { .. })));
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

#[tokio::test]
async fn dropping_the_link_ends_the_pipes_and_turns_the_supervisor_away() {
    let house = House::new();
    let (mut supervisor, link, mut pipes) = house.link(PATIENCE).await;
    drop(link);
    assert!(timeout(PATIENCE, pipes.output.recv()).await.expect("in time").is_none());
    while timeout(PATIENCE, supervisor.turn()).await.expect("in time").is_ok() {}
    assert!(UnixStream::connect(&house.path).await.is_err());
}

/// Hears the next ping.
async fn hear_ping(connection: &mut Connection) {
    while !matches!(
        timeout(PATIENCE, connection.turn()).await.expect("in time").expect("linked"),
        Turn::Heard(Frame::Ping)
    ) {}
}

#[tokio::test]
async fn a_ping_is_answered_by_its_own_pong() {
    let house = House::new();
    let (mut supervisor, link, _pipes) = house.link(PATIENCE).await;
    // The link's own.
    hear_ping(&mut supervisor).await;
    let mut ping = std::pin::pin!(link.ping(PATIENCE));
    assert!(timeout(Duration::from_millis(20), &mut ping).await.is_err(), "nobody answered yet");
    supervisor.say(&Frame::Pong);
    supervisor.flush(PATIENCE).await;
    // That was the other one's pong; now ours is asked.
    tokio::select! {
        _ = &mut ping => panic!("answered by a pong to another ping"),
        () = hear_ping(&mut supervisor) => {}
    }
    supervisor.say(&Frame::Pong);
    supervisor.flush(PATIENCE).await;
    assert!(ping.await.is_ok());
}

#[tokio::test]
async fn a_ping_to_a_silent_or_absent_supervisor_ends_with_its_deadline() {
    let house = House::new();
    let (supervisor, link, _pipes) = house.link(PATIENCE).await;
    let patience = Duration::from_millis(30);
    assert_eq!(link.ping(patience).await, Err(PingError::Silent { waited: patience }));
    drop(supervisor);
    assert_eq!(link.ping(patience).await, Err(PingError::Silent { waited: patience }));
}

#[tokio::test]
async fn a_supervisor_that_is_there_and_does_not_answer_is_lost() {
    let house = House::new();
    let (mut supervisor, link, mut pipes) = house.link(Duration::from_millis(100)).await;
    say_output(&mut supervisor, [1]).await;
    assert_eq!(receive_number(&mut pipes).await, 1);
    let (asked, last) = tokio::join!(link.ping(PATIENCE), receive(&mut pipes));
    assert!(matches!(last, FromAgent::Lost(why) if why.contains("did not answer for 1")));
    assert_eq!(asked, Err(PingError::Ended), "who waits for a sign learns that there will be none");
    assert_eq!(link.ping(PATIENCE).await, Err(PingError::Ended));
}

#[tokio::test]
async fn a_supervisor_that_answers_lives_on_however_short_the_patience() {
    let house = House::new();
    let (mut supervisor, link, _pipes) = house.link(Duration::from_millis(100)).await;
    for _ in 0..8 {
        hear_ping(&mut supervisor).await;
        supervisor.say(&Frame::Pong);
        supervisor.flush(PATIENCE).await;
    }
    assert!(link.is_up());
}

#[tokio::test]
async fn a_condemned_sandbox_is_gone_at_once_with_the_first_reason_after_what_it_said() {
    let house = House::new();
    let (mut supervisor, link, mut pipes) = house.link(PATIENCE).await;
    say_output(&mut supervisor, [1]).await;
    assert_eq!(receive_number(&mut pipes).await, 1);
    let condemner = link.condemner();
    condemner.condemn("an operator paused the sandbox");
    condemner.condemn("another reason");
    assert!(matches!(receive(&mut pipes).await, FromAgent::Condemned(why) if why == "an operator paused the sandbox"));
    assert!(pipes.output.recv().await.is_none());
    assert_eq!(link.ping(PATIENCE).await, Err(PingError::Ended));
    drop(link);
    condemner.condemn("too late");
}

#[tokio::test]
async fn a_link_that_is_down_can_be_condemned() {
    let house = House::new();
    let (supervisor, link, mut pipes) = house.link(PATIENCE).await;
    drop(supervisor);
    link.condemner().condemn("gone");
    assert!(matches!(receive(&mut pipes).await, FromAgent::Condemned(why) if why == "gone"));
}
