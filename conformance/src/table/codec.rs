//! Cases 1 to 11: messages and framing.

use data_encoding::HEXLOWER;
use gimlet_stun::{
    Class, Frame, Framer, IntegrityAlgorithm, Key, Message, MessageWriter, Method, PasswordAlgorithm,
    attribute,
};

use super::desk::{Desk, Said, address, path};
use super::subject::Setup;
use super::wire::{self, Ask, OUR_PWD, Signed, UNKNOWN_REQUIRED};
use super::{Bench, Case, Finding, Implementation, Outcome, ensure, rice, str0m};

const LOCAL: &str = "192.0.2.1:4000";
const PEER: &str = "198.51.100.1:2000";

pub(crate) const CASES: &[Case] = &[
    Case::on_wire(1, "the RFCs' test vectors", "RFC 5769 §2.1-2.4, RFC 8489 B.1", case_1)
        .given("the five messages of the RFCs, their passwords, and each with a bit flipped")
        .requires("parses and verifies with its password; with the flipped bit it does not"),
    Case::on_wire(2, "lengths, top bits and cookie", "RFC 8489 §5", case_2)
        .given("a good request cut to 0..19 bytes, to no multiple of 4, with a wrong length, top bits, cookie")
        .requires("nothing comes out, no panic; the request itself is answered"),
    Case::on_wire(3, "attributes that overrun, addresses of a wrong shape", "RFC 8489 §14.1-14.2", case_3)
        .given(
            "signed answers with XOR-MAPPED-ADDRESS of every length 0 to 21 that is none, and of family 3; a \
             request whose attribute ends behind it",
        )
        .requires("no valid pair, no answer, no panic"),
    Case::on_wire(4, "FINGERPRINT wrong, or not last", "RFC 8489 §14.7", case_4)
        .given("a well signed request with one bit of FINGERPRINT flipped; one with SOFTWARE after it")
        .requires("no answer"),
    Case::on_wire(5, "attributes after MESSAGE-INTEGRITY", "RFC 8489 §14.5", case_5)
        .given("USE-CANDIDATE behind the signature of a check; XOR-MAPPED-ADDRESS behind that of an answer")
        .requires("no nomination, no valid pair"),
    Case::on_wire(6, "two of one attribute", "RFC 8489 §14", case_6)
        .given("requests with two USERNAMEs, the right one first or second; a message with two mapped addresses")
        .requires("the first one counts"),
    Case::on_wire(7, "reserved bits and ranges of ERROR-CODE", "RFC 8489 §14.8", case_7)
        .given("487 with all reserved bits set; then class 7, and number 187, in place of 4 and 87")
        .requires("the first is a role conflict; the others are not"),
    Case::on_wire(8, "unknown attributes", "RFC 8489 §6.3.1-6.3.4", case_8)
        .given("a comprehension-required and an optional unknown attribute in a request, an answer, an indication")
        .requires(
            "request: 420, UNKNOWN-ATTRIBUTES lists it, signed; answer: the check fails; indication: silence; \
             optional: as if it were not there",
        ),
    Case::on_wire(9, "no integrity, wrong key", "RFC 8489 §9.1.3", case_9)
        .given("a request with USERNAME and without MESSAGE-INTEGRITY; one that is signed with another key")
        .requires("400; and 401 or silence; never a check to where it came from"),
    Case::on_wire(10, "truncated MESSAGE-INTEGRITY-SHA256", "RFC 8489 §14.6", case_10)
        .given("one request signed in 16, 20, 24, 28, 32 and in 12, 18 bytes, by another program")
        .requires("the first five verify, the last two do not"),
    Case::ours(
        11,
        "framing on streams",
        "RFC 8489 §6.2.2, RFC 8656 §12.5",
        case_11,
        ("`is` leaves framing to its owner", "rice-proto keeps its framing to itself"),
    )
    .given("a message split at every byte; two in one read; padded ChannelData; a length that never completes")
    .requires("each frame arrives once and whole; at most 64 KiB are held"),
];

/// A vector: its bytes, its password, and the long-term name and realm, if it has them.
struct Vector {
    text: &'static str,
    mapped: Option<&'static str>,
}

const VECTORS: [Vector; 5] = [
    Vector { text: include_str!("../../../core/stun/vectors/rfc5769-2.1-request.txt"), mapped: None },
    Vector {
        text: include_str!("../../../core/stun/vectors/rfc5769-2.2-ipv4-response.txt"),
        mapped: Some("192.0.2.1:32853"),
    },
    Vector {
        text: include_str!("../../../core/stun/vectors/rfc5769-2.3-ipv6-response.txt"),
        mapped: Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    },
    Vector { text: include_str!("../../../core/stun/vectors/rfc5769-2.4-long-term.txt"), mapped: None },
    Vector { text: include_str!("../../../core/stun/vectors/rfc8489-b.1-userhash-sha256.txt"), mapped: None },
];

impl Vector {
    fn field(&self, name: &str) -> Option<&'static str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn bytes(&self) -> Vec<u8> {
        let rows = self.text.lines().filter(|line| !line.starts_with('#') && !line.contains(':'));
        let digits: String = rows.flat_map(str::chars).filter(char::is_ascii_hexdigit).collect();
        HEXLOWER.decode(digits.as_bytes()).unwrap_or_default()
    }

    fn password(&self) -> Password {
        let password = self.field("password").unwrap_or_default().to_owned();
        let long_term = self.field("realm").map(|realm| {
            let sha256 = self.field("algorithm") == Some("sha256");
            (self.field("username").unwrap_or_default().to_owned(), realm.to_owned(), sha256)
        });
        Password { password, long_term }
    }
}

/// What a message is signed with.
pub(crate) struct Password {
    pub(crate) password: String,
    /// Username, realm, and whether the key is a SHA-256 hash.
    pub(crate) long_term: Option<(String, String, bool)>,
}

/// Whether `who` parses the message and finds its signature right.
fn verifies(who: Implementation, bytes: &[u8], password: &Password) -> Result<bool, Finding> {
    match who {
        Implementation::Gimlet | Implementation::Deaf => {
            let key = match &password.long_term {
                None => Key::short_term(password.password.as_bytes()),
                Some((username, realm, sha256)) => {
                    let algorithm = if *sha256 { PasswordAlgorithm::Sha256 } else { PasswordAlgorithm::Md5 };
                    let password = password.password.as_bytes();
                    Key::long_term(username.as_bytes(), realm.as_bytes(), password, algorithm)
                }
            };
            Ok(Message::parse(bytes).is_ok_and(|message| message.verify(&key).is_ok()))
        }
        Implementation::Is => str0m::verifies(bytes, password),
        Implementation::RiceProto => Ok(rice::verifies(bytes, password)),
    }
}

fn mapped(who: Implementation, bytes: &[u8]) -> Result<Option<std::net::SocketAddr>, String> {
    match who {
        Implementation::Gimlet | Implementation::Deaf => {
            Message::parse(bytes).map(|message| message.xor_mapped_address()).map_err(|e| e.to_string())
        }
        Implementation::Is => str0m::mapped_address(bytes),
        Implementation::RiceProto => rice::mapped_address(bytes),
    }
}

fn case_1(bench: &Bench) -> Outcome {
    for (number, vector) in VECTORS.iter().enumerate() {
        let (bytes, password) = (vector.bytes(), vector.password());
        bench.transcript.add(|| format!("vector {}: {}", number + 1, HEXLOWER.encode(&bytes)));
        // What an implementation of ICE alone has no use for is left out.
        let Ok(verified) = verifies(bench.who, &bytes, &password) else { continue };
        ensure!(verified, "vector {} does not verify", number + 1);
        let mut flipped = bytes.clone();
        flipped[30] ^= 1;
        ensure!(
            verifies(bench.who, &flipped, &password) == Ok(false),
            "vector {} verifies damaged",
            number + 1
        );
        if let Some(expected) = vector.mapped {
            let seen = mapped(bench.who, &bytes);
            ensure!(seen == Ok(Some(address(expected))), "vector {}: mapped address {seen:?}", number + 1);
        }
    }
    Ok(())
}

/// An agent that knows its peer.
fn ready(bench: &Bench, setup: Setup) -> Result<Desk, Finding> {
    let mut desk = bench.desk(setup)?;
    desk.host(LOCAL)?;
    desk.remote(PEER)?;
    desk.credentials();
    Ok(desk)
}

/// Fails if the agent says anything to `bytes` but its own checks.
fn silent(desk: &mut Desk, bytes: &[u8], what: &str) -> Outcome {
    desk.take_said();
    desk.hear(path(LOCAL, PEER), bytes);
    desk.wait(200);
    let answer = desk.take_said().into_iter().find(|said| !said.is(Class::Request));
    ensure!(answer.is_none(), "{what}: {}", answer.map(|answer| answer.text()).unwrap_or_default());
    Ok(())
}

fn case_2(bench: &Bench) -> Outcome {
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let good = Ask::controlling().write(desk.id());
    for len in (0..20).chain([good.len() - 1, good.len() - 2, good.len() - 4]) {
        silent(&mut desk, &good[..len], &format!("{len} bytes of {}", good.len()))?;
    }
    for (at, value, what) in [
        (3, good[3] + 4, "a length beyond the datagram"),
        (3, good[3] - 4, "a length short of the datagram"),
        (3, good[3] + 1, "a length that is no multiple of 4"),
        (0, good[0] | 0x80, "top bit set"),
        (0, good[0] | 0x40, "second bit set"),
        (4, good[4] ^ 1, "a wrong cookie"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        silent(&mut desk, &bytes, what)?;
    }
    desk.asked(path(LOCAL, PEER), &Ask::controlling())?;
    Ok(())
}

fn case_3(bench: &Bench) -> Outcome {
    let family = [0, 3, 0x12, 0x34, 1, 2, 3, 4];
    let zeros = [0_u8; 24];
    let lengths = (0..=21).filter(|len| *len != 8 && *len != 20);
    let long =
        |len: usize| if len > 8 { [&[0, 1][..], &zeros[..len - 2]].concat() } else { zeros[..len].to_vec() };
    for value in lengths.map(long).chain([family.to_vec()]) {
        let mut desk = ready(bench, Setup::CONTROLLING)?;
        let check = desk.next_check()?;
        desk.hear(check.path, &wire::success_with_address(&check.bytes, &value));
        desk.wait(1_000);
        let valid = desk.take_checks().iter().any(|check| check.message().use_candidate());
        ensure!(
            !valid && desk.subject.selected().is_none(),
            "an address of {} bytes, {value:02x?}, made the pair valid",
            value.len()
        );
    }
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let mut overrun = Ask { extra: Some(0xc0ff), signed: Signed::Not, ..Ask::controlling() }.write(desk.id());
    let at = overrun.windows(2).position(|kind| kind == [0xc0, 0xff]).unwrap_or(20);
    overrun[at + 2] = 0x7f;
    silent(&mut desk, &overrun, "an attribute that ends behind the message")
}

fn case_4(bench: &Bench) -> Outcome {
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let flipped = Ask { fingerprint: 1, ..Ask::controlling() }.write(desk.id());
    silent(&mut desk, &flipped, "a wrong FINGERPRINT")?;
    let mut followed = Ask::controlling().write(desk.id());
    wire::append(&mut followed, attribute::SOFTWARE, b"late");
    silent(&mut desk, &followed, "SOFTWARE after FINGERPRINT")?;
    desk.asked(path(LOCAL, PEER), &Ask::controlling())?;
    Ok(())
}

fn case_5(bench: &Bench) -> Outcome {
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let check = desk.next_check()?;
    desk.answer(&check);
    let after = Some((attribute::USE_CANDIDATE, vec![]));
    desk.ask(check.path, &Ask { after, ..Ask::controlling() });
    desk.wait(200);
    ensure!(desk.subject.selected().is_none(), "USE-CANDIDATE after the signature nominated the pair");

    let mut desk = ready(bench, Setup::CONTROLLING)?;
    let check = desk.next_check()?;
    let mut answer = Vec::new();
    let id = wire::id_of(&check.bytes);
    let key = Key::short_term(wire::PEER_PWD.as_bytes());
    MessageWriter::new(&mut answer, Class::Success, Method::BINDING, id).integrity(&key).finish();
    wire::append(&mut answer, attribute::XOR_MAPPED_ADDRESS, &[0, 1, 0x2e, 0xb2, 0xe1, 0x12, 0xa6, 0x43]);
    wire::fingerprint(&mut answer, 0);
    desk.hear(check.path, &answer);
    desk.wait(200);
    let nominated = desk.take_checks().iter().any(|check| check.message().use_candidate());
    ensure!(!nominated, "XOR-MAPPED-ADDRESS after the signature made the pair valid");
    Ok(())
}

fn case_6(bench: &Bench) -> Outcome {
    let right = Ask::controlling().usernames.remove(0);
    let wrong = "somebodyElse:peerUfrag".to_owned();
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let first_right = Ask { usernames: vec![right.clone(), wrong.clone()], ..Ask::controlling() };
    let answers = desk.ask(path(LOCAL, PEER), &first_right);
    let taken = answers.iter().any(|answer| answer.is(Class::Success));
    ensure!(taken, "with the right USERNAME first and another second the request is refused");
    let first_wrong = Ask { usernames: vec![wrong, right], ..Ask::controlling() };
    let answers = desk.ask(path(LOCAL, PEER), &first_wrong);
    let taken = answers.iter().any(|answer| answer.is(Class::Success));
    ensure!(!taken, "the second USERNAME counts: {}", answers.first().map(Said::text).unwrap_or_default());

    let (first, second) = (address("192.0.2.7:7"), address("203.0.113.9:9"));
    let mut both = Vec::new();
    MessageWriter::new(&mut both, Class::Success, Method::BINDING, desk.id())
        .xor_mapped_address(first)
        .xor_mapped_address(second)
        .integrity(&Key::short_term(b"password"))
        .fingerprint();
    let seen = mapped(bench.who, &both);
    ensure!(seen == Ok(Some(first)), "of two mapped addresses it reads {seen:?}");
    Ok(())
}

fn case_7(bench: &Bench) -> Outcome {
    for (value, is_conflict, what) in [
        ([0xff, 0xff, 0xfc, 87], true, "487 with reserved bits set"),
        ([0, 0, 7, 87], false, "class 7"),
        ([0, 0, 4, 187], false, "number 187"),
    ] {
        let mut desk = ready(bench, Setup::CONTROLLING)?;
        let check = desk.next_check()?;
        desk.hear(check.path, &wire::refusal_with(&check.bytes, &value, Some(wire::PEER_PWD)));
        desk.wait(200);
        ensure!(
            desk.subject.is_controlling() != is_conflict,
            "{what}: it {} its role",
            if is_conflict { "keeps" } else { "changes" }
        );
    }
    Ok(())
}

fn case_8(bench: &Bench) -> Outcome {
    let mut desk = ready(bench, Setup::CONTROLLED)?;
    let answers = desk.ask(path(LOCAL, PEER), &Ask { extra: Some(UNKNOWN_REQUIRED), ..Ask::controlling() });
    let Some(answer) = answers.first() else {
        return Err(Finding::fails("a request with an unknown required attribute is not answered".into()));
    };
    ensure!(
        answer.error() == Some(420),
        "a request with an unknown required attribute gets {}",
        answer.text()
    );
    let listed: Vec<u16> = answer.message().unknown_attributes().collect();
    ensure!(listed == [UNKNOWN_REQUIRED], "420 lists {listed:04x?}");
    let signed = answer.message().verify(&Key::short_term(OUR_PWD.as_bytes())).is_ok();
    ensure!(signed, "420 is not signed");
    desk.asked(path(LOCAL, PEER), &Ask { extra: Some(0xc0ff), ..Ask::controlling() })?;
    let mut indication = Vec::new();
    MessageWriter::new(&mut indication, Class::Indication, Method::BINDING, desk.id())
        .attribute(UNKNOWN_REQUIRED, &[0; 4])
        .fingerprint();
    silent(&mut desk, &indication, "an indication with an unknown attribute")?;

    let mut desk = ready(bench, Setup::CONTROLLING)?;
    let check = desk.next_check()?;
    let mut answer = Vec::new();
    MessageWriter::new(&mut answer, Class::Success, Method::BINDING, wire::id_of(&check.bytes))
        .xor_mapped_address(address(LOCAL))
        .attribute(UNKNOWN_REQUIRED, &[0; 4])
        .integrity(&Key::short_term(wire::PEER_PWD.as_bytes()))
        .fingerprint();
    desk.hear(check.path, &answer);
    desk.wait(200);
    let nominated = desk.take_checks().iter().any(|check| check.message().use_candidate());
    ensure!(!nominated, "an answer with an unknown required attribute made the pair valid");
    Ok(())
}

fn case_9(bench: &Bench) -> Outcome {
    let stranger = path(LOCAL, "203.0.113.66:6666");
    for (signed, allowed, what) in [
        (Signed::Not, &[Some(400)][..], "without MESSAGE-INTEGRITY"),
        (Signed::Wrongly, &[Some(401), None], "signed with another key"),
    ] {
        let mut desk = ready(bench, Setup::CONTROLLED)?;
        let answers = desk.ask(stranger, &Ask { signed, ..Ask::controlling() });
        let code = answers.first().and_then(Said::error);
        let success = answers.iter().any(|answer| answer.is(Class::Success));
        let got = code.map_or("silence".into(), |code| code.to_string());
        ensure!(!success && allowed.contains(&code), "a request {what} gets {got}");
        desk.wait(1_000);
        let checks = desk.take_checks().iter().any(|check| check.path == stranger);
        ensure!(!checks, "a request {what} makes it check the sender");
    }
    Ok(())
}

/// RFC 8489 §14.6 by Python's `hmac`: the request of RFC 5769 §2.1 with USERNAME alone, signed in this many bytes.
const TRUNCATED: [(usize, &str); 7] = [
    (
        16,
        "000100242112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c001040e26b42f754242912c2b6b9fbdca907",
    ),
    (
        20,
        "000100282112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c001470d4f6ddfe79c8c434569e8d88bf1c37b23f8ed1",
    ),
    (
        24,
        "0001002c2112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c0018249959875f982a9565386188cb6c99212a0c1c0e375150b4",
    ),
    (
        28,
        "000100302112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c001cc3707d67f2dc5ab96bdcf66d7817d0d282e4bd0bc2366d5c0501688a",
    ),
    (
        32,
        "000100342112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c00209a241fa22a3d77e481fb2ad29fa9ce63403cd45c007996723331e370538de124",
    ),
    (
        12,
        "000100202112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c000c2c82f5c0308193d4a0646564",
    ),
    (
        18,
        "000100282112a442b7e7a701bc34d686fa87dfae000600096576746a3a68367659000000001c001270d4f6ddfe79c8c434569e8d88bf1c37b23f0000",
    ),
];

fn case_10(bench: &Bench) -> Outcome {
    let password = Password { password: "VOkJxbRl1RmTxUk/WvJxBt".into(), long_term: None };
    for (len, hex) in TRUNCATED {
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap_or_default();
        bench.transcript.add(|| format!("signed in {len} bytes: {hex}"));
        if bench.who == Implementation::Is {
            return Err(Finding::not_applicable("`is` knows MESSAGE-INTEGRITY alone"));
        }
        let verified = verifies(bench.who, &bytes, &password)?;
        let right = len >= 16 && len % 4 == 0;
        let word = if verified { "verifies" } else { "does not verify" };
        ensure!(verified == right, "a signature of {len} bytes {word}");
        if bench.who == Implementation::Gimlet && right {
            let algorithm = Message::parse(&bytes).ok().and_then(|message| message.integrity_algorithm());
            ensure!(algorithm == Some(IntegrityAlgorithm::Sha256), "it is taken for {algorithm:?}");
        }
    }
    Ok(())
}

fn case_11(bench: &Bench) -> Outcome {
    let message = Ask::controlling().write(wire::id_of(&[7; 20]));
    let mut stream = message.clone();
    stream.extend_from_slice(&message);
    stream.extend_from_slice(b"\x40\x00\x00\x05hello\0\0\0");
    stream.extend_from_slice(&message);
    bench.transcript.add(|| format!("stream: {}", HEXLOWER.encode(&stream)));
    for split in 0..stream.len() {
        let (mut framer, mut frames) = (Framer::new(), Vec::new());
        for mut chunk in [&stream[..split], &stream[split..]] {
            while let Some(frame) =
                framer.poll(&mut chunk).map_err(|error| Finding::fails(error.to_string()))?
            {
                frames.push(match frame {
                    Frame::Message(bytes) => bytes.to_vec(),
                    Frame::ChannelData(channel) => channel.data.to_vec(),
                });
            }
        }
        let expected = [&message[..], &message, b"hello", &message];
        ensure!(frames == expected, "split at {split}: {} frames", frames.len());
    }
    let mut framer = Framer::new();
    let mut longest = &b"\x00\x01\xfe\x00\x21\x12\xa4\x42"[..];
    ensure!(matches!(framer.poll(&mut longest), Ok(None)), "a header is no frame");
    for _ in 0..100 {
        let mut more = &[0_u8; 1024][..];
        if !matches!(framer.poll(&mut more), Ok(None)) {
            break;
        }
        ensure!(framer.held() <= 65_536 + 20, "{} bytes are held", framer.held());
    }
    Ok(())
}
