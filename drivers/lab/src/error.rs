//! What can be in the way of a laboratory.

use std::fmt;

/// Why there can be no lab here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Namespaces belong to root.
    Root,
    /// A program is not installed.
    Tool {
        /// The program.
        name: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Everything is there, but the kernel or a container refuses.
    Refused(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Root => f.write_str("network namespaces need root"),
            Missing::Tool { name, package } => write!(f, "`{name}` is missing: apt-get install {package}"),
            Missing::Refused(answer) => write!(f, "no network namespaces here: {answer}"),
        }
    }
}

impl std::error::Error for Missing {}

/// A step that failed while a lab was built: the command and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabError {
    /// What was to be done.
    pub step: String,
    /// What came of it.
    pub answer: String,
}

impl LabError {
    pub(crate) fn new(step: impl fmt::Display, answer: impl fmt::Display) -> Self {
        Self { step: step.to_string(), answer: answer.to_string().trim().to_owned() }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.answer)
    }
}

impl std::error::Error for LabError {}
