//! A PNG as one raw sample, for the tool and the server alike: the same file gives the same numbers in both.
//!
//! Grey, palette and colour of 1 to 16 bits, interlaced or not, are read as 8 bits; what is transparent becomes black;
//! grey is the luma of ITU-R BT.601; gamma and colour profiles are not applied. A picture of another size than the
//! model's is scaled: each pixel is the mean of the area that it covers. It is read row by row, so that a small file
//! that unpacks into a huge picture costs time for at most [`MOST_PIXELS`] pixels, and no memory.

use std::io::Cursor;

use crate::preprocess::Schema;
use crate::problem::Problem;

/// Pixels of the largest picture that is read.
pub const MOST_PIXELS: u64 = 16 << 20;
/// Pixels of its longer side.
const LONGEST_SIDE: u32 = 1 << 14;

/// The raw sample that a PNG holds for a model that reads images of the schema's size.
///
/// # Errors
///
/// A model that reads no images, bytes that are no PNG, or a picture that is too large, or that shows nothing.
pub fn raw_from_png(bytes: &[u8], schema: &Schema) -> Result<Vec<f32>, Problem> {
    let Schema::Image {
        height,
        width,
        channels,
    } = *schema
    else {
        return Err(
            Problem::new("this is an image, and the model reads a table").hint("give CSV with a header, or JSON")
        );
    };
    let unreadable = |error: png::DecodingError| Problem::new(format!("the PNG cannot be read: {error}"));
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    // They say nothing of the pixels, and can unpack into far more than they are.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (from, interlaced) = {
        let info = decoder.read_header_info().map_err(unreadable)?;
        ((info.width, info.height), info.interlaced)
    };
    if u64::from(from.0) * u64::from(from.1) > MOST_PIXELS || from.0.max(from.1) > LONGEST_SIDE {
        return Err(Problem::new(format!(
            "the PNG has {}x{} pixels, and up to {MOST_PIXELS} are read, {LONGEST_SIDE} a side",
            from.0, from.1
        ))
        .hint(format!("scale it down: the model reads {width}x{height}")));
    }
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let samples = reader.output_color_type().0.samples();
    let mut scaler = Scaler::new((from.0 as usize, from.1 as usize), (width, height), channels);
    let mut pixel = vec![0.0; channels];
    let mut first = None;
    let mut even = true;
    for (y, start, step) in rows(from.0 as usize, from.1 as usize, interlaced) {
        let Some(row) = reader.next_row().map_err(unreadable)? else {
            return Err(Problem::new("the PNG ends before its last row"));
        };
        for (index, source) in row.data().chunks_exact(samples).enumerate() {
            convert(source, &mut pixel);
            even = even && *first.get_or_insert_with(|| pixel.clone()) == pixel;
            scaler.add(start + index * step, &pixel);
        }
        scaler.end_row(y);
    }
    // The rest of the file, so that one that was cut off is not taken for a whole one.
    reader.finish().map_err(unreadable)?;
    if even && samples.is_multiple_of(2) {
        return Err(
            Problem::new("the image is the same everywhere once what is transparent is black")
                .hint("draw in white, or put a white ground behind black ink and invert it"),
        );
    }
    Ok(scaler.finish())
}

/// The rows of a PNG in the order of its file: the place of each, of its first pixel, and the step to the next pixel.
fn rows(width: usize, height: usize, interlaced: bool) -> impl Iterator<Item = (usize, usize, usize)> {
    /// First column and step, first row and step of each pass of Adam7.
    const PASSES: [[usize; 4]; 7] = [
        [0, 8, 0, 8],
        [4, 8, 0, 8],
        [0, 4, 4, 8],
        [2, 4, 0, 4],
        [0, 2, 2, 4],
        [1, 2, 0, 2],
        [0, 1, 1, 2],
    ];
    const WHOLE: [[usize; 4]; 1] = [[0, 1, 0, 1]];
    let passes: &'static [[usize; 4]] = if interlaced { &PASSES } else { &WHOLE };
    passes
        .iter()
        .filter(move |[x, ..]| *x < width)
        .flat_map(move |[x, x_step, y, y_step]| (*y..height).step_by(*y_step).map(|y| (y, *x, *x_step)))
}

/// Writes a pixel in as many channels as the model reads.
fn convert(source: &[u8], pixel: &mut [f32]) {
    let value = |index: usize| f32::from(source[index]);
    let (colour, alpha) = match source.len() {
        1 => ([value(0); 3], 255.0),
        2 => ([value(0); 3], value(1)),
        3 => ([value(0), value(1), value(2)], 255.0),
        _ => ([value(0), value(1), value(2)], value(3)),
    };
    let colour = colour.map(|part| part * alpha / 255.0);
    match pixel {
        [grey] => {
            *grey = if source.len() < 3 {
                colour[0]
            } else {
                0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
            };
        }
        pixel => pixel.copy_from_slice(&colour[..pixel.len()]),
    }
}

/// Sums the source pixels, in any order, into the target pixels that cover them.
struct Scaler {
    across: Axis,
    down: Axis,
    channels: usize,
    row: Vec<f32>,
    sums: Vec<f32>,
}

/// For each source cell the target cells that cover it, each with the share of the source cell.
struct Axis {
    covers: Vec<Vec<(usize, f32)>>,
    targets: usize,
}

impl Scaler {
    fn new(from: (usize, usize), to: (usize, usize), channels: usize) -> Self {
        Self {
            across: Axis::new(from.0, to.0),
            down: Axis::new(from.1, to.1),
            channels,
            row: vec![0.0; to.0 * channels],
            sums: vec![0.0; to.0 * to.1 * channels],
        }
    }

    /// Adds a pixel of the current row.
    fn add(&mut self, x: usize, pixel: &[f32]) {
        for (target, share) in self.across.covers.get(x).into_iter().flatten() {
            let sums = &mut self.row[target * self.channels..];
            for (sum, part) in sums.iter_mut().zip(pixel) {
                *sum += part * share;
            }
        }
    }

    /// Adds the current row, which is row `y` of the picture, and begins another.
    fn end_row(&mut self, y: usize) {
        for (target, share) in &self.down.covers[y] {
            let sums = &mut self.sums[target * self.row.len()..];
            for (sum, part) in sums.iter_mut().zip(&self.row) {
                *sum += part * share;
            }
        }
        self.row.fill(0.0);
    }

    /// The means.
    fn finish(mut self) -> Vec<f32> {
        let area = self.across.cells_per_target() * self.down.cells_per_target();
        for sum in &mut self.sums {
            // Rounding can leave white just above 255.
            *sum = (*sum / area).min(255.0);
        }
        self.sums
    }
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let scale = to as f64 / from as f64;
        let covers = (0..from).map(|cell| {
            let (start, end) = (cell as f64 * scale, (cell + 1) as f64 * scale);
            let last = (end.ceil() as usize).min(to);
            (start as usize..last)
                .map(|target| {
                    let covered = end.min((target + 1) as f64) - start.max(target as f64);
                    (target, (covered / scale) as f32)
                })
                .collect()
        });
        Self {
            covers: covers.collect(),
            targets: to,
        }
    }

    fn cells_per_target(&self) -> f32 {
        (self.covers.len() as f64 / self.targets as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use png::{BitDepth, ColorType};

    fn grey(width: usize, height: usize) -> Schema {
        Schema::Image {
            height,
            width,
            channels: 1,
        }
    }

    fn encode(size: (u32, u32), colour: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![0, 0, 0, 255, 255, 255, 10, 20, 30]);
        }
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(data))
            .expect("encode");
        bytes
    }

    fn read(bytes: &[u8], schema: &Schema) -> Result<Vec<f32>, String> {
        raw_from_png(bytes, schema).map_err(|problem| problem.to_string())
    }

    #[test]
    fn every_kind_of_png_is_read() {
        let is = |colour, depth, data: &[u8], expected: [f32; 2]| {
            let read = read(&encode((2, 1), colour, depth, data), &grey(2, 1)).expect("read");
            for (got, expected) in read.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-3, "{colour:?} {depth:?}: {read:?}");
            }
        };
        is(ColorType::Grayscale, BitDepth::Eight, &[7, 200], [7.0, 200.0]);
        is(ColorType::Grayscale, BitDepth::One, &[0b0100_0000], [0.0, 255.0]);
        is(
            ColorType::Grayscale,
            BitDepth::Sixteen,
            &[9, 99, 255, 255],
            [9.0, 255.0],
        );
        is(
            ColorType::GrayscaleAlpha,
            BitDepth::Eight,
            &[200, 255, 200, 51],
            [200.0, 40.0],
        );
        is(ColorType::Rgb, BitDepth::Eight, &[100, 0, 0, 0, 100, 100], [29.9, 70.1]);
        is(
            ColorType::Rgba,
            BitDepth::Eight,
            &[50, 50, 50, 255, 255, 255, 255, 0],
            [50.0, 0.0],
        );
        is(
            ColorType::Rgba,
            BitDepth::Sixteen,
            &[[80; 8], [255; 8]].concat(),
            [25.098, 255.0],
        );
        is(ColorType::Indexed, BitDepth::Eight, &[1, 2], [255.0, 18.15]);
        let schema = Schema::Image {
            height: 1,
            width: 1,
            channels: 3,
        };
        let colour = encode((1, 1), ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]);
        assert_eq!(read(&colour, &schema), Ok(vec![1.0, 2.0, 3.0]));
    }

    #[test]
    fn another_size_is_scaled_by_area() {
        let picture = |size, data: &[u8]| encode(size, ColorType::Grayscale, BitDepth::Eight, data);
        let smaller = picture((4, 2), &[0, 100, 200, 200, 10, 30, 0, 0]);
        assert_eq!(read(&smaller, &grey(2, 2)), Ok(vec![50.0, 200.0, 20.0, 0.0]));
        let larger = picture((1, 2), &[10, 20]);
        assert_eq!(read(&larger, &grey(2, 4)), Ok([[10.0; 4], [20.0; 4]].concat()));
        // Three cells onto two: each covers one and a half.
        let uneven = picture((3, 1), &[30, 60, 90]);
        assert_eq!(read(&uneven, &grey(2, 1)), Ok(vec![40.0, 80.0]));
        let white = picture((13, 11), &[255; 143]);
        let scaled = read(&white, &grey(7, 5)).expect("read");
        assert_eq!(scaled.len(), 35);
        assert!(
            scaled.iter().all(|value| (254.99..=255.0).contains(value)),
            "{scaled:?}"
        );
    }

    /// Rows in the order of an interlaced file reach every pixel once.
    #[test]
    fn an_interlaced_picture_has_every_pixel_once() {
        for (width, height) in [(1, 1), (3, 2), (4, 4), (5, 9), (8, 8), (28, 28)] {
            let mut seen = vec![0; width * height];
            for (y, start, step) in rows(width, height, true) {
                for x in (start..width).step_by(step) {
                    seen[y * width + x] += 1;
                }
            }
            assert_eq!(seen, vec![1; width * height], "{width}x{height}");
        }
    }

    #[test]
    fn what_is_no_picture_for_the_model_is_told() {
        let error = |bytes: &[u8]| read(bytes, &grey(2, 2)).expect_err("refused");
        let good = encode((2, 2), ColorType::Grayscale, BitDepth::Eight, &[1, 2, 3, 4]);
        assert!(error(b"[1, 2]").starts_with("the PNG cannot be read: "));
        for end in [9, 30, 45, good.len() - 13, good.len() - 1] {
            assert!(error(&good[..end]).contains("PNG"), "{end}");
        }
        // Black ink on transparency, as many programs save it.
        let black = encode((2, 1), ColorType::Rgba, BitDepth::Eight, &[0, 0, 0, 0, 0, 0, 0, 255]);
        assert!(error(&black).contains("the same everywhere"));
        let table = Schema::Table { columns: Vec::new() };
        assert!(read(&good, &table).expect_err("a table").contains("reads a table"));
    }

    #[test]
    fn a_picture_that_would_unpack_into_gigabytes_is_refused_by_its_header() {
        let mut bytes = encode((2, 2), ColorType::Grayscale, BitDepth::Eight, &[1, 2, 3, 4]);
        for (width, height) in [(60_000_u32, 60_000_u32), (1, 16_385), (4097, 4096)] {
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            // The check sum of the header, so that its size is what is refused.
            let crc = crc32(&bytes[12..29]).to_be_bytes();
            bytes[29..33].copy_from_slice(&crc);
            let error = read(&bytes, &grey(2, 2)).expect_err("refused");
            assert!(
                error.starts_with(&format!("the PNG has {width}x{height} pixels")),
                "{error}"
            );
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
