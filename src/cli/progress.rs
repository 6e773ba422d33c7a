//! The progress bar, on stderr.

use std::io::{self, IsTerminal, Write};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::args::Progress;

/// Redraws a second.
const HZ: u8 = 10;
/// Guest bytes done and total, percent, rate, time left.
const TEMPLATE: &str = "[{bar:24}] {bytes}/{total_bytes} {percent}% {binary_bytes_per_sec} {eta} left";
/// Where the total is not known.
const OPEN_TEMPLATE: &str = "{spinner} {bytes} {binary_bytes_per_sec}";
/// Columns that stay free, so that the ^C of an interrupted run does not wrap into a line that is not cleared.
const MARGIN: u16 = 4;

/// A bar over `total` guest bytes, where that is known; or none.
pub fn bar(wanted: Progress, quiet: bool, total: Option<u64>) -> ProgressBar {
    let terminal = io::stderr().is_terminal();
    let draw = |canvas| ProgressDrawTarget::term_like_with_hz(Box::new(canvas), HZ);
    let target = match wanted {
        Progress::None => ProgressDrawTarget::hidden(),
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
