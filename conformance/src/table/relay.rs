//! Cases 15 to 17 and 52 to 58: TURN, with a server written by hand. Cases 59 to 64: NATs and punching, which
//! need networks and have tests of their own.

use std::time::Duration;

use gimlet_stun::{
    AddressFamily, ChannelData, Class, Key, Message, MessageWriter, Method, PasswordAlgorithm, attribute,
};
use gimlet_turn::Families;

use super::desk::{address, path};
use super::subject::{Local, Setup};
use super::turn::{Asked, Counter, PASSWORD, REALM, RELAYED, SERVER, USERNAME, key};
use super::wire::{self, Ask};
use super::{Bench, Case, Finding, Outcome, ensure};

const PEER: &str = "198.51.100.7:9";

const NO_DISCOVERY: (&str, &str) =
    ("`is` has no NAT behaviour discovery", "rice-proto has no NAT behaviour discovery");
const NO_PUNCH: (&str, &str) = (
    "`is` has no punching stage and no gathering: it knows nothing of NATs",
    "rice-proto has no punching stage: it knows nothing of its NAT",
);

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(52, "allocations of two families", "RFC 8656 §7", case_52)
        .given(
            "Allocate with ADDITIONAL-ADDRESS-FAMILY; an answer with one family and ADDRESS-ERROR-CODE 440",
        )
        .requires("both are asked for in one request, and one will do"),
    Case::on_wire(53, "refresh and release", "RFC 8656 §8", case_53)
        .given("an allocation of 600 s, whose refresh is granted for 100 s")
        .requires("refreshed before each end: the answer's LIFETIME rules"),
    Case::on_wire(54, "permissions and channels", "RFC 8656 §9, §12", case_54)
        .given("a bound channel over twenty minutes")
        .requires("permission and channel are asked for again in time, under a number from 0x4000 to 0x4FFF"),
    Case::on_wire(55, "data that nobody asked for", "RFC 8656 §11, §12.6", case_55)
        .given("ChannelData with an unknown number, cut short, from elsewhere; Data without a permission")
        .requires("dropped"),
    Case::on_wire(56, "437 on anything", "RFC 8656 §6-§9", case_56)
        .given("437 to Refresh, CreatePermission and ChannelBind")
        .requires("a new allocation, permission and channel"),
    Case::on_wire(57, "a symmetric peer reaches our relay", "RFC 8445 §7.3.1.3, RFC 8656 §11", case_57)
        .given(
            "an agent with a relayed candidate; a check through the relay from a port that nobody signalled",
        )
        .requires("answered and checked through the relay, and selected"),
    Case::on_wire(58, "the NAT forgets the way to the server", "RFC 8656 §3.7", case_58)
        .given("an idle allocation; the server no longer knows the flow: 437 to whatever comes")
        .requires("something is sent within 30 s, and then Allocate"),
    Case::named(59, "three mappings times three filterings", "RFC 5780 §4.3-4.4", NO_DISCOVERY)
        .given("nine simulated NATs, without and with 10 % loss")
        .requires("all told right; with loss right or unknown, never wrong"),
    Case::named(60, "servers that lie or cannot", "RFC 5780 §7.4, §7.2", NO_DISCOVERY)
        .given("OTHER-ADDRESS on the server's own address; answers from where they were not asked for")
        .requires("filtering is unknown; such answers count for nothing"),
    Case::named(61, "every pair of edges", "RFC 4787 §4-§5", NO_PUNCH)
        .given("{open, three mappings} times {three filterings} on both sides, with and without a relay")
        .requires("with a relay all connect; without, those that an oracle calls possible"),
    Case::named(62, "one hard side", "RFC 4787 §4.1", NO_PUNCH)
        .given("300 seeds against a full-range, a block and a sequential symmetric NAT")
        .requires("97 % within 1024 probes and 6 s; 99 % within 128 probes; within 32 probes"),
    Case::named(63, "a victim's address", "RFC 8445 §19.5.1", NO_PUNCH)
        .given("a peer that names somebody else's address; 24 hours of retries")
        .requires("not one probe there; budget and rate are never exceeded"),
    Case::named(64, "a NAT that clashes", "RFC 4787 §4.1", NO_PUNCH)
        .given("a NAT that remaps a port on which something came in first")
        .requires("connected by the second round"),
];

fn silent_for(counter: &mut Counter, seconds: u64, what: &str) -> Outcome {
    counter.asked.clear();
    counter.wait(seconds);
    let asked = counter.asked.pop_front();
    let text = asked.map(|asked| format!("{:?}", asked.message().method())).unwrap_or_default();
    ensure!(text.is_empty(), "{what}: it goes on with {text}");
    Ok(())
}

pub(crate) fn case_15(bench: &Bench) -> Outcome {
    let mut counter = Counter::open(bench, Families::V4)?;
    let first = counter.next(Method::ALLOCATE)?;
    let message = first.message();
    ensure!(!message.has_integrity() && message.username().is_none(), "the first request shows a name");
    counter.challenge(&first, 401, b"one");
    let second = counter.next(Method::ALLOCATE)?;
    let message = second.message();
    ensure!(
        message.verify(&key()).is_ok() && message.nonce() == Some(b"one"),
        "the challenge is not answered"
    );
    counter.challenge(&second, 401, b"one");
    silent_for(&mut counter, 60, "after 401 to signed credentials")?;

    let mut counter = Counter::challenged(bench, Families::V4)?;
    let mut request = counter.next(Method::ALLOCATE)?;
    for nonce in [b"2", b"3", b"4"] {
        counter.challenge(&request, 438, nonce);
        request = counter.next(Method::ALLOCATE)?;
        let used = request.message().nonce();
        ensure!(used == Some(&nonce[..]), "after 438 it uses the nonce {used:?}");
    }
    counter.challenge(&request, 438, b"5");
    silent_for(&mut counter, 60, "after 438 four times in a row")
}

pub(crate) fn case_16(bench: &Bench) -> Outcome {
    let mut counter = Counter::open(bench, Families::V4)?;
    let first = counter.next(Method::ALLOCATE)?;
    counter.challenge(&first, 401, b"obMatJos2gAAArest");
    silent_for(&mut counter, 60, "the promise of PASSWORD-ALGORITHMS is broken")?;

    let offer = [0, 9, 0, 3, b'a', b'b', b'c', 0, 0, 1, 0, 0, 0, 2, 0, 0];
    let mut counter = Counter::open(bench, Families::V4)?;
    let first = counter.next(Method::ALLOCATE)?;
    counter.answer(&first, Class::Error, None, |writer| {
        let writer = writer.error_code(401, "").realm(REALM.as_bytes()).nonce(b"obMatJos2gAAArest");
        writer.attribute(attribute::PASSWORD_ALGORITHMS, &offer)
    });
    let second = counter.next(Method::ALLOCATE);
    let second =
        second.map_err(|_| Finding::fails("it gives up when one of three algorithms is unknown".into()))?;
    let message = second.message();
    let echoed = message.password_algorithms();
    ensure!(echoed == Some(&offer[..]), "{offer:02x?} is echoed as {echoed:02x?}");
    let chosen = message.password_algorithm();
    ensure!(chosen == Some(PasswordAlgorithm::Sha256), "it chooses {chosen:?}");
    let (name, realm, password) = (USERNAME.as_bytes(), REALM.as_bytes(), PASSWORD.as_bytes());
    let strong = Key::long_term(name, realm, password, PasswordAlgorithm::Sha256);
    ensure!(message.verify(&strong).is_ok(), "it does not sign with the SHA-256 key");
    Ok(())
}

fn redirect(counter: &mut Counter, request: &Asked, server: &str) {
    counter.answer(request, Class::Error, None, |writer| {
        writer.error_code(300, "").alternate_server(address(server))
    });
}

pub(crate) fn case_17(bench: &Bench) -> Outcome {
    let other = "192.0.2.9:3478";
    let mut counter = Counter::open(bench, Families::V4)?;
    let first = counter.next(Method::ALLOCATE)?;
    redirect(&mut counter, &first, other);
    counter.wait(1);
    let followed = counter.asked.pop_back().filter(|asked| asked.to == address(other));
    let followed = followed.ok_or_else(|| Finding::fails("it does not go to the alternate server".into()))?;
    redirect(&mut counter, &followed, SERVER);
    silent_for(&mut counter, 60, "servers send it in a circle")?;

    let mut counter = Counter::open(bench, Families::V4)?;
    let first = counter.next(Method::ALLOCATE)?;
    redirect(&mut counter, &first, "[2001:db8::1]:3478");
    silent_for(&mut counter, 60, "sent to another family")
}

fn case_52(bench: &Bench) -> Outcome {
    let mut counter = Counter::challenged(bench, Families::Both)?;
    let request = counter.next(Method::ALLOCATE)?;
    let message = request.message();
    ensure!(
        message.requested_transport() == Some(17),
        "REQUESTED-TRANSPORT {:?}",
        message.requested_transport()
    );
    let additional = message.additional_address_family();
    ensure!(additional == Some(AddressFamily::V6), "ADDITIONAL-ADDRESS-FAMILY {additional:?}");
    ensure!(message.requested_address_family().is_none(), "REQUESTED-ADDRESS-FAMILY beside it");
    counter.answer(&request, Class::Success, Some(&key()), |writer| {
        let writer = writer.xor_relayed_address(address(RELAYED)).xor_mapped_address(address(PEER));
        writer.lifetime(Duration::from_secs(600)).address_error_code(AddressFamily::V6, 440)
    });
    counter.wait(1);
    let relayed = counter.client.relayed();
    ensure!(relayed == [address(RELAYED)], "with one family granted it has {relayed:?}");
    Ok(())
}

fn case_53(bench: &Bench) -> Outcome {
    let mut counter = Counter::allocated(bench)?;
    let mut ends = counter.now + Duration::from_secs(600);
    for lifetime in [100, 600] {
        let refresh = counter.next(Method::REFRESH);
        let refresh = refresh
            .map_err(|_| Finding::fails(format!("no refresh before its end at {} s", ends.as_secs())))?;
        ensure!(refresh.at < ends, "a refresh {} s after the end", refresh.at.saturating_sub(ends).as_secs());
        counter.grant_for(&refresh, lifetime);
        ends = counter.now + Duration::from_secs(lifetime);
    }
    ensure!(!counter.client.relayed().is_empty(), "the allocation is lost");
    Ok(())
}

/// With a permission and a channel.
fn bound(bench: &Bench) -> Result<(Counter, u16), Finding> {
    let mut counter = Counter::allocated(bench)?;
    counter.client.permit(counter.now, address(PEER).ip()).map_err(Finding::fails)?;
    counter.drain();
    let permission = counter.next(Method::CREATE_PERMISSION)?;
    counter.grant(&permission);
    counter.client.bind_channel(counter.now, address(PEER)).map_err(Finding::fails)?;
    counter.drain();
    let channel = counter.next(Method::CHANNEL_BIND)?;
    let number = channel.message().channel_number();
    counter.grant(&channel);
    let number = number.ok_or_else(|| Finding::fails("ChannelBind without CHANNEL-NUMBER".into()))?;
    Ok((counter, number))
}

fn case_54(bench: &Bench) -> Outcome {
    let (mut counter, number) = bound(bench)?;
    ensure!((0x4000..=0x4fff).contains(&number), "the channel's number is {number:#06x}");
    let begun = counter.now;
    let (mut permitted, mut bound) = (begun, begun);
    while counter.now.saturating_sub(begun) < Duration::from_secs(1_200) {
        counter.wait(1);
        while let Some(asked) = counter.asked.pop_front() {
            let method = asked.message().method();
            if method == Method::CREATE_PERMISSION {
                permitted = asked.at;
            }
            if method == Method::CHANNEL_BIND {
                let again = asked.message().channel_number();
                ensure!(again == Some(number), "channel {number:#06x} is bound again as {again:04x?}");
                (permitted, bound) = (asked.at, asked.at);
            }
            counter.grant(&asked);
        }
        let (permission, channel) =
            (counter.now.saturating_sub(permitted), counter.now.saturating_sub(bound));
        ensure!(permission < Duration::from_secs(300), "the permission ran out");
        ensure!(channel < Duration::from_secs(600), "the channel ran out");
    }
    Ok(())
}

fn case_55(bench: &Bench) -> Outcome {
    let (mut counter, number) = bound(bench)?;
    let server = address(SERVER);
    let frame = |number, data: &[u8]| {
        let mut out = Vec::new();
        ChannelData { number, data }.write(&mut out);
        out
    };
    let good = frame(number, b"hello");
    ensure!(counter.hear(server, &good).as_deref() == Some(b"hello"), "data on the bound channel is dropped");
    let mut cut = good.clone();
    cut.truncate(6);
    for (from, bytes, what) in [
        (server, frame(number + 1, b"hello"), "an unknown channel"),
        (server, cut, "a frame that is cut short"),
        (address("203.0.113.66:3478"), good, "a frame from elsewhere"),
        (server, indication(address("203.0.113.66:9")), "Data of a peer without a permission"),
    ] {
        let passed = counter.hear(from, &bytes);
        ensure!(passed.is_none(), "{what} is passed on: {passed:02x?}");
    }
    Ok(())
}

fn indication(peer: std::net::SocketAddr) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Indication, Method::DATA, wire::id_of(&[3; 20]))
        .xor_peer_address(peer)
        .data(b"hello")
        .finish();
    out
}

fn case_56(bench: &Bench) -> Outcome {
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let (mut counter, _) = bound(bench)?;
        let lost = counter.next(method)?;
        counter.refuse(&lost, 437);
        counter.wait(1);
        let again = counter.asked.iter().any(|asked| asked.message().method() == Method::ALLOCATE);
        ensure!(again, "437 to {method:?}: no Allocate follows within a second");
        for method in [Method::ALLOCATE, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
            let asked = counter.next(method)?;
            counter.grant(&asked);
        }
        ensure!(
            counter.client.relayed() == [address(RELAYED)],
            "437 to {method:?}: no allocation afterwards"
        );
    }
    Ok(())
}

fn case_57(bench: &Bench) -> Outcome {
    let mut desk = bench.desk(Setup::CONTROLLED)?;
    let (base, server) = (address("10.0.0.2:5000"), address(SERVER));
    desk.local(Local::Relayed { address: address(RELAYED), base, server })?;
    desk.credentials();
    let way = path(RELAYED, "203.0.113.5:40123");
    desk.asked(way, &Ask::controlling())?;
    let check = desk.next_check()?;
    ensure!(check.path == way, "the check leaves {} -> {}", check.path.local, check.path.remote);
    desk.answer(&check);
    desk.asked(way, &Ask::nominating())?;
    desk.live(500, &[way]);
    ensure!(desk.subject.selected() == Some(way), "it uses {:?}", desk.subject.selected());
    Ok(())
}

fn case_58(bench: &Bench) -> Outcome {
    let mut counter = Counter::allocated(bench)?;
    counter.wait(30);
    let probe = counter.asked.pop_front();
    let probe = probe.ok_or_else(|| Finding::fails("nothing is sent within 30 s".into()))?;
    ensure!(
        Message::parse(&probe.bytes).is_ok_and(|message| message.class() == Class::Request),
        "no request"
    );
    counter.refuse(&probe, 437);
    counter.wait(1);
    let again = counter.asked.iter().any(|asked| asked.message().method() == Method::ALLOCATE);
    ensure!(again, "no Allocate after 437");
    Ok(())
}
