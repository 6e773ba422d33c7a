//! A disk's map as a picture: lines of cells, each one stretch of the disk. A function of what it is given: it knows no terminal.

use std::fmt::Write as _;
use std::ops::Range;

use super::show;

/// Lines of cells at most: with those of the partitions, and what stands around them, they fit a terminal of 24 lines.
const LINES: u64 = 8;
/// Columns in front of the cells, where a line's first byte stands.
const MARGIN: usize = 11;
/// The narrowest line of cells: below that a terminal wraps it.
const NARROWEST: usize = 16;
/// Bytes of a sector: no cell is smaller.
const SECTOR: u64 = 512;

/// What a stretch is, as the picture tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Data,
    Zero,
    Hole,
    Lost,
}

/// Bytes of each ink.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    pub data: u64,
    pub zero: u64,
    pub hole: u64,
    pub lost: u64,
}

impl Shares {
    fn add(&mut self, ink: Ink, bytes: u64) {
        let share = match ink {
            Ink::Data => &mut self.data,
            Ink::Zero => &mut self.zero,
            Ink::Hole => &mut self.hole,
            Ink::Lost => &mut self.lost,
        };
        *share = share.saturating_add(bytes);
    }

    /// What is lost shows before all else, and the least data before what is none.
    fn glyph(&self) -> char {
        let all = self.data + self.zero + self.hole;
        match self {
            Shares { lost: 1.., .. } => '!',
            Shares { data: 1.., .. } if self.data == all => '#',
            Shares { data: 1.., .. } if self.data >= all - self.data => '+',
            Shares { data: 1.., .. } => '-',
            Shares { zero, hole, .. } if zero > hole => '0',
            _ => '.',
        }
    }
}

/// A partition to be marked.
pub struct Mark {
    pub number: u32,
    pub bytes: Range<u64>,
    /// What stands beside its number in the list.
    pub text: String,
}

/// The cells of a disk.
pub struct Picture {
    size: u64,
    columns: usize,
    /// Bytes of a cell.
    cell: u64,
    cells: Vec<Shares>,
    all: Shares,
}

impl Picture {
    /// Of a disk of `size` bytes, in a terminal of `width` columns.
    pub fn new(size: u64, width: usize) -> Picture {
        let columns = width.saturating_sub(MARGIN + 1).max(NARROWEST);
        let most = LINES * columns as u64;
        let cell = size.div_ceil(most).next_multiple_of(SECTOR).max(SECTOR);
        let count = usize::try_from(size.div_ceil(cell)).unwrap_or(0);
        Picture { size, columns, cell, cells: vec![Shares::default(); count], all: Shares::default() }
    }

    /// A stretch of the disk. All stretches together take as many steps as there are of both.
    pub fn add(&mut self, bytes: &Range<u64>, ink: Ink) {
        self.all.add(ink, bytes.end.saturating_sub(bytes.start));
        let mut at = bytes.start;
        while at < bytes.end {
            let index = at / self.cell;
            let end = (index + 1).saturating_mul(self.cell).min(bytes.end);
            if let Some(cell) = usize::try_from(index).ok().and_then(|index| self.cells.get_mut(index)) {
                cell.add(ink, end - at);
            }
            at = end;
        }
    }

    /// The picture, its legend and the partitions; in colour if that is wanted.
    pub fn draw(&self, marks: &[Mark], colour: bool) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        for (n, line) in self.cells.chunks(self.columns).enumerate() {
            let first = (n * self.columns) as u64;
            let _ = write!(out, "{:>width$} ", show::size(first * self.cell), width = MARGIN - 1);
            paint(&mut out, &line.iter().map(Shares::glyph).collect::<String>(), colour);
            out.push('\n');
            let ruler = self.ruler(first..first + line.len() as u64, marks);
            if !ruler.is_empty() {
                let _ = writeln!(out, "{:MARGIN$}{ruler}", "");
            }
        }
        let _ = writeln!(out, "{:MARGIN$}# data  + half or more  - less  0 zeroes  . hole  ! lost", "");
        let Shares { data, zero, hole, lost } = self.all;
        let [data, zero, hole] = [data, zero, hole].map(show::size);
        let lost = if lost > 0 { format!(", lost {}", show::size(lost)) } else { String::new() };
        let _ = writeln!(
            out,
            "{:MARGIN$}a cell is {}: data {data}, zeroes {zero}, holes {hole}{lost}",
            "",
            show::size(self.cell)
        );
        for mark in marks {
            let _ = writeln!(out, "{:>width$} {}", mark.number, show::escape(&mark.text), width = MARGIN - 1);
        }
        out
    }

    /// The partitions under a line of cells: each one's number where it begins, and where the line does.
    fn ruler(&self, cells: Range<u64>, marks: &[Mark]) -> String {
        let mut line = vec![' '; usize::try_from(cells.end - cells.start).unwrap_or(0)];
        for mark in marks {
            let end = mark.bytes.end.min(self.size).div_ceil(self.cell).min(cells.end);
            let start = (mark.bytes.start / self.cell).max(cells.start);
            if start >= end {
                continue;
            }
            let places = (start - cells.start) as usize..(end - cells.start) as usize;
            let Some(part) = line.get_mut(places) else { continue };
            // Two in one cell: the mark of both, and the number behind it.
            let shared = part.first().is_some_and(|c| *c != ' ');
            let text = if shared { format!("*{}", mark.number) } else { mark.number.to_string() };
            // Half a number is another one.
            let text = if text.len() > part.len() { "*".to_string() } else { text };
            let text = text.chars().chain(std::iter::repeat('='));
            part.iter_mut().zip(text).for_each(|(place, c)| *place = c);
        }
        line.into_iter().collect::<String>().trim_end().to_string()
    }
}

/// A line of cells, stretches of one sort in their colour.
fn paint(out: &mut String, line: &str, colour: bool) {
    let code = |glyph: char| match glyph {
        '#' | '+' | '-' => "36",
        '!' => "1;31",
        '0' => "33",
        _ => "2",
    };
    let mut now = "";
    for glyph in line.chars() {
        if colour && code(glyph) != now {
            now = code(glyph);
            let _ = write!(out, "\x1b[0;{now}m");
        }
        out.push(glyph);
    }
    if colour {
        out.push_str("\x1b[0m");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32, bytes: Range<u64>) -> Mark {
        Mark { number, bytes, text: format!("the {number}.") }
    }

    #[test]
    fn a_cell_shows_its_share_of_data() {
        for (shares, glyph) in [
            (Shares { data: 8, ..Shares::default() }, '#'),
            (Shares { data: 4, hole: 4, ..Shares::default() }, '+'),
            (Shares { data: 3, hole: 5, ..Shares::default() }, '-'),
            (Shares { data: 1, zero: 1 << 60, ..Shares::default() }, '-'),
            (Shares { zero: 5, hole: 3, ..Shares::default() }, '0'),
            (Shares { zero: 3, hole: 3, ..Shares::default() }, '.'),
            (Shares { data: 1 << 60, lost: 1, ..Shares::default() }, '!'),
        ] {
            assert_eq!(shares.glyph(), glyph, "{shares:?}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_byte_of_data_is_invisible() {
        for width in [20, 40, 80, 200, 500] {
            for size in [512u64, 1 << 20, 64 << 20, (40 << 30) + 512, 2 << 40, 62 << 40] {
                let mut picture = Picture::new(size, width);
                picture.add(&(0..size - 512), Ink::Hole);
                picture.add(&(size - 512..size), Ink::Data);
                let text = picture.draw(&[], false);
                let cells: Vec<&str> = text.lines().take_while(|line| !line.contains("# data")).collect();
                assert!(cells.len() <= 8 && !cells.is_empty(), "{width} {size}: {}", cells.len());
                let wide = width.max(MARGIN + 1 + NARROWEST);
                assert!(cells.iter().all(|line| line.len() < wide), "{width} {size}: {text}");
                let all: String = cells.iter().map(|line| &line[MARGIN..]).collect();
                assert_eq!(all.len() as u64, size.div_ceil(picture.cell));
                assert!(all.ends_with(['#', '+', '-']), "{width} {size}: {text}");
                assert!(all[..all.len() - 1].chars().all(|c| c == '.'));
            }
        }
    }

    #[test]
    fn eighty_and_two_hundred_columns_show_the_same_disk() {
        let drawn = |width| {
            let mut picture = Picture::new(64 << 20, width);
            picture.add(&(0..16 << 20), Ink::Data);
            picture.add(&(16 << 20..32 << 20), Ink::Zero);
            picture.add(&(32 << 20..48 << 20), Ink::Hole);
            picture.add(&(48 << 20..64 << 20), Ink::Lost);
            picture.draw(&[mark(1, 1 << 20..16 << 20), mark(12, 32 << 20..64 << 20)], false)
        };
        for width in [80usize, 200] {
            let text = drawn(width);
            let columns = width - MARGIN - 1;
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(&lines[0][..MARGIN + 3], "   0 bytes ###", "{text}");
            assert_eq!(lines[0].len(), MARGIN + columns);
            // A line is an eighth of the disk: 8 MiB, give or take the rounding of a cell.
            for (glyph, count) in [('#', 2), ('0', 2), ('.', 2), ('!', 2)] {
                let of_cells = lines.iter().filter(|line| line[..MARGIN].contains(['B', 'b']));
                let cells: usize = of_cells.map(|line| line[MARGIN..].matches(glyph).count()).sum();
                let wanted = count * columns;
                assert!(cells.abs_diff(wanted) <= 4, "{glyph} {cells} {wanted}\n{text}");
            }
            assert!(lines[1].trim_start().starts_with("1=="), "{text}");
            assert!(text.contains("12==") && text.contains("\n        12 the 12.\n"), "{text}");
        }
    }

    #[test]
    fn partitions_in_one_cell_are_marked_as_several_and_one_outside_not_at_all() {
        let mut picture = Picture::new(1 << 40, 80);
        picture.add(&(0..1 << 40), Ink::Hole);
        let text = picture.draw(&[mark(1, 512..1024), mark(2, 1024..2048), mark(3, 2 << 40..3 << 40)], false);
        assert!(text.lines().nth(1).is_some_and(|line| line.trim() == "*"), "{text}");
    }

    #[test]
    fn colour_changes_nothing_but_the_colour() {
        let mut picture = Picture::new(64 << 20, 80);
        picture.add(&(0..1 << 20), Ink::Data);
        picture.add(&(1 << 20..64 << 20), Ink::Hole);
        let (plain, coloured) = (picture.draw(&[], false), picture.draw(&[], true));
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[0;36m#"));
        let mut bare = String::new();
        let mut parts = coloured.split('\x1b');
        bare.push_str(parts.next().unwrap());
        parts.for_each(|part| bare.push_str(part.split_once('m').unwrap().1));
        assert_eq!(bare, plain);
    }
}
