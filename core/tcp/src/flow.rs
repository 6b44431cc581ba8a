//! Flows: what names one, what is kept of one, and the table that finds it.

pub(crate) mod hash;
pub(crate) mod key;
pub(crate) mod slot;
pub(crate) mod table;
