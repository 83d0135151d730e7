//! Unlabelled inputs for a model: a PNG, an IDX file, JSON or CSV, told apart by their content.
//!
//! It reads against the schema of a bundle. What is said of an input afterwards is the caller's business.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::idx;
use crate::predict::raw_from_json;
use crate::preprocess::Schema;
use crate::problem::Problem;

/// One raw sample with the name that a person knows it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The file, with `[N]` when it holds several.
    pub name: String,
    /// `schema.width()` values, a missing one as NaN.
    pub raw: Vec<f32>,
}

/// Reads all inputs in the `bytes` of a file called `name`.
///
/// # Errors
///
/// What is wrong, with the file and the place in it.
pub fn read(name: &str, bytes: &[u8], schema: &Schema) -> Result<Vec<Input>> {
    let rows = match Kind::of(bytes) {
        Kind::Empty => return Err(Problem::new(format!("`{name}` is empty")).into()),
        Kind::Png => vec![png(bytes, schema).with_context(|| format!("cannot read `{name}`"))?],
        Kind::Idx => idx_images(name, bytes, schema)?,
        Kind::Json => json(bytes, schema).with_context(|| format!("cannot read `{name}`"))?,
        Kind::Csv => csv(bytes, schema).with_context(|| format!("cannot read `{name}`"))?,
    };
    let single = rows.len() == 1;
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(index, raw)| Input {
            name: if single {
                name.to_owned()
            } else {
                format!("{name}[{index}]")
            },
            raw,
        })
        .collect())
}

enum Kind {
    Empty,
    Png,
    Idx,
    Json,
    Csv,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            // IDX begins with two zeros, and is often compressed.
            [0, 0, ..] | [0x1f, 0x8b, ..] => Self::Idx,
            _ => match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => Self::Empty,
                Some(b'[' | b'{') => Self::Json,
                Some(_) => Self::Csv,
            },
        }
    }
}

fn json(bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let value: Value = serde_json::from_slice(bytes)?;
    let value = match value {
        Value::Object(mut object) if object.contains_key("instances") => {
            object.remove("instances").unwrap_or(Value::Null)
        }
        other => other,
    };
    let mut raw = Vec::new();
    let alone = match raw_from_json(schema, &value, &mut raw) {
        Ok(()) => return Ok(vec![raw]),
        Err(error) => error,
    };
    // Not one input: then it is a list of them, and the mistake is in one of those.
    let Value::Array(values) = &value else {
        return Err(alone.into());
    };
    if !values.iter().all(|value| value.is_array() || value.is_object()) || values.is_empty() {
        return Err(alone.into());
    }
    values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let mut raw = Vec::with_capacity(schema.width());
            raw_from_json(schema, value, &mut raw).with_context(|| format!("input {index}"))?;
            Ok(raw)
        })
        .collect()
}

fn csv(bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let Schema::Table { columns } = schema else {
        return Err(Problem::new("this looks like CSV, and the model reads images")
            .hint("give a PNG, an IDX file, or JSON with the pixels")
            .into());
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    let places = columns
        .iter()
        .map(|column| {
            header
                .iter()
                .position(|name| name.trim() == column.name)
                .ok_or_else(|| Problem::new(format!("the header has no column `{}`", column.name)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = columns
            .iter()
            .zip(&places)
            .map(|(column, place)| {
                let text = record.get(*place).unwrap_or_default();
                column.parse(text).ok_or_else(|| {
                    Problem::new(format!("line {line}, column `{}`: `{text}` is no number", column.name))
                })
            })
            .collect::<Result<Vec<f32>, _>>()?;
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(Problem::new("there is a header and no row").into());
    }
    Ok(rows)
}

fn idx_images(name: &str, bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let (found, pixels) = idx::unlabelled(Path::new(name), bytes.to_vec())?;
    if found != *schema {
        return Err(Problem::new(format!(
            "`{name}` holds images of {}, and the model reads {}",
            idx::describe(&found),
            idx::describe(schema)
        ))
        .into());
    }
    Ok(pixels
        .chunks_exact(schema.width())
        .map(|image| image.iter().map(|pixel| f32::from(*pixel)).collect())
        .collect())
}

fn png(bytes: &[u8], schema: &Schema) -> Result<Vec<f32>> {
    let Schema::Image {
        height,
        width,
        channels,
    } = *schema
    else {
        return Err(Problem::new("this is an image, and the model reads a table")
            .hint("give CSV with a header, or JSON")
            .into());
    };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| Problem::new("the image is too large"))?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer)?;
    let samples = frame.color_type.samples();
    let pixels: Vec<Vec<f32>> = buffer[..frame.buffer_size()]
        .chunks_exact(samples)
        .map(|pixel| channels_of(pixel, channels))
        .collect();
    if samples.is_multiple_of(2) && pixels.iter().all(|pixel| pixel == &pixels[0]) {
        return Err(
            Problem::new("the image is the same everywhere once what is transparent is black")
                .hint("draw in white, or put a white ground behind black ink and use --invert")
                .into(),
        );
    }
    Ok(resample(
        &pixels,
        (frame.width as usize, frame.height as usize),
        (width, height),
    ))
}

/// A pixel in as many channels as the model reads; what is transparent becomes black.
fn channels_of(pixel: &[u8], channels: usize) -> Vec<f32> {
    let value = |index: usize| f32::from(pixel[index]);
    let (colour, alpha) = match pixel.len() {
        1 => ([value(0); 3], 255.0),
        2 => ([value(0); 3], value(1)),
        3 => ([value(0), value(1), value(2)], 255.0),
        _ => ([value(0), value(1), value(2)], value(3)),
    };
    let colour = colour.map(|part| part * alpha / 255.0);
    if channels == 1 {
        // Rec. 601 luma.
        vec![0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]]
    } else {
        colour.to_vec()
    }
}

/// Each target pixel is the mean of the source area that it covers.
fn resample(pixels: &[Vec<f32>], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let channels = pixels.first().map_or(1, Vec::len);
    let mut out = Vec::with_capacity(to.0 * to.1 * channels);
    for y in 0..to.1 {
        for x in 0..to.0 {
            let mut sum = vec![0.0; channels];
            let mut area = 0.0;
            for (source_y, height) in overlap(y, from.1, to.1) {
                for (source_x, width) in overlap(x, from.0, to.0) {
                    for (sum, part) in sum.iter_mut().zip(&pixels[source_y * from.0 + source_x]) {
                        *sum += part * height * width;
                    }
                    area += height * width;
                }
            }
            out.extend(sum.iter().map(|sum| sum / area));
        }
    }
    out
}

/// Source cells, with the share of each, that target cell `at` covers.
fn overlap(at: usize, from: usize, to: usize) -> impl Iterator<Item = (usize, f32)> {
    let scale = from as f64 / to as f64;
    let (start, end) = (at as f64 * scale, (at + 1) as f64 * scale);
    let last = (end.ceil() as usize).min(from);
    (start as usize..last).map(move |cell| {
        let covered = end.min((cell + 1) as f64) - start.max(cell as f64);
        (cell, covered as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};

    const SMALL: Schema = Schema::Image {
        height: 2,
        width: 2,
        channels: 1,
    };

    fn table() -> Schema {
        Schema::Table {
            columns: vec![
                Column {
                    name: "age".into(),
                    kind: ColumnKind::Numeric,
                },
                Column {
                    name: "city".into(),
                    kind: ColumnKind::Categorical {
                        categories: vec!["bonn".into(), "rome".into()],
                    },
                },
            ],
        }
    }

    fn encode(width: u32, height: u32, colour: png::ColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(data))
            .expect("encode");
        bytes
    }

    #[test]
    fn a_png_is_read_in_grey_and_scaled_to_the_model() {
        let same = encode(2, 2, png::ColorType::Grayscale, &[0, 64, 128, 255]);
        assert_eq!(
            read("a.png", &same, &SMALL).expect("read")[0].raw,
            [0.0, 64.0, 128.0, 255.0]
        );
        let twice = encode(4, 2, png::ColorType::Grayscale, &[0, 100, 200, 200, 10, 30, 0, 0]);
        assert_eq!(
            read("a.png", &twice, &SMALL).expect("read")[0].raw,
            [50.0, 200.0, 20.0, 0.0]
        );
        let ink = encode(2, 1, png::ColorType::Rgba, &[255, 255, 255, 0, 200, 200, 200, 255]);
        assert_eq!(
            read("a.png", &ink, &SMALL).expect("read")[0].raw,
            [0.0, 200.0, 0.0, 200.0]
        );
        // Black ink on transparency, as many programs save it.
        let black = encode(2, 1, png::ColorType::Rgba, &[0, 0, 0, 0, 0, 0, 0, 255]);
        assert!(read("a.png", &black, &SMALL).is_err());
    }

    #[test]
    fn json_holds_one_input_or_several() {
        let one = read("a", b"[0, 1, 2, 3]", &SMALL).expect("one");
        assert_eq!(one[0].name, "a");
        let nested = read("a", b" [[0, 1], [2, 3]]", &SMALL).expect("one, nested");
        assert_eq!(nested, one);
        let several = read("a", b"{\"instances\": [[0, 1, 2, 3], [[4, 5], [6, 7]]]}", &SMALL).expect("two");
        assert_eq!(several[1].name, "a[1]");
        assert_eq!(several[1].raw, [4.0, 5.0, 6.0, 7.0]);
        let error = read("a", b"[[0, 1, 2, 3], [4]]", &SMALL).expect_err("short");
        assert!(format!("{error:#}").contains("input 1"), "{error:#}");
    }

    #[test]
    fn csv_is_read_by_its_header() {
        let rows = read("a", b"label,city,age\nx,rome,3\ny,oslo,\n", &table()).expect("rows");
        assert_eq!(rows[0].raw, [3.0, 1.0]);
        assert!(rows[1].raw.iter().all(|value| value.is_nan()));
        let error = |text: &[u8]| format!("{:#}", read("a", text, &table()).expect_err("refused"));
        assert!(error(b"city\nrome\n").contains("`age`"));
        assert!(error(b"city,age\nrome,old\n").contains("line 2, column `age`: `old`"));
        assert!(error(b"city,age\n").contains("no row"));
        assert!(error(b" \n").contains("empty"));
    }
}
