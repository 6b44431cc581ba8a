//! Measures rows and prints them as markdown.

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use crate::allocations;

/// How many batches of each row are measured; the median of them is the figure.
const BATCHES: usize = 61;
/// How long a batch takes: long against the clock's resolution, short against the machine's moods.
const BATCH: Duration = Duration::from_millis(4);
/// The argument that makes a program run one row a number of times and say nothing: `--row INDEX TIMES`.
const ONE_ROW: &str = "--row";
/// How often valgrind runs a row: some times, and so many times more often. The difference is free of
/// start-up. Fewer times if fewer fill a batch.
const VALGRIND_FEW: (u64, u64) = (2, 200);
const VALGRIND_MORE: u64 = 6;

/// Rows of a comparison.
pub struct Table {
    title: &'static str,
    rows: Vec<Row>,
}

struct Row {
    work: &'static str,
    who: &'static str,
    /// Units of work that one call of `body` does.
    units: u64,
    /// Whether instructions are counted.
    counted: bool,
    body: Box<dyn FnMut(u64)>,
}

struct Figures {
    nanoseconds: f64,
    instructions: Option<f64>,
    allocations: f64,
}

impl Table {
    /// An empty table.
    pub fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    /// `who` does `work`; one call of `body` does it `units` times.
    pub fn row<T>(
        &mut self,
        work: &'static str,
        who: &'static str,
        units: u64,
        body: impl FnMut() -> T + 'static,
    ) {
        self.push(work, who, units, true, body);
    }

    /// The same, without a count of instructions: for work whose preparation takes long under valgrind.
    pub fn timed_row<T>(
        &mut self,
        work: &'static str,
        who: &'static str,
        units: u64,
        body: impl FnMut() -> T + 'static,
    ) {
        self.push(work, who, units, false, body);
    }

    fn push<T>(
        &mut self,
        work: &'static str,
        who: &'static str,
        units: u64,
        counted: bool,
        mut body: impl FnMut() -> T + 'static,
    ) {
        let body = Box::new(move |times| {
            for _ in 0..times {
                black_box(body());
            }
        });
        self.rows.push(Row { work, who, units, counted, body });
    }

    /// Measures all rows and prints the table; or, as a child of itself under valgrind, runs one and says
    /// false: the program has nothing more to do then.
    pub fn run(mut self) -> bool {
        let args: Vec<String> = std::env::args().skip(1).collect();
        if let [flag, index, times] = &args[..] {
            assert_eq!(flag, ONE_ROW, "the only arguments are those that this program gives itself");
            let row = &mut self.rows[index.parse::<usize>().expect("an index")];
            (row.body)(times.parse().expect("a number"));
            return false;
        }
        let figures = self.measure();
        println!("### {}\n", self.title);
        println!("| work | who | ns | instructions | allocations |\n|---|---|--:|--:|--:|");
        for (row, figures) in self.rows.iter().zip(&figures) {
            let instructions = figures.instructions.map_or("–".to_owned(), |count| format!("{count:.0}"));
            println!(
                "| {} | {} | {:.1} | {} | {:.2} |",
                row.work, row.who, figures.nanoseconds, instructions, figures.allocations
            );
        }
        println!();
        true
    }

    fn measure(&mut self) -> Vec<Figures> {
        let times: Vec<u64> = self.rows.iter_mut().map(calibrate).collect();
        let mut batches = vec![Vec::with_capacity(BATCHES); self.rows.len()];
        for _ in 0..BATCHES {
            for ((row, times), batches) in self.rows.iter_mut().zip(&times).zip(&mut batches) {
                let start = cpu_time();
                (row.body)(*times);
                batches.push(cpu_time() - start);
            }
        }
        let each = self.rows.iter_mut().enumerate().zip(times.iter().zip(&mut batches));
        each.map(|((index, row), (times, batches))| {
            batches.sort_unstable();
            let units = (*times * row.units) as f64;
            let before = allocations::calls();
            (row.body)(*times);
            let allocations = (allocations::calls() - before) as f64 / units;
            let instructions = row.counted.then(|| instructions(index, *times)).flatten();
            let instructions = instructions.map(|count| count / row.units as f64);
            Figures { nanoseconds: batches[BATCHES / 2].as_nanos() as f64 / units, instructions, allocations }
        })
        .collect()
    }
}

/// How long this thread has been running on a processor: other people's work on the same machine does not
/// count, as far as the caches do not tell.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, and the clock exists on every Linux.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "the thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many calls fill a batch.
fn calibrate(row: &mut Row) -> u64 {
    // Whatever is made when it is first asked for does not count.
    (row.body)(1);
    let mut times = 1;
    loop {
        let start = cpu_time();
        (row.body)(times);
        if cpu_time() - start >= BATCH {
            return times;
        }
        times = (times * 3).div_ceil(2);
    }
}

/// Instructions of one call, as valgrind counts them. It offers no SHA extensions, so figures of rows that
/// hash compare only with each other.
fn instructions(index: usize, batch: u64) -> Option<f64> {
    let few = batch.clamp(VALGRIND_FEW.0, VALGRIND_FEW.1);
    let many = few * VALGRIND_MORE;
    let count = |times: u64| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
        valgrind.arg(std::env::current_exe().ok()?).args([ONE_ROW, &index.to_string(), &times.to_string()]);
        let said = valgrind.output().ok()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let line = said
            .lines()
            .find_map(|line| line.split_once("refs:").map(|(_, count)| count.replace([',', ' '], "")))?;
        line.parse::<f64>().ok()
    };
    Some((count(many)? - count(few)?) / (many - few) as f64)
}
