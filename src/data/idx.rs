//! The IDX files of MNIST, plain or gzip: a header with a type and dimensions, then the values. It reads unsigned bytes
//! and believes no count before it has compared it with the file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::bufread::MultiGzDecoder;

use super::{Dataset, cannot_read};
use crate::preprocess::Schema;
use crate::problem::Problem;

/// Images with a label each.
#[derive(Debug)]
pub struct Images {
    /// Height, width, channels.
    pub schema: Schema,
    /// `schema.width()` bytes for each image.
    pub pixels: Vec<u8>,
    /// One for each image.
    pub labels: Vec<u8>,
    /// Where the labels are from, for messages.
    pub labels_file: PathBuf,
}

impl Images {
    /// Reads a file of images and the file of their labels.
    ///
    /// # Errors
    ///
    /// The file, and what about it is not IDX, not images or not labels, or does not fit together.
    pub fn read(images_file: &Path, labels_file: &Path) -> Result<Self> {
        let (sizes, pixels) = read(images_file, Holds::Images)?;
        let (_, labels) = read(labels_file, Holds::Labels)?;
        let schema = schema(images_file, &sizes)?;
        let count = sizes[0];
        if count != labels.len() {
            return Err(Problem::new(format!(
                "`{}` holds {count} images and `{}` holds {} labels",
                images_file.display(),
                labels_file.display(),
                labels.len()
            ))
            .hint("the two files must be of the same set, with one label for each image")
            .into());
        }
        Ok(Self {
            schema,
            pixels,
            labels,
            labels_file: labels_file.to_owned(),
        })
    }

    /// The labels that occur, in numeric order, as names of classes.
    pub fn classes(&self) -> Vec<String> {
        let mut occurs = [false; 256];
        for &label in &self.labels {
            occurs[usize::from(label)] = true;
        }
        let labels = occurs.iter().enumerate().filter(|(_, occurs)| **occurs);
        labels.map(|(label, _)| label.to_string()).collect()
    }

    /// The images as a dataset with these classes, which the labels are looked up in by name.
    ///
    /// # Errors
    ///
    /// A label that is none of the classes, with its file and place, or images of another size than `schema`.
    pub fn dataset(&self, schema: &Schema, classes: &[String]) -> Result<Dataset> {
        if self.schema != *schema {
            return Err(Problem::new(format!(
                "the images that go with `{}` are {}, and {} are needed",
                self.labels_file.display(),
                describe(&self.schema),
                describe(schema)
            ))
            .into());
        }
        let mut index_of = [None; 256];
        for (index, class) in classes.iter().enumerate() {
            if let Ok(label) = class.parse::<u8>() {
                index_of[usize::from(label)] = Some(index as u32);
            }
        }
        let lookup = |(item, &label): (usize, &u8)| {
            index_of[usize::from(label)].ok_or_else(|| {
                Problem::new(format!(
                    "`{}`, row {item} (the first is 0), column `label`: `{label}` is out of range, the classes are {}",
                    self.labels_file.display(),
                    listed(classes)
                ))
                .into()
            })
        };
        Ok(Dataset {
            schema: schema.clone(),
            labels: self.labels.iter().enumerate().map(lookup).collect::<Result<_>>()?,
            values: self.pixels.iter().map(|&pixel| f32::from(pixel)).collect(),
            classes: classes.to_vec(),
        })
    }
}

/// The images in the bytes of a file called `name`, which has no labels.
///
/// # Errors
///
/// What about it is not IDX, or not images.
pub fn unlabelled(name: &Path, bytes: Vec<u8>) -> Result<(Schema, Vec<u8>)> {
    let length = bytes.len() as u64;
    let opened = through_gzip(io::Cursor::new(bytes), length);
    let (sizes, pixels) = values(name, opened, Holds::Images)?;
    Ok((schema(name, &sizes)?, pixels))
}

/// The shape of one image, from the sizes in a header.
fn schema(file: &Path, sizes: &[usize]) -> Result<Schema> {
    match *sizes {
        [_, height, width] => Ok(grey(height, width)),
        [_, height, width, channels @ (1 | 3)] => Ok(Schema::Image {
            height,
            width,
            channels,
        }),
        _ => Err(Problem::new(format!(
            "`{}` holds images with {} channels in the last dimension, and emberline reads 1 or 3",
            file.display(),
            sizes.last().copied().unwrap_or_default()
        ))
        .into()),
    }
}

/// Classes in a message: the first few.
pub fn listed(classes: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = classes.iter().take(SHOWN).map(|class| format!("`{class}`")).collect();
    let shown = shown.join(", ");
    match classes.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The schema of grey images.
pub fn grey(height: usize, width: usize) -> Schema {
    Schema::Image {
        height,
        width,
        channels: 1,
    }
}

pub fn describe(schema: &Schema) -> String {
    match schema {
        Schema::Image {
            height,
            width,
            channels,
        } => format!(
            "{height} x {width} pixels with {channels} channel{}",
            if *channels == 1 { "" } else { "s" }
        ),
        Schema::Table { .. } => "rows of a table".into(),
    }
}

/// What a file is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Images,
    Labels,
}

impl Holds {
    fn magic(self) -> &'static str {
        match self {
            Self::Images => "a file of images begins with 00 00 08 03 (grey) or 00 00 08 04 (channels last)",
            Self::Labels => "a file of labels begins with 00 00 08 01",
        }
    }

    fn takes(self, dimensions: u8) -> bool {
        match self {
            Self::Images => matches!(dimensions, 3 | 4),
            Self::Labels => dimensions == 1,
        }
    }
}

/// A file that can be read on, and how many bytes it has where that is known.
struct Opened {
    reader: Box<dyn Read>,
    length: Option<u64>,
}

/// Opens a file, through gzip when it begins as gzip does: its name may be anything.
fn open(path: &Path) -> io::Result<Opened> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    through_gzip(file, length)
}

fn through_gzip(mut file: impl Read + 'static, length: u64) -> io::Result<Opened> {
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    let gzip = start == [0x1f, 0x8b];
    let whole = io::Cursor::new(start).chain(file);
    Ok(if gzip {
        Opened {
            reader: Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole))),
            length: None,
        }
    } else {
        Opened {
            reader: Box::new(whole),
            length: Some(length),
        }
    })
}

/// The dimensions and values of a file. Nothing is allocated for values that the file does not have.
fn read(path: &Path, holds: Holds) -> Result<(Vec<usize>, Vec<u8>)> {
    values(path, open(path), holds)
}

/// The content of a file that was opened; `path` is its name in messages.
fn values(path: &Path, opened: io::Result<Opened>, holds: Holds) -> Result<(Vec<usize>, Vec<u8>)> {
    let shown = path.display();
    let failed = |error: io::Error| -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Problem::new(format!("`{shown}` is truncated: its gzip stream ends early"))
                .hint("download or copy it again")
                .into(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Problem::new(format!("`{shown}` is damaged: its gzip stream cannot be read: {error}"))
                    .hint("download or copy it again")
                    .into()
            }
            _ => cannot_read(path, &error).into(),
        }
    };
    let mut opened = opened.map_err(failed)?;
    let mut read_up_to = |count: u64| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        opened
            .reader
            .by_ref()
            .take(count)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(bytes)
    };
    let magic = read_up_to(4)?;
    let dimensions = match magic[..] {
        [] => return Err(Problem::new(format!("`{shown}` is empty")).hint(holds.magic()).into()),
        [0, 0, 8, dimensions] if holds.takes(dimensions) => usize::from(dimensions),
        _ => return Err(wrong_magic(path, holds, &magic).into()),
    };
    let header = read_up_to(4 * dimensions as u64)?;
    if header.len() < 4 * dimensions {
        return Err(Problem::new(format!("`{shown}` is truncated: it ends within its header")).into());
    }
    let sizes: Vec<usize> = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|size| u32::from_be_bytes(*size) as usize)
        .collect();
    let item = sizes[1..]
        .iter()
        .try_fold(1_u64, |size, &next| size.checked_mul(next as u64));
    let expected = item.and_then(|item| item.checked_mul(sizes[0] as u64));
    let (Some(item), Some(expected)) = (item, expected) else {
        return Err(lying_count(path, &sizes, "more than any file can hold").into());
    };
    if expected == 0 {
        return Err(Problem::new(format!(
            "`{shown}` holds nothing: its header gives the sizes {}",
            by(&sizes)
        ))
        .into());
    }
    let header_length = 4 + 4 * dimensions as u64;
    let too_short = |got: u64| {
        Problem::new(format!(
            "`{shown}` is truncated: its header claims {} items of {item} bytes, and the values end within row {} (the \
             first is 0), column {}",
            sizes[0],
            got / item,
            got % item
        ))
        .hint("download or copy it again")
    };
    if let Some(length) = opened.length {
        let got = length.saturating_sub(header_length);
        if got < expected {
            return Err(too_short(got).into());
        }
        if got > expected {
            return Err(lying_count(path, &sizes, &format!("{expected} bytes, and {got} follow")).into());
        }
    }
    // One more than there should be, so that a longer file is noticed. The vector grows with what really comes.
    let mut values = Vec::new();
    if opened.length.is_some() {
        values.reserve_exact(expected as usize + 1);
    }
    opened
        .reader
        .take(expected + 1)
        .read_to_end(&mut values)
        .map_err(failed)?;
    let got = values.len() as u64;
    if got < expected {
        return Err(too_short(got).into());
    }
    if got > expected {
        return Err(lying_count(path, &sizes, &format!("{expected} bytes, and more follow")).into());
    }
    Ok((sizes, values))
}

fn wrong_magic(path: &Path, holds: Holds, magic: &[u8]) -> Problem {
    let shown = path.display();
    match (magic, holds) {
        ([0, 0, 8, 1], Holds::Images) => Problem::new(format!("`{shown}` holds labels, and images are read from it"))
            .hint("give the file of images; the two may be swapped"),
        ([0, 0, 8, 3 | 4], Holds::Labels) => {
            Problem::new(format!("`{shown}` holds images, and labels are read from it"))
                .hint("give the file of labels; the two may be swapped")
        }
        ([0, 0, kind @ (9 | 0x0b..=0x0e), _], _) => Problem::new(format!(
            "`{shown}` is an IDX file of type 0x{kind:02x}, and emberline reads unsigned bytes (0x08)"
        )),
        _ => {
            let bytes: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
            Problem::new(format!(
                "`{shown}` has a wrong magic number: it begins with {}",
                bytes.join(" ")
            ))
            .hint(holds.magic())
        }
    }
}

fn lying_count(path: &Path, sizes: &[usize], found: &str) -> Problem {
    Problem::new(format!(
        "`{}`: the header gives the sizes {}, which is {found}",
        path.display(),
        by(sizes)
    ))
    .hint("the count in the header is wrong, or the file is not the one that it says")
}

fn by(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}
