//! How far a run is, on stderr: a bar for people, or lines of JSON for programs.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use serde::Serialize;

use super::args::Progress;

/// Redraws a second.
const HZ: u8 = 10;
/// Guest bytes done and total, percent, rate, time left.
const TEMPLATE: &str = "[{bar:24}] {bytes}/{total_bytes} {percent}% {binary_bytes_per_sec} {eta} left";
/// Where the total is not known.
const OPEN_TEMPLATE: &str = "{spinner} {bytes} {binary_bytes_per_sec}";
/// Columns that stay free, so that the ^C of an interrupted run does not wrap into a line that is not cleared.
const MARGIN: u16 = 4;

/// What tells how far a run is.
pub enum Meter {
    /// A bar, which may be hidden.
    Bar(ProgressBar),
    /// Lines of JSON.
    Lines(Lines),
}

impl Meter {
    /// For `phase`, over `total` guest bytes, where that is known.
    pub fn new(phase: &'static str, wanted: Progress, quiet: bool, total: Option<u64>) -> Meter {
        match wanted {
            Progress::Json => Meter::Lines(Lines::begin(phase, total)),
            Progress::Auto | Progress::Bar | Progress::None => Meter::Bar(bar(wanted, quiet, total)),
        }
    }

    /// So many bytes more are done; from any thread.
    pub fn advance(&self, bytes: u64) {
        match self {
            Meter::Bar(bar) => bar.inc(bytes),
            Meter::Lines(lines) => lines.advance(bytes),
        }
    }

    /// The run ended, well or badly: messages may follow.
    pub fn end(&self) {
        match self {
            Meter::Bar(bar) => bar.finish_and_clear(),
            Meter::Lines(lines) => lines.say(),
        }
    }
}

/// One object a line: the first when the run begins, the last when it ends, and some between them.
pub struct Lines {
    phase: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    begun: Instant,
    /// When the last line was said.
    said: Mutex<Instant>,
}

#[derive(Serialize)]
struct Line {
    phase: &'static str,
    /// Guest bytes.
    done: u64,
    total: Option<u64>,
    /// Guest bytes a second since the beginning.
    rate: u64,
}

impl Lines {
    fn begin(phase: &'static str, total: Option<u64>) -> Lines {
        let begun = Instant::now();
        let lines = Lines { phase, total, done: AtomicU64::new(0), begun, said: Mutex::new(begun) };
        lines.say();
        lines
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        // Who finds another one here leaves it to that one.
        let Ok(mut said) = self.said.try_lock() else { return };
        if said.elapsed() >= Duration::from_secs(1) / u32::from(HZ) {
            *said = Instant::now();
            self.say();
        }
    }

    fn say(&self) {
        let (done, seconds) = (self.done.load(Ordering::Relaxed), self.begun.elapsed().as_secs_f64());
        let rate = (done as f64 / seconds.max(1e-9)) as u64;
        let line = Line { phase: self.phase, done, total: self.total, rate: if done == 0 { 0 } else { rate } };
        // A closed stderr is nobody's concern; in one write, or lines of others may come between.
        if let Ok(text) = serde_json::to_string(&line) {
            let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// A bar over `total` guest bytes, where that is known; or none.
fn bar(wanted: Progress, quiet: bool, total: Option<u64>) -> ProgressBar {
    let terminal = io::stderr().is_terminal();
    let draw = |canvas| ProgressDrawTarget::term_like_with_hz(Box::new(canvas), HZ);
    let target = match wanted {
        Progress::None | Progress::Json => ProgressDrawTarget::hidden(),
        // A bar that is asked for by name is drawn whatever else is asked for.
        Progress::Auto if quiet => ProgressDrawTarget::hidden(),
        Progress::Auto | Progress::Bar if terminal => draw(Canvas::Terminal(Term::buffered_stderr())),
        Progress::Auto => ProgressDrawTarget::hidden(),
        Progress::Bar => draw(Canvas::Plain),
    };
    let template = if total.is_some() { TEMPLATE } else { OPEN_TEMPLATE };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(total, target).with_style(style.progress_chars("=> "))
}

/// What the bar is drawn on: lines of a terminal that are narrower than it, or a file or pipe that a bar was asked for all the same.
#[derive(Debug)]
enum Canvas {
    Terminal(Term),
    /// Overwritten by a carriage return, without cursor codes.
    Plain,
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        match self {
            Canvas::Terminal(term) => TermLike::width(term).saturating_sub(MARGIN).max(1),
            Canvas::Plain => 80,
        }
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.on_terminal(|term| term.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.on_terminal(|term| term.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.on_terminal(|term| term.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.on_terminal(|term| term.move_cursor_left(n))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        match self {
            Canvas::Terminal(term) => term.write_line(line),
            Canvas::Plain => writeln!(io::stderr().lock(), "{line}"),
        }
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        match self {
            Canvas::Terminal(term) => TermLike::write_str(term, text),
            Canvas::Plain => io::stderr().lock().write_all(text.as_bytes()),
        }
    }

    fn clear_line(&self) -> io::Result<()> {
        match self {
            Canvas::Terminal(term) => term.clear_line(),
            Canvas::Plain => self.write_str(&format!("\r{}\r", " ".repeat(self.width().into()))),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            Canvas::Terminal(term) => term.flush(),
            Canvas::Plain => io::stderr().lock().flush(),
        }
    }
}

impl Canvas {
    fn on_terminal(&self, act: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        match self {
            Canvas::Terminal(term) => act(term),
            Canvas::Plain => Ok(()),
        }
    }
}
