//! Text on the screen, for a machine whose console nobody reads: booted from a USB stick, without a host behind it.
//!
//! The firmware's framebuffer is memory that the screen shows. It is written and never read (reading takes a microsecond a word
//! on a real machine): what stands where is kept in cells, and scrolling draws only the cells that change.
//!
//! Any context may write, as to the console, whose lock is around this; who passes that lock by draws words over others, no more:
//! all state is atomic.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

use bootloader_api::info::{FrameBufferInfo, PixelFormat};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;
const GLYPH_WIDTH: usize = get_raster_width(WEIGHT, HEIGHT);
const GLYPH_HEIGHT: usize = HEIGHT.val();

/// Screens of at least twice this width get glyphs of twice the size, and so on.
const USUAL_WIDTH: usize = 1280;
const MOST_CELLS: usize = 1 << 14;
const TAB: usize = 8;

const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;

/// Set in a cell whose character is the kernel's rather than the program's.
const REPORT: u8 = 0x80;
const PROGRAM_COLOUR: [u8; 3] = [255, 255, 255];
const REPORT_COLOUR: [u8; 3] = [255, 200, 110];

/// A framebuffer and the text on it.
pub struct Screen {
    pixels: usize,
    info: FrameBufferInfo,
    scale: usize,
    columns: usize,
    rows: usize,
    column: AtomicUsize,
    row: AtomicUsize,
    is_report: AtomicBool,
    cells: [AtomicU8; MOST_CELLS],
}

impl Screen {
    /// An empty, black screen.
    ///
    /// # Safety
    /// `info.byte_len` bytes at the address `pixels` are a framebuffer as `info` describes it, for ever, and nobody else's.
    pub unsafe fn new(pixels: usize, info: FrameBufferInfo) -> Screen {
        let scale = (info.width / USUAL_WIDTH).max(1);
        let columns = (info.width / (GLYPH_WIDTH * scale)).clamp(1, MOST_CELLS);
        let rows = (info.height / (GLYPH_HEIGHT * scale)).clamp(1, MOST_CELLS / columns);
        let screen = Screen {
            pixels,
            info,
            scale,
            columns,
            rows,
            column: AtomicUsize::new(0),
            row: AtomicUsize::new(0),
            is_report: AtomicBool::new(false),
            cells: [const { AtomicU8::new(b' ') }; MOST_CELLS],
        };
        for y in 0..info.height {
            (0..info.width).for_each(|x| screen.put(x, y, [0; 3]));
        }
        screen
    }

    /// Shows text as the console's wire carries it: between shift-out and shift-in it is the kernel's, and of another colour. What is
    /// not ASCII shows as question marks. A slow screen takes a second for a new line at its bottom: `alive` is called for each row that
    /// is drawn again.
    pub fn write(&self, bytes: &[u8], alive: &dyn Fn()) {
        for &byte in bytes {
            match byte {
                SHIFT_OUT | SHIFT_IN => self.is_report.store(byte == SHIFT_OUT, Relaxed),
                b'\n' => self.new_line(alive),
                b'\t' => (0..TAB - self.column.load(Relaxed) % TAB).for_each(|_| self.add(b' ', alive)),
                b' '..=b'~' => self.add(byte, alive),
                0xc0.. => self.add(b'?', alive),
                _ => {}
            }
        }
    }

    fn add(&self, character: u8, alive: &dyn Fn()) {
        if self.column.load(Relaxed) >= self.columns {
            self.new_line(alive);
        }
        let colour = if self.is_report.load(Relaxed) { REPORT } else { 0 };
        self.set(self.column.load(Relaxed), self.row.load(Relaxed), character | colour);
        self.column.fetch_add(1, Relaxed);
    }

    fn new_line(&self, alive: &dyn Fn()) {
        self.column.store(0, Relaxed);
        let row = self.row.load(Relaxed);
        if row + 1 < self.rows {
            return self.row.store(row + 1, Relaxed);
        }
        for cell in 0..self.columns * self.rows {
            let below = self.cells.get(cell + self.columns).filter(|_| cell / self.columns + 1 < self.rows);
            let character = below.map_or(b' ', |below| below.load(Relaxed));
            self.set(cell % self.columns, cell / self.columns, character);
            if cell % self.columns == 0 {
                alive();
            }
        }
    }

    fn set(&self, column: usize, row: usize, character: u8) {
        let Some(cell) = self.cells.get(row * self.columns + column) else { return };
        if cell.swap(character, Relaxed) == character {
            return;
        }
        let Some(glyph) = get_raster(char::from(character & !REPORT), WEIGHT, HEIGHT) else { return };
        let colour = if character & REPORT != 0 { REPORT_COLOUR } else { PROGRAM_COLOUR };
        for y in 0..GLYPH_HEIGHT * self.scale {
            for x in 0..GLYPH_WIDTH * self.scale {
                let light = glyph.pixel(x / self.scale, y / self.scale).unwrap_or(0);
                let (left, top) = (column * GLYPH_WIDTH * self.scale, row * GLYPH_HEIGHT * self.scale);
                self.put(left + x, top + y, colour.map(|part| (u32::from(part) * u32::from(light) / 255) as u8));
            }
        }
    }

    fn put(&self, x: usize, y: usize, [red, green, blue]: [u8; 3]) {
        let pixel = match self.info.pixel_format {
            PixelFormat::Rgb => [red, green, blue, 0],
            PixelFormat::Bgr => [blue, green, red, 0],
            PixelFormat::Unknown { red_position, green_position, blue_position } => {
                let parts = [(red, red_position), (green, green_position), (blue, blue_position)];
                let shifted = parts.map(|(part, position)| u32::from(part).checked_shl(position.into()).unwrap_or(0));
                shifted.into_iter().fold(0, |all, part| all | part).to_le_bytes()
            }
            _ => [red.max(green).max(blue); 4],
        };
        let width = self.info.bytes_per_pixel;
        let at = (y * self.info.stride + x) * width;
        if at + width > self.info.byte_len {
            return;
        }
        let place = core::ptr::with_exposed_provenance_mut::<u8>(self.pixels + at);
        if width == 4 {
            // SAFETY: inside the framebuffer (just checked), which `new` was promised. Volatile: the screen reads it.
            return unsafe { place.cast::<[u8; 4]>().write_volatile(pixel) };
        }
        for (offset, byte) in pixel.into_iter().enumerate().take(width) {
            // SAFETY: as above.
            unsafe { place.add(offset).write_volatile(byte) };
        }
    }
}

#[cfg(target_os = "none")]
pub(crate) use device::{open, write};

#[cfg(target_os = "none")]
mod device {
    use bootloader_api::info::FrameBufferInfo;
    use runtime::addr::Bytes;
    use spin::Once;

    use super::Screen;
    use crate::memory::{self, PhysicalAddress};
    use crate::watchdog;

    #[unsafe(link_section = ".bss.runtime")]
    static SCREEN: Once<Screen> = Once::new();

    /// From now on what the console says is on the screen too. At boot, once.
    pub(crate) fn open((at, info): (PhysicalAddress, FrameBufferInfo)) {
        let pixels = memory::map_device(at, Bytes(info.byte_len)).0;
        // SAFETY: just mapped, for us alone and for good, as the loader found it.
        SCREEN.call_once(|| unsafe { Screen::new(pixels, info) });
    }

    /// Shows what goes over the console's wire. Nothing, unless there is an open screen.
    pub(crate) fn write(bytes: &[u8]) {
        if let Some(screen) = SCREEN.get() {
            screen.write(bytes, &watchdog::feed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// What is on the pixels, row by row, found by comparing each cell with every glyph; `#` is none.
    fn seen(screen: &Screen) -> Vec<String> {
        let pixel = |x: usize, y: usize| {
            let at = screen.pixels + (y * screen.info.stride + x) * screen.info.bytes_per_pixel;
            let parts = (0..3).map(|part| {
                // SAFETY: inside the test's framebuffer, which outlives its screen.
                unsafe { core::ptr::with_exposed_provenance::<u8>(at + part).read_volatile() }
            });
            parts.max().unwrap_or(0)
        };
        let is = |character: u8, column: usize, row: usize| {
            let glyph = get_raster(char::from(character), WEIGHT, HEIGHT).expect("ASCII");
            let (left, top) = (column * GLYPH_WIDTH, row * GLYPH_HEIGHT);
            (0..GLYPH_HEIGHT).all(|y| (0..GLYPH_WIDTH).all(|x| glyph.pixel(x, y) == Some(pixel(left + x, top + y))))
        };
        let at = |column, row| (b' '..=b'~').find(|c| is(*c, column, row)).map_or('#', char::from);
        let line = |row| (0..screen.columns).map(|column| at(column, row)).collect::<String>();
        (0..screen.rows).map(|row| String::from(line(row).trim_end())).collect()
    }

    /// Room for 10 characters in 4 rows, in a larger framebuffer full of noise; the bytes behind it stay as they are.
    fn shown(text: &str, pixel_format: PixelFormat, bytes_per_pixel: usize) -> Vec<String> {
        shown_and_counted(text, pixel_format, bytes_per_pixel).0
    }

    /// The same, and how often the screen gave a sign of life.
    fn shown_and_counted(text: &str, pixel_format: PixelFormat, bytes_per_pixel: usize) -> (Vec<String>, usize) {
        let (width, height, stride) = (GLYPH_WIDTH * 10 + 3, GLYPH_HEIGHT * 4 + 5, GLYPH_WIDTH * 10 + 9);
        let byte_len = stride * height * bytes_per_pixel;
        let info = FrameBufferInfo { byte_len, width, height, pixel_format, bytes_per_pixel, stride };
        let mut memory = std::vec![0x5a; byte_len + 64];
        // SAFETY: `memory` has so many bytes, and outlives the screen.
        let screen = unsafe { Screen::new(memory.as_mut_ptr().expose_provenance(), info) };
        let signs = AtomicUsize::new(0);
        screen.write(text.as_bytes(), &|| _ = signs.fetch_add(1, Relaxed));
        let seen = seen(&screen);
        assert!(memory[byte_len..].iter().all(|byte| *byte == 0x5a));
        (seen, signs.into_inner())
    }

    #[test]
    fn text_wraps_at_the_right_and_scrolls_at_the_bottom() {
        let show = |text| shown(text, PixelFormat::Bgr, 4);
        assert_eq!(show("Tricolor!\nis here"), ["Tricolor!", "is here", "", ""]);
        assert_eq!(show("0123456789abc\n"), ["0123456789", "abc", "", ""]);
        assert_eq!(show("one\ntwo\nthree\nfour\nfive\nsix"), ["three", "four", "five", "six"]);
        assert_eq!(show("0123456789\nnext"), ["0123456789", "next", "", ""], "a full line is one line");
    }

    #[test]
    fn a_screen_that_scrolls_gives_a_sign_of_life_for_each_row() {
        let signs = |text| shown_and_counted(text, PixelFormat::Rgb, 4).1;
        assert_eq!((signs("1\n2\n3\n4"), signs("1\n2\n3\n4\n5\n6")), (0, 8));
    }

    #[test]
    fn control_characters_are_obeyed_or_left_out() {
        let show = |text| shown(text, PixelFormat::Rgb, 3);
        assert_eq!(show("\u{e}panic\u{f}\r\n\u{1b}a\tb"), ["panic", "a       b", "", ""]);
        assert_eq!(show("größe €"), ["gr??e ?", "", "", ""]);
    }

    #[test]
    fn every_pixel_format_shows_the_text() {
        let unknown = PixelFormat::Unknown { red_position: 8, green_position: 16, blue_position: 0 };
        for (format, bytes) in [(PixelFormat::Rgb, 4), (PixelFormat::Bgr, 3), (unknown, 4), (PixelFormat::U8, 4)] {
            assert_eq!(shown("~ Aa 09 \u{e}x", format, bytes)[0], "~ Aa 09 x", "{format:?}");
        }
    }
}
