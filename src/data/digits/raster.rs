//! Ink on paper: polylines to grey pixels, framed as in the data sets of scanned digits.

use rand::{Rng, RngExt as _};

use super::{
    SIDE,
    hand::{Point, bell},
};

/// The longer side of the box that a digit fills, in pixels.
const BOX: f32 = 20.0;

/// Where the centre of mass goes, in pixels from the left and from the top: the centre of pixel 14.
const CENTRE: f32 = 14.5;

/// The pen and the scanner of one sample. Lengths are in pixels.
pub struct Pen {
    /// Half the width of a stroke.
    radius: f32,
    /// How far the radius swings with the pressure, relative to it.
    pressure: f32,
    /// The width of the grey edge.
    blur: f32,
    /// The grey of full ink, 0 to 1.
    ink: f32,
    /// The roughness of the edge.
    roughness: f32,
}

impl Pen {
    /// A pen drawn at random.
    pub fn new(rng: &mut impl Rng) -> Self {
        Self {
            radius: (1.4 + 0.5 * bell(rng)).clamp(0.6, 2.4),
            pressure: rng.random_range(0.0..0.25),
            blur: rng.random_range(0.9..1.8),
            ink: rng.random_range(0.95..1.0),
            roughness: rng.random_range(0.0..0.25),
        }
    }

    /// Inks the lines into `image`, which has `SIDE * SIDE` black pixels.
    pub fn ink(&self, mut lines: Vec<Vec<Point>>, image: &mut [u8], rng: &mut impl Rng) {
        self.frame(&mut lines, rng);
        let mut depth = [f32::MIN; SIDE * SIDE];
        let phase = rng.random_range(0.0..6.0);
        for (index, pair) in lines.iter().flat_map(|line| line.windows(2)).enumerate() {
            let radius = self.radius * (1.0 + self.pressure * (phase + 0.2 * index as f32).sin());
            self.ink_segment(pair[0], pair[1], radius, &mut depth);
        }
        for (pixel, depth) in image.iter_mut().zip(depth) {
            if depth > f32::MIN {
                let cover = (0.5 + (depth + self.roughness * bell(rng)) / self.blur).clamp(0.0, 1.0);
                *pixel = (255.0 * self.ink * cover).round() as u8;
            }
        }
    }

    /// Scales the lines until the longer side of their inked box is about `BOX`, and puts their
    /// centre of mass near `CENTRE`: scanned digits are framed like this, but never quite.
    fn frame(&self, lines: &mut [Vec<Point>], rng: &mut impl Rng) {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        let (mut mass, mut moment) = (f32::MIN_POSITIVE, [0.0; 2]);
        for pair in lines.iter().flat_map(|line| line.windows(2)) {
            let length = (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
            mass += length;
            for axis in 0..2 {
                low[axis] = low[axis].min(pair[0][axis]).min(pair[1][axis]);
                high[axis] = high[axis].max(pair[0][axis]).max(pair[1][axis]);
                moment[axis] += length * 0.5 * (pair[0][axis] + pair[1][axis]);
            }
        }
        let extent = (high[0] - low[0]).max(high[1] - low[1]).max(f32::MIN_POSITIVE);
        let scale = (BOX - 2.0 * self.radius) * (1.0 + 0.03 * bell(rng)) / extent;
        let shift = [0.7 * bell(rng), 0.7 * bell(rng)];
        for point in lines.iter_mut().flatten() {
            for axis in 0..2 {
                point[axis] = (point[axis] - moment[axis] / mass) * scale + CENTRE + shift[axis];
            }
        }
    }

    /// Raises `depth`, how far inside the ink the centre of each pixel lies, to that of a segment.
    fn ink_segment(&self, from: Point, to: Point, radius: f32, depth: &mut [f32; SIDE * SIDE]) {
        let reach = radius + self.blur;
        let span = |axis: usize| {
            let low = (from[axis].min(to[axis]) - reach).floor().max(0.0) as usize;
            let high = (from[axis].max(to[axis]) + reach).ceil().clamp(0.0, SIDE as f32) as usize;
            low..high
        };
        let [dx, dy] = [to[0] - from[0], to[1] - from[1]];
        let squared_length = (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
        for row in span(1) {
            for column in span(0) {
                let (x, y) = (column as f32 + 0.5 - from[0], row as f32 + 0.5 - from[1]);
                let along = ((x * dx + y * dy) / squared_length).clamp(0.0, 1.0);
                let (across_x, across_y) = (x - along * dx, y - along * dy);
                let inside = radius - (across_x * across_x + across_y * across_y).sqrt();
                let pixel = &mut depth[row * SIDE + column];
                *pixel = pixel.max(inside);
            }
        }
    }
}
