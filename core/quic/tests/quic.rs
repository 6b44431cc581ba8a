//! Endpoints among themselves: a small network in memory, a virtual clock, and every call checked
//! against the laws.

#[path = "quic/world.rs"]
mod world;

#[path = "quic/handshake.rs"]
mod handshake;
#[path = "quic/hostile.rs"]
mod hostile;
#[path = "quic/paths.rs"]
mod paths;
#[path = "quic/seeded.rs"]
mod seeded;
#[path = "quic/streams.rs"]
mod streams;
