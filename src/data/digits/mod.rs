//! Handwritten digits drawn by the program, the data source that needs no download.
//!
//! A digit is a style from the tables in `strokes`, bent by a random `hand` and inked by a random
//! pen in `raster`. The module holds no image, nor a template or an average taken from one: real
//! handwriting stays a fair judge of what is trained on these digits.

mod hand;
mod raster;
// A table, one stroke a line.
#[rustfmt::skip]
mod strokes;

use hand::Hand;
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_pcg::Pcg64Mcg;
use raster::Pen;
use rayon::prelude::*;
use strokes::{GLYPHS, Style};

/// Height and width of an image in pixels.
pub const SIDE: usize = 28;

/// Images of digits with their labels.
pub struct Digits {
    /// Grey values, 0 black to 255 white: `SIDE * SIDE` for each image, row-major, one image after
    /// another.
    pub pixels: Vec<u8>,
    /// The digit in each image, 0 to 9.
    pub labels: Vec<u8>,
}

/// Draws `count` digits, equally many of each, in an order shuffled by the seed.
///
/// The same seed gives the same bytes on any number of threads, and a smaller count gives the
/// beginning of a larger one.
pub fn draw(count: usize, seed: u64) -> Digits {
    let labels: Vec<u8> = (0..count).map(|index| label(seed, index)).collect();
    let mut pixels = vec![0; count * SIDE * SIDE];
    pixels
        .par_chunks_exact_mut(SIDE * SIDE)
        .zip(&labels)
        .enumerate()
        .for_each(|(index, (image, &label))| {
            let mut rng = stream(seed, Purpose::Image, index);
            let style = choose(GLYPHS[usize::from(label)], &mut rng);
            let lines = Hand::new(&mut rng).write(style, &mut rng);
            Pen::new(&mut rng).ink(lines, image, &mut rng);
        });
    Digits { pixels, labels }
}

/// What a stream of random numbers is for.
#[derive(Clone, Copy)]
enum Purpose {
    Image = 1,
    Order = 2,
}

/// The random numbers for the sample or group `index`: none depends on what was drawn before.
fn stream(seed: u64, purpose: Purpose, index: usize) -> Pcg64Mcg {
    // Two rounds of expansion: neighbouring seeds must not share samples.
    let base: u64 = Pcg64Mcg::seed_from_u64(seed ^ ((purpose as u64) << 56)).random();
    Pcg64Mcg::seed_from_u64(base.wrapping_add(index as u64))
}

/// The label of sample `index`: each run of ten samples is one permutation of the digits.
fn label(seed: u64, index: usize) -> u8 {
    let mut group = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    group.shuffle(&mut stream(seed, Purpose::Order, index / 10));
    group[index % 10]
}

fn choose(styles: &'static [Style], rng: &mut Pcg64Mcg) -> &'static Style {
    let total: u32 = styles.iter().map(|style| style.weight).sum();
    let mut ticket = rng.random_range(0..total);
    for style in styles {
        match ticket.checked_sub(style.weight) {
            Some(rest) => ticket = rest,
            None => return style,
        }
    }
    unreachable!("a ticket is below the sum of the weights")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_bytes_other_seed_other_bytes() {
        let (first, again, other) = (draw(100, 7), draw(100, 7), draw(100, 8));
        assert_eq!((&first.pixels, &first.labels), (&again.pixels, &again.labels));
        assert_ne!(first.pixels, other.pixels);
        assert_ne!(first.labels, other.labels);
    }

    #[test]
    fn a_smaller_count_is_the_beginning_of_a_larger_one() {
        let (small, large) = (draw(33, 7), draw(100, 7));
        assert_eq!(small.labels, large.labels[..33]);
        assert_eq!(small.pixels, large.pixels[..33 * SIDE * SIDE]);
    }

    #[test]
    fn labels_are_balanced() {
        let mut counts = [0; 10];
        for label in draw(500, 7).labels {
            counts[usize::from(label)] += 1;
        }
        assert_eq!(counts, [50; 10]);
    }

    #[test]
    fn every_image_has_ink_and_a_dark_border() {
        let digits = draw(500, 7);
        let (mut border_ink, mut border_area) = (0, 0);
        for (image, label) in digits.pixels.chunks(SIDE * SIDE).zip(&digits.labels) {
            let bright = image.iter().filter(|&&grey| grey > 127).count();
            assert!((15..400).contains(&bright), "a {label} with {bright} bright pixels");
            for (index, &grey) in image.iter().enumerate() {
                let (row, column) = (index / SIDE, index % SIDE);
                if [0, SIDE - 1].contains(&row) || [0, SIDE - 1].contains(&column) {
                    border_area += 1;
                    border_ink += usize::from(grey > 0);
                }
            }
        }
        assert!(
            border_ink * 100 < border_area,
            "{border_ink} of {border_area} border pixels inked"
        );
    }

    #[test]
    fn every_digit_has_several_styles() {
        for (digit, styles) in GLYPHS.iter().enumerate() {
            let distinct: std::collections::HashSet<_> = styles.iter().map(|style| style.strokes).collect();
            assert!(distinct.len() >= 3 && distinct.len() == styles.len(), "{digit}");
            for style in *styles {
                assert!(
                    style.weight > 0 && style.strokes.iter().all(|stroke| stroke.len() > 1),
                    "{digit}"
                );
            }
        }
    }
}
