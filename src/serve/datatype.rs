//! The datatypes of the Open Inference Protocol: what a tensor of each may hold, and how it is written as bytes
//! (row-major, little endian, no padding; a text with its length in front of it, in four bytes).

use half::{bf16, f16};

use super::tensor::Elements;

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// Whole numbers without sign, of so many bytes.
    Unsigned(usize),
    /// Whole numbers, of so many bytes.
    Signed(usize),
    /// Half precision.
    Fp16,
    /// Half precision with the range of single precision.
    Bf16,
    /// Single precision, as the model computes.
    Fp32,
    /// Double precision.
    Fp64,
    /// Texts.
    Bytes,
}

impl Datatype {
    /// The names that [`Datatype::parse`] knows.
    pub const NAMES: &str =
        "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64 and BYTES";

    /// The datatype of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => Self::Bool,
            "UINT8" => Self::Unsigned(1),
            "UINT16" => Self::Unsigned(2),
            "UINT32" => Self::Unsigned(4),
            "UINT64" => Self::Unsigned(8),
            "INT8" => Self::Signed(1),
            "INT16" => Self::Signed(2),
            "INT32" => Self::Signed(4),
            "INT64" => Self::Signed(8),
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    fn name(self) -> String {
        match self {
            Self::Bool => "BOOL".into(),
            Self::Unsigned(size) => format!("UINT{}", size * 8),
            Self::Signed(size) => format!("INT{}", size * 8),
            Self::Fp16 => "FP16".into(),
            Self::Bf16 => "BF16".into(),
            Self::Fp32 => "FP32".into(),
            Self::Fp64 => "FP64".into(),
            Self::Bytes => "BYTES".into(),
        }
    }

    /// Bytes of an element; texts have any number.
    fn size(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::Unsigned(size) | Self::Signed(size) => Some(size),
            Self::Fp16 | Self::Bf16 => Some(2),
            Self::Fp32 => Some(4),
            Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Checks elements that came as JSON.
    ///
    /// # Errors
    ///
    /// Which element is none of the datatype.
    pub fn check(self, elements: &Elements) -> Result<(), String> {
        let wrong =
            |index: usize, element: String| Err(format!("element {index} is `{element}`, which is no {}", self.name()));
        match elements {
            Elements::Numbers(numbers) => match numbers.iter().position(|number| !self.holds(*number)) {
                Some(index) => wrong(index, numbers[index].to_string()),
                None => Ok(()),
            },
            Elements::Texts(texts) => match texts.first() {
                Some(text) if self != Self::Bytes => wrong(0, text.clone()),
                _ => Ok(()),
            },
        }
    }

    fn holds(self, number: f32) -> bool {
        // The limits are rounded as the number was.
        let whole =
            |least: f64, greatest: f64| number.fract() == 0.0 && (least as f32..=greatest as f32).contains(&number);
        match self {
            Self::Bool => whole(0.0, 1.0),
            Self::Unsigned(size) => whole(0.0, f64::exp2(size as f64 * 8.0) - 1.0),
            Self::Signed(size) => {
                let half = f64::exp2(size as f64 * 8.0 - 1.0);
                whole(-half, half - 1.0)
            }
            Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 => true,
            Self::Bytes => false,
        }
    }

    /// Reads `count` elements from their bytes, numbers in the model's precision.
    ///
    /// # Errors
    ///
    /// When the bytes are more or fewer, or a text is no UTF-8.
    pub fn decode(self, bytes: &[u8], count: usize) -> Result<Elements, String> {
        let Some(size) = self.size() else {
            return texts(bytes).map(Elements::Texts);
        };
        if count.checked_mul(size) != Some(bytes.len()) {
            return Err(format!(
                "{count} elements of {} are {} bytes, and these are {}",
                self.name(),
                count.saturating_mul(size),
                bytes.len()
            ));
        }
        let elements = bytes.chunks_exact(size);
        Ok(Elements::Numbers(match self {
            Self::Bool => elements.map(|bytes| f32::from(u8::from(bytes[0] != 0))).collect(),
            Self::Unsigned(_) => elements.map(|bytes| unsigned(bytes) as f32).collect(),
            Self::Signed(_) => elements.map(|bytes| signed(bytes) as f32).collect(),
            Self::Fp16 => elements
                .map(|bytes| f16::from_bits(unsigned(bytes) as u16).to_f32())
                .collect(),
            Self::Bf16 => elements
                .map(|bytes| bf16::from_bits(unsigned(bytes) as u16).to_f32())
                .collect(),
            Self::Fp64 => elements.map(|bytes| f64::from_bits(unsigned(bytes)) as f32).collect(),
            _ => elements.map(|bytes| f32::from_bits(unsigned(bytes) as u32)).collect(),
        }))
    }
}

/// A number of up to eight bytes.
fn unsigned(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len();
    (unsigned(bytes) << unused).cast_signed() >> unused
}

fn texts(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let broken = || format!("text {} is cut off", texts.len());
        let length = bytes.split_off(..4).ok_or_else(broken)?;
        let text = bytes.split_off(..unsigned(length) as usize).ok_or_else(broken)?;
        let text = str::from_utf8(text).map_err(|_| format!("text {} is no UTF-8", texts.len()))?;
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// Numbers as bytes of FP32.
pub fn encode_numbers(numbers: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// Texts as bytes of BYTES.
pub fn encode_texts<'a>(texts: impl Iterator<Item = &'a str>, bytes: &mut Vec<u8>) {
    for text in texts {
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(name: &str, bytes: &[u8], count: usize) -> Result<Vec<f32>, String> {
        match Datatype::parse(name).expect(name).decode(bytes, count)? {
            Elements::Numbers(numbers) => Ok(numbers),
            Elements::Texts(texts) => panic!("{texts:?}"),
        }
    }

    #[test]
    fn every_datatype_is_read_from_bytes() {
        assert_eq!(decode("BOOL", &[0, 1], 2), Ok(vec![0.0, 1.0]));
        assert_eq!(decode("UINT8", &[0, 255], 2), Ok(vec![0.0, 255.0]));
        assert_eq!(decode("INT8", &[0xff, 0x7f], 2), Ok(vec![-1.0, 127.0]));
        assert_eq!(decode("UINT16", &[1, 2], 1), Ok(vec![513.0]));
        assert_eq!(decode("INT16", &(-300_i16).to_le_bytes(), 1), Ok(vec![-300.0]));
        assert_eq!(decode("UINT32", &7_000_000_u32.to_le_bytes(), 1), Ok(vec![7e6]));
        assert_eq!(decode("INT32", &(-7_000_000_i32).to_le_bytes(), 1), Ok(vec![-7e6]));
        assert_eq!(decode("UINT64", &u64::MAX.to_le_bytes(), 1), Ok(vec![1.844_674_4e19]));
        assert_eq!(decode("INT64", &i64::MIN.to_le_bytes(), 1), Ok(vec![-9.223_372e18]));
        assert_eq!(decode("FP16", &[0, 0x3c, 0, 0xc0], 2), Ok(vec![1.0, -2.0]));
        assert_eq!(decode("BF16", &[0x80, 0x3f, 0, 0xc0], 2), Ok(vec![1.0, -2.0]));
        assert_eq!(decode("FP32", &1.5_f32.to_le_bytes(), 1), Ok(vec![1.5]));
        assert_eq!(decode("FP64", &(-0.25_f64).to_le_bytes(), 1), Ok(vec![-0.25]));
        for name in Datatype::NAMES.replace(" and ", ", ").split(", ") {
            assert_eq!(Datatype::parse(name).expect(name).name(), name);
        }
        assert_eq!(Datatype::parse("FP8"), None);
    }

    #[test]
    fn bytes_that_are_no_elements_are_refused() {
        let error = |name, bytes: &[u8], count| decode(name, bytes, count).expect_err("refused");
        assert!(error("FP32", &[0; 7], 2).contains("2 elements of FP32 are 8 bytes, and these are 7"));
        assert!(error("FP64", &[0; 8], usize::MAX).contains("and these are 8"));
        let texts = |bytes: &[u8]| texts(bytes);
        assert_eq!(texts(b"\x02\0\0\0ab\0\0\0\0"), Ok(vec!["ab".to_owned(), String::new()]));
        assert_eq!(texts(b"\x03\0\0\0ab"), Err("text 0 is cut off".into()));
        assert_eq!(texts(b"\x01\0\0"), Err("text 0 is cut off".into()));
        assert_eq!(texts(b"\x01\0\0\0\xff"), Err("text 0 is no UTF-8".into()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        encode_numbers(&[1.5, -2.0], &mut bytes);
        assert_eq!(decode("FP32", &bytes, 2), Ok(vec![1.5, -2.0]));
        bytes.clear();
        encode_texts(["a", "bc"].into_iter(), &mut bytes);
        assert_eq!(texts(&bytes), Ok(vec!["a".to_owned(), "bc".to_owned()]));
    }
}
