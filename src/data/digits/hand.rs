//! The hand that writes: how one person, at one time, bends the strokes of a glyph.

use std::f32::consts::TAU;

use rand::{Rng, RngExt as _};

use super::strokes::{Control, Stroke, Style};

/// A point of the plane: `x` to the right, `y` down.
pub type Point = [f32; 2];

/// How one sample departs from its glyph. Lengths are in units of the glyph's box.
pub struct Hand {
    /// The linear map: width against height, then slant, then rotation.
    linear: [Point; 2],
    /// The standard deviation of a control point.
    unsteadiness: f32,
    /// Smooth waves that displace the whole plane.
    waves: [Wave; 4],
}

/// One plane wave of displacement.
struct Wave {
    direction: Point,
    amplitude: Point,
    phase: f32,
}

impl Hand {
    /// A hand drawn at random.
    pub fn new(rng: &mut impl Rng) -> Self {
        let slant = 0.12 + 0.26 * bell(rng);
        let width = (1.0 + 0.2 * bell(rng)).clamp(0.5, 1.5);
        let (sin, cos) = (0.1 * bell(rng)).sin_cos();
        // Slanting before turning: the top of a slanted 7 stays level, that of a turned 7 slopes.
        let linear = [[width * cos, -slant * cos - sin], [width * sin, cos - slant * sin]];
        let waves = std::array::from_fn(|order| {
            let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
            let cycles = 0.4 + 0.3 * order as f32;
            // Longer waves may be higher: equal bends at all scales.
            let height = 0.03 / cycles;
            Wave {
                direction: [TAU * cycles * cos, TAU * cycles * sin],
                amplitude: [height * bell(rng), height * bell(rng)],
                phase: rng.random_range(0.0..TAU),
            }
        });
        Self {
            linear,
            unsteadiness: rng.random_range(0.01..0.05),
            waves,
        }
    }

    /// Writes a glyph: one polyline per stroke.
    pub fn write(&self, style: &Style, rng: &mut impl Rng) -> Vec<Vec<Point>> {
        style
            .strokes
            .iter()
            .map(|stroke| self.write_stroke(stroke, rng))
            .collect()
    }

    fn write_stroke(&self, stroke: Stroke, rng: &mut impl Rng) -> Vec<Point> {
        let mut line: Vec<Point> = Vec::new();
        // Between the two copies of a corner the curve breaks, but the pen stays where it is.
        for arc in stroke.chunk_by(|from, to| from != to) {
            let mut points: Vec<Point> = arc.iter().map(|&point| self.place(point, rng)).collect();
            if let Some(&corner) = line.last() {
                points[0] = corner;
            }
            trace(&points, &mut line);
        }
        for point in &mut line {
            *point = self.displace(*point);
        }
        line
    }

    /// A control point where this hand puts it.
    fn place(&self, (x, y): Control, rng: &mut impl Rng) -> Point {
        [x, y].map(|hundredths| f32::from(hundredths) / 100.0 + self.unsteadiness * bell(rng))
    }

    /// Where a point of the glyph's box lies on the paper, the centre of the box at the origin.
    fn displace(&self, point: Point) -> Point {
        let mut moved = [point[0] - 0.5, point[1] - 0.5];
        for wave in &self.waves {
            let along = wave.direction[0] * point[0] + wave.direction[1] * point[1];
            let height = (along + wave.phase).sin();
            moved[0] += wave.amplitude[0] * height;
            moved[1] += wave.amplitude[1] * height;
        }
        self.linear.map(|row| row[0] * moved[0] + row[1] * moved[1])
    }
}

/// A bounded, bell-shaped number of mean 0 and variance 1.
pub fn bell(rng: &mut impl Rng) -> f32 {
    // The sum of four uniform numbers: no tail beyond 3.5, so that no digit is torn apart.
    let sum: f32 = (0..4).map(|_| rng.random::<f32>()).sum();
    (sum - 2.0) * 3.0_f32.sqrt()
}

/// Appends the Catmull-Rom spline through the points to a polyline.
fn trace(points: &[Point], line: &mut Vec<Point>) {
    const STEPS: usize = 6;
    line.push(points[0]);
    for (index, pair) in points.windows(2).enumerate() {
        let (from, to) = (pair[0], pair[1]);
        // At its ends the curve has no neighbour to lean on.
        let before = if index > 0 { points[index - 1] } else { from };
        let after = points.get(index + 2).copied().unwrap_or(to);
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            line.push([0, 1].map(|axis| {
                let (p0, p1, p2, p3) = (before[axis], from[axis], to[axis], after[axis]);
                let linear = p2 - p0;
                let square = 2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3;
                let cubic = 3.0 * (p1 - p2) + p3 - p0;
                p1 + 0.5 * t * (linear + t * (square + t * cubic))
            }));
        }
    }
}
