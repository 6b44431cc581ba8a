//! The small programs that run inside the namespaces. Each says `{"event":"ready"}` when it is, and then lines of JSON.

mod generate;
mod load;
mod pattern;
mod serve;
mod stand;

pub use generate::{GenerateArgs, What};
pub use load::{LoadArgs, Quantiles, Summary};
pub use serve::ServeArgs;
pub use stand::{Kind, StandArgs};

use std::error::Error;

/// One of them.
#[derive(clap::Subcommand, Debug)]
pub enum Program {
    /// Stand between two interfaces
    Stand(StandArgs),
    /// Send frames, as many as asked for
    Generate(GenerateArgs),
    /// Answer connections with a known pattern
    Serve(ServeArgs),
    /// Make connections, and compare what comes with the pattern
    Load(LoadArgs),
}

impl Program {
    /// Runs it to its end.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        match self {
            Program::Stand(args) => stand::run(args),
            Program::Generate(args) => generate::run(args),
            Program::Serve(args) => serve::run(args),
            Program::Load(args) => load::run(args),
        }
    }
}

fn ready() {
    println!("{{\"event\":\"ready\"}}");
}
