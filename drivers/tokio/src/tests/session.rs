//! The verbs of every day.

use bytes::Bytes;
use gimlet_machine::Direction;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::toy::{Refused, WINDOW};
use super::{address, joined, poll_once, soon, toy, toy_at, waiting};
use crate::{Error, Stopped};

/// Every number up to `count`, each as one message.
fn numbers(count: u32) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(u32::to_be_bytes)
}

#[tokio::test]
async fn a_message_goes_there_and_comes_back_on_both_families() {
    for family in ["127.0.0.1:0", "[::1]:0"] {
        let (ours, theirs) = (toy_at(family), toy_at(family));
        let server = theirs.clone();
        let echo = tokio::spawn(async move {
            let mut stream = server.accept().await.unwrap().accept_stream().await.unwrap();
            while let Ok(message) = stream.receive().await {
                stream.send(&message).await.unwrap();
            }
            stream.finish().await.unwrap();
        });
        let connection = soon(ours.connect(address(&theirs))).await.unwrap();
        assert_eq!(connection.peer(), address(&theirs));
        let mut stream = soon(connection.open(Direction::Bidirectional)).await.unwrap();
        for text in ["one", "two"] {
            soon(stream.send(text.as_bytes())).await.unwrap();
            assert_eq!(soon(stream.receive()).await.unwrap(), text);
        }
        soon(stream.finish()).await.unwrap();
        assert!(matches!(soon(stream.receive()).await, Err(Error::Session(Refused::Ended))));
        soon(echo).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_is_the_machines_own_error() {
    let ours = toy();
    let error = soon(ours.connect(address(&ours))).await.unwrap_err();
    assert_eq!(error.session(), Some(&Refused::Gone));
}

#[tokio::test]
async fn a_sender_waits_for_a_slow_receiver_and_goes_on_when_it_reads() {
    let (_ours, _theirs, mut stream, mut other) = joined().await;
    for number in numbers(WINDOW as u32) {
        soon(stream.send(&number)).await.unwrap();
    }
    let mut blocked = Box::pin(stream.send(b"next"));
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut blocked).await;
    assert!(early.is_err(), "the window is full");
    assert_eq!(soon(other.receive()).await.unwrap(), 0_u32.to_be_bytes()[..]);
    soon(blocked).await.unwrap();
    for number in numbers(WINDOW as u32).skip(1) {
        assert_eq!(soon(other.receive()).await.unwrap(), number[..]);
    }
    assert_eq!(soon(other.receive()).await.unwrap(), "next");
}

#[tokio::test]
async fn a_send_cancelled_while_it_waits_was_not_sent_and_leaves_no_trace() {
    let (ours, _theirs, mut stream, mut other) = joined().await;
    for number in numbers(WINDOW as u32) {
        soon(stream.send(&number)).await.unwrap();
    }
    {
        let mut cancelled = Box::pin(stream.send(b"never"));
        while poll_once(&mut cancelled).is_ready() {}
        assert_eq!(waiting(&ours), 1);
    }
    assert_eq!(waiting(&ours), 0);
    for number in numbers(WINDOW as u32) {
        assert_eq!(soon(other.receive()).await.unwrap(), number[..]);
    }
    soon(stream.send(b"last")).await.unwrap();
    assert_eq!(soon(other.receive()).await.unwrap(), "last");
}

const COUNT: u32 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_cancelled_at_any_moment_loses_nothing() {
    let (_ours, theirs, mut stream, mut other) = joined().await;
    let sender = tokio::spawn(async move {
        for number in numbers(COUNT) {
            stream.send(&number).await.unwrap();
        }
        stream.finish().await.unwrap();
    });
    let (mut heard, mut cancelled) = (Vec::new(), 0);
    while heard.len() < COUNT as usize {
        tokio::select! {
            biased;
            message = other.receive() => heard.push(message.unwrap()),
            () = tokio::task::yield_now() => cancelled += 1,
        }
    }
    assert!(cancelled > 0, "nothing was cancelled");
    assert!(heard.iter().zip(numbers(COUNT)).all(|(message, number)| **message == number));
    soon(sender).await.unwrap();
    assert_eq!(waiting(&theirs), 0);
}

#[tokio::test]
async fn two_tasks_share_the_halves_of_a_stream() {
    let (_ours, _theirs, stream, mut other) = joined().await;
    let (mut sender, mut receiver) = stream.split();
    let sending = tokio::spawn(async move {
        for number in numbers(100) {
            sender.send(&number).await.unwrap();
        }
    });
    let echo = tokio::spawn(async move {
        for _ in 0..100 {
            let message = other.receive().await.unwrap();
            other.send(&message).await.unwrap();
        }
        other.finish().await.unwrap();
    });
    for number in numbers(100) {
        assert_eq!(soon(receiver.receive()).await.unwrap(), number[..]);
    }
    soon(sending).await.unwrap();
    soon(echo).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_flow_through_tokios_own_traits_until_shutdown() {
    let (_ours, _theirs, mut stream, mut other) = joined().await;
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        stream.write_all(&sent).await.unwrap();
        AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        stream
    });
    let mut heard = Vec::new();
    soon(other.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == expected);
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn chunks_are_read_up_to_a_size_and_the_end_is_none() {
    let (_ours, _theirs, mut stream, mut other) = joined().await;
    assert_eq!(soon(stream.write(b"abcdef")).await.unwrap(), 6);
    drop(stream);
    for expected in [&b"abcd"[..], b"ef"] {
        assert_eq!(soon(other.read(4)).await.unwrap(), Some(Bytes::from(expected)));
    }
    assert_eq!(soon(other.read(4)).await.unwrap(), None);
}

#[tokio::test]
async fn a_dropped_stream_is_finished_then_forgotten_on_both_sides() {
    let (ours, theirs, mut stream, mut other) = joined().await;
    soon(stream.send(b"goodbye")).await.unwrap();
    drop(stream);
    assert_eq!(soon(other.receive()).await.unwrap(), "goodbye");
    assert!(matches!(soon(other.receive()).await, Err(Error::Session(Refused::Ended))));
    drop(other);
    soon(async {
        while ours.read(super::toy::Toy::streams).unwrap() + theirs.read(super::toy::Toy::streams).unwrap()
            > 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(ours.shared().enter(|state| state.audience.chores.is_empty()));
}

#[tokio::test]
async fn an_abandoned_stream_reads_as_an_error_with_its_code() {
    let (_ours, _theirs, stream, mut other) = joined().await;
    stream.abandon(77);
    assert!(matches!(soon(other.receive()).await, Err(Error::Session(Refused::Reset(77)))));
}

#[tokio::test]
async fn datagrams_pass_and_one_that_does_not_fit_says_so() {
    let (ours, theirs, _stream, _other) = joined().await;
    let (there, here) = (ours.connection(address(&theirs)), theirs.connection(address(&ours)));
    assert!(there.send_datagram(b"quick").unwrap());
    assert!(!there.send_datagram(&[0; 2_000]).unwrap());
    assert_eq!(soon(here.receive_datagram()).await.unwrap(), "quick");
}

#[tokio::test]
async fn a_peer_that_leaves_ends_every_wait_on_it() {
    let (ours, theirs, _stream, mut other) = joined().await;
    let receiving = tokio::spawn(async move { other.receive().await.unwrap_err() });
    let connection = theirs.connection(address(&ours));
    let accepting = tokio::spawn(async move { connection.accept_stream().await.unwrap_err() });
    tokio::task::yield_now().await;
    soon(ours.connection(address(&theirs)).close()).await.unwrap();
    assert_eq!(soon(receiving).await.unwrap().session(), Some(&Refused::Gone));
    assert_eq!(soon(accepting).await.unwrap().session(), Some(&Refused::Gone));
    assert_eq!(waiting(&theirs), 0);
}

#[tokio::test]
async fn a_thousand_verbs_cost_the_driver_one_turn() {
    let (ours, theirs, _stream, _other) = joined().await;
    let connection = ours.connection(address(&theirs));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let before = ours.read(|toy| toy.drains).unwrap();
    for _ in 0..1_000 {
        connection.send_datagram(b"tick").unwrap();
    }
    for _ in 0..1_000 {
        soon(theirs.connection(address(&ours)).receive_datagram()).await.unwrap();
    }
    let turns = ours.read(|toy| toy.drains).unwrap() - before;
    assert!((1..=4).contains(&turns), "{turns} turns");
}

#[tokio::test]
async fn accept_fails_once_the_driver_is_gone() {
    let ours = toy();
    let other = ours.clone();
    let accepting = tokio::spawn(async move { other.accept().await.unwrap_err() });
    tokio::task::yield_now().await;
    ours.abort();
    assert!(matches!(soon(accepting).await.unwrap(), Stopped::Closed));
}
