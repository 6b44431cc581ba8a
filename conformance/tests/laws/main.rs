//! Every machine keeps the laws; every way to break one is noticed. Run with `cargo laws`; `SEED=7 cargo
//! laws` tries other schedules, `LAWS_CASES=10000 cargo laws` more of them.

mod canaries;
mod heap;
mod subjects;
mod weight;
