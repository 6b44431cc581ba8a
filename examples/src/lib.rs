//! Examples, to be read in order: see the README of this folder.
//!
//! # What it deliberately does not do
//!
//! It holds no code. What several examples need belongs into a crate that users have, too.
