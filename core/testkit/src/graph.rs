//! State graphs as text that is committed, so that a new edge is seen in review.

use std::fmt::{Debug, Write as _};
use std::path::Path;

/// One line per legal edge, in the order of the declarations.
///
/// ```
/// let lamp = |lit: bool, _: &str| (!lit).then_some(true);
/// assert_eq!(gimlet_testkit::edges(&[false, true], &["light"], lamp), "false --\"light\"--> true\n");
/// ```
pub fn edges<S: Copy + Debug, T: Copy + Debug>(
    states: &[S],
    steps: &[T],
    after: impl Fn(S, T) -> Option<S>,
) -> String {
    let mut text = String::new();
    for state in states {
        for step in steps {
            if let Some(next) = after(*state, *step) {
                writeln!(text, "{state:?} --{step:?}--> {next:?}").expect("text takes text");
            }
        }
    }
    text
}

/// Compares with the text committed as `snapshots/<name>` of the crate in `folder`, which is
/// `env!("CARGO_MANIFEST_DIR")`; `UPDATE=1` rewrites it.
#[allow(clippy::disallowed_methods, reason = "a developer asks for the table to be rewritten")]
pub fn matches_committed(folder: &str, name: &str, actual: &str) {
    let path = Path::new(folder).join("snapshots").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).expect("the folder is there");
    }
    let expected = std::fs::read_to_string(&path).expect("it is committed");
    assert_eq!(actual, expected, "{name} changed: look at the edges, then run with UPDATE=1");
}
