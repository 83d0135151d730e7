//! An explanation of an image as a picture: the input in grey, what speaks for the class in red over it, what speaks
//! against it in blue.

use crate::problem::Problem;

/// Pixels that the longer side of the picture has at the least.
const SIDE: usize = 280;
/// How much of a pixel's grey the strongest colour covers.
const COVER: f32 = 0.85;
const FOR: [f32; 3] = [230.0, 30.0, 30.0];
const AGAINST: [f32; 3] = [40.0, 90.0, 255.0];
/// A difference in probability that is nothing, so that a map of rounding errors is not drawn as one.
const NOTHING: f32 = 1e-6;

/// A PNG of an image with its saliency. `raw` are the pixels, `map` one value for each, `size` height, width and
/// channels. The strongest value of the map has the full colour, and each pixel becomes a square, so that the longer side
/// has 280 pixels or more.
///
/// # Errors
///
/// When the PNG cannot be written, which a picture of the model's size does not cause.
pub fn overlay(raw: &[f32], map: &[f32], [height, width, channels]: [usize; 3]) -> Result<Vec<u8>, Problem> {
    let strongest = map.iter().fold(NOTHING, |most, value| most.max(value.abs()));
    let scale = SIDE.div_ceil(height.max(width));
    let colours: Vec<[u8; 3]> = raw
        .chunks_exact(channels)
        .zip(map)
        .map(|(pixel, value)| {
            let grey = pixel.iter().sum::<f32>() / channels as f32;
            let colour = if *value < 0.0 { AGAINST } else { FOR };
            let share = COVER * value.abs() / strongest;
            colour.map(|part| (grey + (part - grey) * share).round() as u8)
        })
        .collect();
    let mut pixels = Vec::with_capacity(colours.len() * scale * scale * 3);
    for row in colours.chunks_exact(width) {
        let start = pixels.len();
        for colour in row {
            for _ in 0..scale {
                pixels.extend(colour);
            }
        }
        let end = pixels.len();
        for _ in 1..scale {
            pixels.extend_from_within(start..end);
        }
    }
    let unwritable = |error: png::EncodingError| Problem::new(format!("the picture cannot be written: {error}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, (width * scale) as u32, (height * scale) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(unwritable)?;
    writer.write_image_data(&pixels).map_err(unwritable)?;
    writer.finish().map_err(unwritable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn decode(bytes: &[u8]) -> ((u32, u32), Vec<u8>) {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("pixels");
        ((info.width, info.height), pixels)
    }

    #[test]
    fn what_speaks_for_the_class_is_red_and_what_speaks_against_it_blue() {
        let map = [0.5, -0.5, 0.0, 0.1];
        let bytes = overlay(&[100.0; 4], &map, [2, 2, 1]).expect("a picture");
        let (size, pixels) = decode(&bytes);
        assert_eq!(size, (280, 280));
        let at = |x: usize, y: usize| &pixels[(y * 280 + x) * 3..][..3];
        let (red, blue, none, weak) = (at(139, 139), at(140, 139), at(139, 140), at(279, 279));
        assert!(red[0] > 200 && red[2] < 50, "{red:?}");
        assert!(blue[2] > 200 && blue[0] < 60, "{blue:?}");
        assert_eq!(none, [100; 3]);
        assert!(weak[0] > 100 && weak[0] < red[0], "{weak:?}");
    }

    #[test]
    fn a_map_of_nothing_is_the_grey_image_at_any_size() {
        let raw: Vec<f32> = [[0.0, 30.0, 60.0], [255.0; 3]].concat().repeat(150);
        let bytes = overlay(&raw, &[1e-9; 300], [1, 300, 3]).expect("a picture");
        let (size, pixels) = decode(&bytes);
        assert_eq!(size, (300, 1));
        assert_eq!(pixels[..6], [30, 30, 30, 255, 255, 255]);
    }
}
