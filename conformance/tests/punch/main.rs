//! Holes punched through the simulator's NATs. A failure names its seed; `SEED=n` replays it alone.

mod chance;
mod lab;
mod matrix;
mod restraint;
