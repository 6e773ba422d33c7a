//! Text for people: sizes, rates, messages. Text from files is escaped here before it reaches a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use vdconv::fault::Fault;
use vdconv::image::Lost;

use super::STDOUT;

/// Bytes in KiB, MiB, GiB, TiB with one digit behind the point.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    // What would be printed as 1024.0 is one of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bytes a second, in decimal units as disks and networks have them.
pub fn rate(bytes: u64, seconds: f64) -> String {
    let rate = bytes as f64 / seconds.max(1e-9);
    match rate {
        _ if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        _ if rate >= 1e6 => format!("{:.0} MB/s", rate / 1e6),
        _ => format!("{:.0} kB/s", rate / 1e3),
    }
}

/// What deceives the eye becomes visible.
pub fn escape(text: &str) -> Cow<'_, str> {
    // The most of what is shown, a line of a map millions of times, has nothing of it.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match deceives(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, marks that turn the direction of text, and those that cannot be seen: what Unicode calls
/// `Default_Ignorable_Code_Point`, the separators of lines, and the marks of annotations.
pub fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}')
        || matches!(c, '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(c, '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}')
        || matches!(c, '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}')
        || matches!(c, '\u{E0000}'..='\u{E0FFF}')
}

/// Writes to stderr; a closed stderr is nobody's concern.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Text for people on standard output: what was asked for.
pub fn print(text: &str) -> Result<(), Fault> {
    print_bytes(text.as_bytes())
}

/// The same of what need not be text.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(stdout)
}

/// The fault of a standard output that takes no more.
pub fn stdout(error: std::io::Error) -> Fault {
    Fault::io(STDOUT, "cannot write", error)
}

/// A line for people, unless they asked for none.
pub fn note(line: &str) {
    say(&escape(line));
}

/// `text` in colour, where stderr is a terminal and NO_COLOR is not set.
fn colour(code: &str, text: &str) -> String {
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// The error, and what to do.
pub fn error(fault: &Fault) {
    say(&format!("{} {}", colour("1;31", "vdconv:"), escape(&fault.to_string())));
    hint(fault);
}

fn hint(fault: &Fault) {
    if !fault.hint().is_empty() {
        say(&format!("{} {}", colour("1", "hint:"), escape(fault.hint())));
    }
}

/// A range that was lost: no warning, told to everybody.
pub fn lost(lost: &Lost) {
    let Lost { guest, fault } = lost;
    let range =
        format!("bytes {} to {} ({} bytes, zero in the output)", guest.start, guest.end - 1, guest.end - guest.start);
    say(&format!("vdconv: {} {}", colour("1;31", "lost:"), escape(&format!("{range}: {fault}"))));
}

/// Warnings, each with what to do.
pub fn warnings(warnings: &[Fault]) {
    for warning in warnings {
        say(&format!("vdconv: {} {}", colour("1;33", "warning:"), escape(&warning.to_string())));
        hint(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit_and_never_1024() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (40 << 30, "40.0 GiB"),
            (2040 << 30, "2.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn r13_hostile_text_is_escaped() {
        for c in "\u{ad}\u{34f}\u{115f}\u{180e}\u{200b}\u{2028}\u{3164}\u{fe0f}\u{feff}\u{fffb}\u{e0100}".chars() {
            assert_eq!(escape(&format!("<{c}>")), format!("<{}>", c.escape_default()));
        }
        assert_eq!(escape("a\x1b[31m\r\n\u{202e}b\u{9b}é"), "a\\u{1b}[31m\\r\\n\\u{202e}b\\u{9b}é");
    }
}
