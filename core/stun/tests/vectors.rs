//! The messages that the RFCs print, read, verified and written again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gimlet_stun::attribute::{FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256};
use gimlet_stun::{Attribute, Class, Key, Message, MessageWriter, Method, PasswordAlgorithm, userhash};

/// One file: what the message must say, then the message.
struct Vector {
    name: String,
    says: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl Vector {
    fn all() -> Vec<Vector> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors");
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| Vector::read(file)).collect()
    }

    fn read(file: &std::path::Path) -> Vector {
        let text = fs::read_to_string(file).unwrap();
        let (head, hex) = text.split_once("\n\n").expect("a blank line before the bytes");
        let says = head
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(": ").expect("key: value"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let bytes = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        Vector { name: file.file_name().unwrap().to_string_lossy().into_owned(), says, bytes }
    }

    fn says(&self, key: &str) -> Option<&str> {
        self.says.get(key).map(String::as_str)
    }

    fn key(&self) -> Key {
        let text = |key| self.says(key).unwrap_or_default().as_bytes();
        let long = |algorithm| Key::long_term(text("username"), text("realm"), text("password"), algorithm);
        match self.says("algorithm") {
            None => Key::short_term(text("password")),
            Some("md5") => long(PasswordAlgorithm::Md5),
            Some("sha256") => long(PasswordAlgorithm::Sha256),
            Some(other) => panic!("{}: algorithm {other}", self.name),
        }
    }
}

#[test]
fn case_01_every_vector_is_here() {
    let names: Vec<String> = Vector::all().into_iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn case_01_vectors_parse_and_say_what_the_rfc_says() {
    for vector in Vector::all() {
        let message =
            Message::parse(&vector.bytes).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        let name = &vector.name;
        assert_eq!(message.method(), Method::BINDING, "{name}");
        assert_eq!(format!("{:?}", message.class()), vector.says("class").unwrap(), "{name}");
        assert_eq!(message.software(), vector.says("software"), "{name}");
        assert_eq!(message.realm(), vector.says("realm").map(str::as_bytes), "{name}");
        assert_eq!(message.nonce(), vector.says("nonce").map(str::as_bytes), "{name}");
        assert_eq!(message.priority(), vector.says("priority").map(|n| n.parse().unwrap()), "{name}");
        let tiebreaker = vector.says("ice-controlled").map(|n| n.parse().unwrap());
        assert_eq!(message.ice_controlled(), tiebreaker, "{name}");
        let mapped = vector.says("xor-mapped-address").map(|address| address.parse().unwrap());
        assert_eq!(message.xor_mapped_address(), mapped, "{name}");
        assert_eq!(message.has_fingerprint(), vector.says("fingerprint").is_some(), "{name}");
        assert_eq!(message.unknown_required().count(), 0, "{name}");
        let username = vector.says("username").map(str::as_bytes);
        if vector.says("userhash").is_some() {
            let hash = userhash(username.unwrap(), message.realm().unwrap());
            assert_eq!((message.userhash(), message.username()), (Some(&hash), None), "{name}");
        } else {
            assert_eq!(message.username(), username, "{name}");
        }
    }
}

#[test]
fn case_01_vectors_verify_with_their_password_and_with_no_other() {
    for vector in Vector::all() {
        let message = Message::parse(&vector.bytes).unwrap();
        assert_eq!(message.verify(&vector.key()), Ok(()), "{}", vector.name);
        assert!(message.verify(&Key::short_term(b"wrong")).is_err(), "{}", vector.name);
    }
}

/// One bit anywhere outside the padding, and the message is refused: by the header check, by
/// FINGERPRINT, or by the signature.
#[test]
fn case_01_a_vector_with_any_bit_flipped_is_not_accepted() {
    for vector in Vector::all() {
        let key = vector.key();
        for bit in 0..vector.bytes.len() * 8 {
            let mut bytes = vector.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let accepted = Message::parse(&bytes).is_ok_and(|message| message.verify(&key).is_ok());
            // Flipping the type of FINGERPRINT turns it into an ignored attribute behind the
            // signature, which covers everything else.
            let hides_fingerprint =
                vector.says("fingerprint").is_some() && (vector.bytes.len() - 8..).contains(&(bit / 8));
            assert!(!accepted || hides_fingerprint, "{} bit {bit}", vector.name);
        }
    }
}

/// RFC 5769 pads with 0x20, the writer with zero, and the seals cover the padding. So everything in
/// front of the seals must come out as printed but for the padding; and where the vector pads with
/// zero too, the seals as well.
#[test]
fn case_01_vectors_are_written_again_byte_for_byte_but_for_padding() {
    let mut whole = 0;
    for vector in Vector::all() {
        let (name, key) = (&vector.name, vector.key());
        let message = Message::parse(&vector.bytes).unwrap();
        let (mut out, mut expected) = (Vec::new(), vector.bytes.clone());
        let id = message.transaction_id();
        let mut writer = MessageWriter::new(&mut out, message.class(), message.method(), id);
        for Attribute { kind, value } in message.attributes() {
            if ![MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT].contains(&kind) {
                let end = writer.len() + 4 + value.len();
                expected[end..end.next_multiple_of(4)].fill(0);
                writer = writer.attribute(kind, value);
            }
        }
        let ordinary_end = writer.len();
        let sealed = writer.integrity_with(&key, message.integrity_algorithm().unwrap());
        let written = if message.has_fingerprint() { sealed.fingerprint() } else { sealed.finish() };
        assert_eq!(written[..ordinary_end], expected[..ordinary_end], "{name}");
        assert_eq!(written.len(), expected.len(), "{name}");
        assert_eq!(Message::parse(written).unwrap().verify(&key), Ok(()), "{name}");
        if expected == vector.bytes {
            assert_eq!(written, expected, "{name}");
            whole += 1;
        }
    }
    assert_eq!(whole, 2, "the vectors of RFC 5769 §2.4 and RFC 8489 B.1 are padded with zero");
}

#[test]
fn case_01_typed_writers_reproduce_the_long_term_vectors() {
    let all = Vector::all();
    let find = |name: &str| all.iter().find(|vector| vector.name.contains(name)).unwrap();
    let (username, realm) = ("マトリックス".as_bytes(), &b"example.org"[..]);

    let vector = find("5769-2.4");
    let message = Message::parse(&vector.bytes).unwrap();
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, Method::BINDING, message.transaction_id())
        .username(username)
        .nonce(message.nonce().unwrap())
        .realm(realm)
        .integrity(&vector.key())
        .finish();
    assert_eq!(out, vector.bytes);

    let vector = find("8489-b.1");
    let message = Message::parse(&vector.bytes).unwrap();
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, Method::BINDING, message.transaction_id())
        .userhash(&userhash(username, realm))
        .nonce(message.nonce().unwrap())
        .realm(realm)
        .password_algorithm(PasswordAlgorithm::Sha256)
        .integrity_sha256(&vector.key())
        .finish();
    assert_eq!(out, vector.bytes);
    assert_eq!(message.password_algorithm(), Some(PasswordAlgorithm::Sha256));
}
