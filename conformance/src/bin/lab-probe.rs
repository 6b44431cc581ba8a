//! The smallest programs that can tell one NAT from another: they prove the lab before anything of ours
//! runs in it.
//!
//! ```text
//! lab-probe reflect ADDRESS…            answers each datagram with the address it came from
//! lab-probe classify LOCAL ADDRESS…     asks a reflector; prints one line of JSON
//! lab-probe punch LOCAL PEER            sends until it has heard the peer; prints two lines of JSON
//! ```
//!
//! A question to a reflector is one byte: the index of the socket that shall answer.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

/// How long one question waits for its answer. A lab answers in well under a millisecond.
const ANSWER: Duration = Duration::from_millis(250);
/// How often a question is asked before silence counts as an answer.
const TRIES: u32 = 3;
/// How long a puncher keeps trying, and how often.
const PUNCH: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(20));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addresses: Option<Vec<SocketAddr>> = args.iter().skip(1).map(|text| text.parse().ok()).collect();
    match (args.first().map(String::as_str), addresses.as_deref()) {
        (Some("reflect"), Some(addresses)) if !addresses.is_empty() => reflect(addresses),
        (Some("classify"), Some([local, reflectors @ ..])) if reflectors.len() == 4 => {
            classify(*local, reflectors)
        }
        (Some("punch"), Some([local, peer])) => punch(*local, *peer),
        _ => {
            eprintln!("usage: lab-probe reflect ADDRESS… | classify LOCAL R0 R1 R2 R3 | punch LOCAL PEER");
            ExitCode::from(2)
        }
    }
}

fn reflect(addresses: &[SocketAddr]) -> ExitCode {
    let sockets: Vec<UdpSocket> = addresses.iter().map(|address| bind(*address)).collect();
    println!("ready");
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| {
                let mut question = [0; 16];
                while let Ok((_, from)) = socket.recv_from(&mut question) {
                    if let Some(answering) = sockets.get(usize::from(question[0])) {
                        let _ = answering.send_to(from.to_string().as_bytes(), from);
                    }
                }
            });
        }
    });
    ExitCode::SUCCESS
}

/// The reflectors are one address with two ports, then another address with the same two ports
/// (RFC 5780 §4.3 and §4.4 with other words).
fn classify(local: SocketAddr, reflectors: &[SocketAddr]) -> ExitCode {
    let socket = bind(local);
    let mapped: Vec<Option<SocketAddr>> =
        (0u8..).zip(reflectors).map(|(index, reflector)| ask(&socket, *reflector, index)).collect();
    // Filtering is asked from a socket that has spoken to the first reflector only.
    let fresh = bind(SocketAddr::new(local.ip(), local.port() + 1));
    let known = ask(&fresh, reflectors[0], 0).is_some();
    let from_other_port = ask(&fresh, reflectors[0], 1).is_some();
    let from_other_address = ask(&fresh, reflectors[0], 3).is_some();
    let text: Vec<Option<String>> =
        mapped.iter().map(|found| found.map(|address| address.to_string())).collect();
    println!(
        "{}",
        json!({
            "mapped": text,
            "answered": known,
            "heard_other_port": from_other_port,
            "heard_other_address": from_other_address,
        })
    );
    if known && mapped.iter().all(Option::is_some) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask(socket: &UdpSocket, reflector: SocketAddr, answering: u8) -> Option<SocketAddr> {
    let mut answer = [0; 64];
    socket.set_read_timeout(Some(ANSWER)).ok()?;
    (0..TRIES).find_map(|_| {
        socket.send_to(&[answering], reflector).ok()?;
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        std::str::from_utf8(&answer[..length]).ok()?.parse().ok()
    })
}

fn punch(local: SocketAddr, peer: SocketAddr) -> ExitCode {
    let (patience, pace) = PUNCH;
    let socket = bind(local);
    let (start, mut heard, mut last_words) = (Instant::now(), None, 5);
    let mut bytes = [0; 16];
    socket.set_read_timeout(Some(pace)).expect("a read timeout");
    let _ = socket.send_to(b"punch", peer);
    println!("{}", json!({ "sent": peer.to_string() }));
    while last_words > 0 && start.elapsed() < patience {
        let _ = socket.send_to(b"punch", peer);
        if let Ok((_, from)) = socket.recv_from(&mut bytes) {
            heard = heard.or(Some(from));
        }
        // The peer may not have heard us yet when we have heard it.
        last_words -= i32::from(heard.is_some());
    }
    println!("{}", json!({ "heard": heard.map(|address| address.to_string()) }));
    if heard.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bind(address: SocketAddr) -> UdpSocket {
    UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"))
}
