//! Six programs to read in order, from a machine in one's hand to a loop of one's own.
//!
//! Each is a file beside this crate's manifest, runs by itself, and ends:
//!
//! * `01_one_machine` drives a STUN client by hand: no socket, no clock, no thread;
//! * `02_pump` leaves the draining to `pump`, the loop that every driver shares;
//! * `03_mio` puts the same machines on real sockets;
//! * `04_tokio` has two nodes talk: ticket, connection, stream, messages, close;
//! * `05_two_nodes_in_sim` puts such nodes behind two simulated NATs and plays it twice;
//! * `06_custom_loop` runs a node on `std::net::UdpSocket`, without any of the drivers.
//!
//! # What it deliberately does not do
//!
//! This library holds no code. What several examples need belongs into a crate that users have, too,
//! and an example that hides its work elsewhere teaches nothing.
