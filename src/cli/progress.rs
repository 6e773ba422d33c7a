//! The progress bar, on stderr.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::args::Progress;

/// Redraws a second.
const HZ: u8 = 10;
/// Guest bytes done and total, percent, rate, time left.
const TEMPLATE: &str = "{wide_bar} {bytes}/{total_bytes} {percent}% {binary_bytes_per_sec} {eta} left";

/// A bar over `total` guest bytes, or none.
pub fn bar(wanted: Progress, quiet: bool, total: u64) -> ProgressBar {
    let terminal = io::stderr().is_terminal();
    let target = match wanted {
        Progress::None => ProgressDrawTarget::hidden(),
        // A bar that is asked for by name is drawn whatever else is asked for.
        Progress::Auto if quiet => ProgressDrawTarget::hidden(),
        Progress::Auto | Progress::Bar if terminal => ProgressDrawTarget::stderr_with_hz(HZ),
        Progress::Auto => ProgressDrawTarget::hidden(),
        Progress::Bar => ProgressDrawTarget::term_like_with_hz(Box::new(Plain), HZ),
    };
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("=> "))
}

/// Where stderr is no terminal and a bar was asked for all the same: it is overwritten by a carriage return, without cursor codes.
#[derive(Debug)]
struct Plain;

impl TermLike for Plain {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{line}")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        io::stderr().lock().write_all(text.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str(&format!("\r{}\r", " ".repeat(self.width().into())))
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
