//! Examples live beside this file; see the README of this folder.
