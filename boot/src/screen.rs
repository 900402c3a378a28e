//! What a person in front of the machine reads: a screen dump's cells compared with every glyph of the kernel's font.

use std::collections::HashMap;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
const CELL: (usize, usize) = (get_raster_width(WEIGHT, HEIGHT), HEIGHT.val());

const TAB: usize = 8;

/// The text on a screen.
pub(crate) struct Screen {
    pub(crate) columns: usize,
    /// Every row, without the blanks at its end; what is no glyph of the font is `\u{fffd}`.
    pub(crate) rows: Vec<String>,
}

impl Screen {
    /// Reads a picture as QEMU's `screendump` writes it: PPM, three bytes a pixel.
    pub(crate) fn read(ppm: &[u8]) -> Option<Screen> {
        let mut fields = ppm.splitn(4, |byte| byte.is_ascii_whitespace());
        let mut field = || fields.next().and_then(|field| str::from_utf8(field).ok());
        let (magic, width, height) = (field()?, field()?.parse::<usize>().ok()?, field()?.parse::<usize>().ok()?);
        let pixels = fields.next()?.strip_prefix(b"255\n")?;
        if magic != "P6" || pixels.len() != width.checked_mul(height)?.checked_mul(3)? {
            return None;
        }
        // Colour tells who speaks; the brightest part is the glyph.
        let light = |x: usize, y: usize| pixels[3 * (y * width + x)..][..3].iter().copied().max().unwrap_or(0);
        let glyph = |c| Some((get_raster(c, WEIGHT, HEIGHT)?.pixels().to_vec(), c));
        let glyphs: HashMap<Vec<u8>, char> = (' '..='~').filter_map(glyph).collect();
        let columns = width / CELL.0;
        let cell = |column: usize, row: usize| {
            let lines = (0..CELL.1).map(|y| row * CELL.1 + y);
            let pixels = lines.flat_map(|y| (0..CELL.0).map(move |x| light(column * CELL.0 + x, y)));
            glyphs.get(&pixels.collect::<Vec<u8>>()).copied().unwrap_or('\u{fffd}')
        };
        let row = |row| (0..columns).map(|column| cell(column, row)).collect::<String>().trim_end().to_owned();
        Some(Screen { columns, rows: (0..height / CELL.1).map(row).collect() })
    }

    /// What is wrong, if the screen does not end with the end of this text, wrapped at its right edge, and a blank row.
    pub(crate) fn differs(&self, text: &str) -> Option<String> {
        let mut expected: Vec<String> = Vec::new();
        for line in text.split('\n') {
            let line = line.chars().fold(Vec::new(), |mut line, c| {
                let width = if c == '\t' { TAB - line.len() % TAB } else { 1 };
                line.extend(std::iter::repeat_n(if c == '\t' { ' ' } else { c }, width));
                line
            });
            let pieces = line.chunks(self.columns).map(|piece| piece.iter().collect::<String>().trim_end().to_owned());
            expected.extend(if line.is_empty() { vec![String::new()] } else { pieces.collect() });
        }
        expected.resize(expected.len().max(self.rows.len()), String::new());
        let expected = &expected[expected.len() - self.rows.len()..];
        let odd = self.rows.iter().zip(expected).position(|(seen, expected)| seen != expected)?;
        Some(format!("row {odd} of the screen is\n    {}\ninstead of\n    {}", self.rows[odd], expected[odd]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of so many columns with these rows.
    fn picture(columns: usize, rows: &[&str]) -> Vec<u8> {
        let (width, height) = (columns * CELL.0 + 2, rows.len() * CELL.1 + 1);
        let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let character = rows.get(y / CELL.1).and_then(|row| row.chars().nth(x / CELL.0)).unwrap_or(' ');
            let glyph = get_raster(character, WEIGHT, HEIGHT).expect("ASCII");
            let light = glyph.pixel(x % CELL.0, y % CELL.1).unwrap_or(0);
            ppm.extend([light, light / 2, 0]);
        }
        ppm
    }

    #[test]
    fn text_is_read_off_a_picture() {
        let screen = Screen::read(&picture(12, &["Hello, world", "", "  {0x2a}"])).expect("a picture");
        assert_eq!(
            (screen.columns, &*screen.rows),
            (12, &["Hello, world".to_owned(), "".into(), "  {0x2a}".into()][..])
        );
        let mut spoilt = picture(12, &["Hello, world"]);
        let last = spoilt.len() - 3 * (12 * CELL.0 + 2) * 5 - 40;
        spoilt[last] ^= 0x55;
        assert!(Screen::read(&spoilt).is_some_and(|screen| screen.rows[0].contains('\u{fffd}')));
        assert!(Screen::read(&spoilt[..last]).is_none() && Screen::read(b"P6 1").is_none());
    }

    #[test]
    fn a_screen_shows_the_end_of_a_text_and_nothing_else() {
        let screen = |rows: &[&str]| Screen::read(&picture(4, rows)).expect("a picture");
        assert_eq!(screen(&["abcd", "ef", "g", ""]).differs("x\nabcdef\ng\n"), None);
        assert_eq!(screen(&["a", "", "", ""]).differs("a\n"), None);
        let tabs = Screen::read(&picture(12, &["ab      c", "        d", ""])).expect("a picture");
        assert_eq!(tabs.differs("ab\tc\n\td\n"), None);
        assert!(screen(&["abcd", "ef", "h", ""]).differs("x\nabcdef\ng\n").is_some());
        assert!(screen(&["", "", "", ""]).differs("a\n").is_some());
    }
}
