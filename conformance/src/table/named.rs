//! The named tests of the tree: `case_NN_…`, found in the sources and run through cargo.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Verdict;
use crate::tidy::Source;

/// A test with the number of a case in its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedTest {
    /// 1 to 68.
    pub case: u8,
    /// `case_34_role_conflict_table`.
    pub name: String,
    /// The file, from the top of the tree.
    pub path: String,
    /// The package that it is a test of.
    pub package: String,
}

/// Every named test in `sources`, by case.
pub fn named_tests(sources: &[Source]) -> Vec<NamedTest> {
    let mut tests = Vec::new();
    for source in sources {
        for line in source.text.lines() {
            let Some(rest) = line.trim_start().strip_prefix("fn case_") else { continue };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let (Ok(case), Some(package)) = (digits.parse(), package(&source.path)) else { continue };
            if name.len() > digits.len() + 1 {
                let path = source.path.clone();
                tests.push(NamedTest { case, name: format!("case_{name}"), path, package });
            }
        }
    }
    // The judges of this table are called so too, and are no tests.
    tests.retain(|test| !test.path.starts_with("conformance/src"));
    tests.sort();
    tests
}

/// The package whose folder the file lies in.
fn package(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    match (parts.next()?, parts.next()?) {
        ("core" | "drivers", room) => Some(format!("gimlet-{room}")),
        (top @ ("conformance" | "fuzz" | "examples"), _) => Some(format!("gimlet-{top}")),
        _ => None,
    }
}

/// Cases whose tests pass without having looked where there is no lab, unless `GIMLET_LAB=1`.
const NEED_A_LAB: [u8; 1] = [67];

/// Runs the named tests of `cases` through cargo, in the tree at `root`, and says for each case how they went.
pub fn run_named(root: &Path, tests: &[NamedTest], cases: &[u8]) -> BTreeMap<u8, Verdict> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let runs = |case: &u8| is_root || !NEED_A_LAB.contains(case);
    let (possible, skipped): (Vec<u8>, Vec<u8>) = cases.iter().partition(|case| runs(case));
    let mut verdicts = if possible.is_empty() { BTreeMap::new() } else { run(root, tests, &possible) };
    let skip = || Verdict::NotRun("its lab of network namespaces needs root".into());
    verdicts.extend(skipped.iter().map(|case| (*case, skip())));
    verdicts
}

fn run(root: &Path, tests: &[NamedTest], cases: &[u8]) -> BTreeMap<u8, Verdict> {
    let wanted: Vec<_> = tests.iter().filter(|test| cases.contains(&test.case)).collect();
    let mut packages: Vec<&str> = wanted.iter().map(|test| test.package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["test", "--locked", "--no-fail-fast"]);
    for package in &packages {
        cargo.args(["--package", package]);
    }
    cargo.arg("--").args(wanted.iter().map(|test| test.name.as_str()));
    if cases.iter().any(|case| NEED_A_LAB.contains(case)) {
        cargo.env("GIMLET_LAB", "1");
    }
    let output = match cargo.stderr(Stdio::inherit()).output() {
        Ok(output) => output,
        Err(error) => {
            let why = format!("cargo does not run: {error}");
            return cases.iter().map(|case| (*case, Verdict::NotRun(why.clone()))).collect();
        }
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut verdicts = judge(&printed, &wanted, cases);
    if !output.status.success() && verdicts.values().all(|verdict| *verdict == Verdict::Pass) {
        for verdict in verdicts.values_mut() {
            *verdict = Verdict::Fail("cargo test failed, and no named test says why".into());
        }
    }
    verdicts
}

/// The same from what `cargo test` printed earlier, so that it need not run twice.
pub fn read_named(printed: &str, tests: &[NamedTest], cases: &[u8]) -> BTreeMap<u8, Verdict> {
    let wanted: Vec<_> = tests.iter().filter(|test| cases.contains(&test.case)).collect();
    let mut verdicts = judge(printed, &wanted, cases);
    if std::env::var_os("GIMLET_LAB").is_none_or(|value| value != "1") {
        for case in NEED_A_LAB.iter().filter(|case| cases.contains(case)) {
            let why = "without GIMLET_LAB=1 its tests pass where there is no lab";
            verdicts.insert(*case, Verdict::NotRun(why.into()));
        }
    }
    verdicts
}

/// A case passes if every one of its tests is reported and none failed.
fn judge(printed: &str, wanted: &[&NamedTest], cases: &[u8]) -> BTreeMap<u8, Verdict> {
    let reported = |name: &str, result: &str| {
        printed
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
            .any(|(path, said)| path.rsplit("::").next() == Some(name) && said.trim_end().ends_with(result))
    };
    let verdict = |case: &u8| {
        let mut tests = wanted.iter().filter(|test| test.case == *case).peekable();
        if tests.peek().is_none() {
            return Verdict::Fail("no test in the tree has its number".into());
        }
        for test in tests {
            if reported(&test.name, "FAILED") {
                return Verdict::Fail(format!("{} failed ({})", test.name, test.path));
            }
            if !reported(&test.name, "ok") {
                return Verdict::NotRun(format!("{} did not run ({})", test.name, test.path));
            }
        }
        Verdict::Pass
    };
    cases.iter().map(|case| (*case, verdict(case))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted() -> Vec<NamedTest> {
        let text =
            "#[test]\nfn case_07_a() {}\n#[test]\nfn case_07_b() {}\nfn case_8() {}\nfn showcase_9_x() {}\n";
        named_tests(&[Source::planted("core/stun/tests/parsing.rs", text)])
    }

    #[test]
    fn tests_are_found_by_number_with_their_package() {
        let tests = planted();
        let names: Vec<_> = tests.iter().map(|test| (test.case, test.name.as_str())).collect();
        assert_eq!(names, [(7, "case_07_a"), (7, "case_07_b")]);
        assert!(tests.iter().all(|test| test.package == "gimlet-stun"));
    }

    #[test]
    fn a_case_passes_only_if_each_of_its_tests_is_reported_and_none_failed() {
        let tests = planted();
        let judge = |printed: &str| read_named(printed, &tests, &[7]).remove(&7).unwrap();
        assert_eq!(judge("test case_07_a ... ok\ntest x::case_07_b ... ok\n"), Verdict::Pass);
        assert!(matches!(judge("test case_07_a ... ok\ntest case_07_b ... FAILED\n"), Verdict::Fail(_)));
        assert!(matches!(judge("test case_07_a ... ok\n"), Verdict::NotRun(_)));
        assert!(matches!(judge(""), Verdict::NotRun(_)));
        assert!(matches!(read_named("", &[], &[9])[&9], Verdict::Fail(_)), "no test at all");
    }
}
