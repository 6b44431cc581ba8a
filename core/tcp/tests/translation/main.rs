//! Cases 1 to 25 of the translation, each with the numbers that its two ends see, and properties against an
//! oracle that computes everything anew.
//!
//! Throughout: the client 10.0.0.1:40000, the server 10.0.0.2:8080, Ci = FFFFFF00, S' = FFFFFFF0, Sr = 00000020,
//! so D = FFFFFFD0; T' = 80000000, T = 000003E8, so O = 7FFFFC18.

mod cases;
mod fixture;
mod oracle;
mod properties;
mod quotes;
