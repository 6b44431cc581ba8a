//! The envelope's encoding: little-endian integers of fixed width, 32-bit variant numbers, 64-bit
//! lengths, one byte for a flag or the presence of an optional field.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gimlet_wire::{Reader, Writer};

use crate::EnvelopeError;

type Result<T> = core::result::Result<T, EnvelopeError>;

/// Reads values in order. Allocates no more than a small multiple of the bytes present: a claimed
/// length is compared with what is there first.
pub(crate) struct Source<'a>(Reader<'a>);

impl<'a> Source<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// Bytes read so far.
    pub(crate) const fn position(&self) -> usize {
        self.0.position()
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.0.u32_le().ok_or(EnvelopeError::Truncated)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.0.u64_le().ok_or(EnvelopeError::Truncated)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.0.u8().ok_or(EnvelopeError::Truncated)? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(EnvelopeError::NotAFlag(byte)),
        }
    }

    fn slice(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.u64()?).map_err(|_| EnvelopeError::Truncated)?;
        self.0.bytes(length).ok_or(EnvelopeError::Truncated)
    }

    /// A length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        self.slice().map(Vec::from)
    }

    /// A length and that many bytes of UTF-8.
    pub(crate) fn text(&mut self) -> Result<String> {
        core::str::from_utf8(self.slice()?).map(String::from).map_err(|_| EnvelopeError::NotUtf8)
    }

    /// A count and that many items. The list grows as items are read; an item is never empty, so an
    /// absurd count runs out of bytes first.
    pub(crate) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..self.u64()? {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Presence, and the item if present.
    pub(crate) fn option<T>(&mut self, item: impl Fn(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { item(self).map(Some) } else { Ok(None) }
    }

    /// The address family's variant, the address's octets, the port.
    pub(crate) fn address(&mut self) -> Result<SocketAddr> {
        let ip = match self.u32()? {
            0 => self.0.array().map(|octets: &[u8; 4]| IpAddr::from(Ipv4Addr::from(*octets))),
            1 => self.0.array().map(|octets: &[u8; 16]| IpAddr::from(Ipv6Addr::from(*octets))),
            number => return Err(EnvelopeError::UnknownVariant { of: "address family", number }),
        };
        match (ip, self.0.u16_le()) {
            (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
            (None, _) | (_, None) => Err(EnvelopeError::Truncated),
        }
    }
}

/// Writes values in order.
pub(crate) struct Sink<'a>(Writer<'a>);

impl<'a> Sink<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(Writer::new(out))
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.u32_le(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.u64_le(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.0.u8(u8::from(value));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.0.bytes(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) {
        self.u64(items.len() as u64);
        for value in items {
            item(self, value);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<&T>, item: impl Fn(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            item(self, value);
        }
    }

    /// An IPv6 address's flow label and scope have no place on this wire.
    pub(crate) fn address(&mut self, value: SocketAddr) {
        match value.ip() {
            IpAddr::V4(ip) => {
                self.u32(0);
                self.0.bytes(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u32(1);
                self.0.bytes(&ip.octets());
            }
        }
        self.0.bytes(&value.port().to_le_bytes());
    }
}
