//! Cases 20 to 77: frames of every shape, handshakes, what attackers and accidents do to them, lifetimes, two boxes, Fast Open. And what
//! holds whatever happens.
//!
//! Throughout: the client 10.0.0.1:40000 with Ci = FFFFFF00, the server 10.0.0.2:8080 with Sr = 00000020 and
//! T = 000003E8. S' and T' are what the translator says.

mod adversarial;
mod boxes;
mod chaos;
mod lab;
mod lifetime;
mod opening;
mod properties;
mod refusal;
mod shapes;
