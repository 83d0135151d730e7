//! Images as programs write them, read without the JSON reader: flat arrays of plain decimals.
//!
//! Reading numbers is the larger part of the work of a prediction, and almost every one of them is a few digits. What is
//! written in any other way (nested, with exponents, with other keys) is left to `json`, which gives the same values and
//! tells what is wrong: nothing is refused here.

use crate::preprocess::Schema;

/// Digits that are exact in a float of 64 bits, as is the power of ten that they are divided by: the quotient is then
/// the float nearest to the decimal, which is what the JSON reader gives.
const DIGITS: usize = 15;
const POWERS: [f64; DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Reads `{"KEY": [[...], ...]}` and appends the pixels of each image to `raw`; gives their number, or none (and `raw`
/// as it was) when the text is anything else.
pub fn images_under(key: &str, text: &[u8], schema: &Schema, raw: &mut Vec<f32>) -> Option<usize> {
    whole(text, schema, raw, |reader, width, raw| {
        reader.take(b'{')?;
        reader.take(b'"')?;
        reader.rest = reader.rest.strip_prefix(key.as_bytes())?;
        reader.rest = reader.rest.strip_prefix(b"\"")?;
        reader.take(b':')?;
        reader.take(b'[')?;
        let mut count = 0;
        loop {
            reader.image(width, raw)?;
            count += 1;
            if !reader.goes_on()? {
                break;
            }
        }
        reader.take(b'}')?;
        Some(count)
    })
}

/// As [`images_under`], for one image that is the whole text: `[...]`.
pub fn image(text: &[u8], schema: &Schema, raw: &mut Vec<f32>) -> Option<usize> {
    whole(text, schema, raw, |reader, width, raw| {
        reader.image(width, raw)?;
        Some(1)
    })
}

fn whole(
    text: &[u8],
    schema: &Schema,
    raw: &mut Vec<f32>,
    read: impl FnOnce(&mut Reader<'_>, usize, &mut Vec<f32>) -> Option<usize>,
) -> Option<usize> {
    let Schema::Image { .. } = schema else {
        return None;
    };
    let start = raw.len();
    let mut reader = Reader { rest: text };
    let count = read(&mut reader, schema.width(), raw).filter(|_| {
        reader.space();
        reader.rest.is_empty()
    });
    if count.is_none() {
        raw.truncate(start);
    }
    count
}

/// What is left of a text.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Takes a sign, and the space before it.
    fn take(&mut self, sign: u8) -> Option<()> {
        self.space();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == sign).then_some(())
    }

    /// After an item of an array: whether there is another.
    fn goes_on(&mut self) -> Option<bool> {
        self.space();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b',' => Some(true),
            b']' => Some(false),
            _ => None,
        }
    }

    fn image(&mut self, width: usize, raw: &mut Vec<f32>) -> Option<()> {
        self.take(b'[')?;
        raw.reserve(width);
        for pixel in 1..=width {
            self.space();
            raw.push(self.number()?);
            if self.goes_on()? != (pixel < width) {
                return None;
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<f32> {
        let text = self.rest;
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = start;
        let mut mantissa = 0_u64;
        let mut digits = |at: &mut usize| {
            let start = *at;
            while let Some(digit) = text
                .get(*at)
                .map(|byte| byte.wrapping_sub(b'0'))
                .filter(|digit| *digit < 10)
            {
                // What is too long for this is not taken.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(digit.into());
                *at += 1;
            }
            *at - start
        };
        let before = digits(&mut at);
        if before == 0 || (before > 1 && text[start] == b'0') {
            return None;
        }
        let mut after = 0;
        if text.get(at) == Some(&b'.') {
            at += 1;
            after = digits(&mut at);
            if after == 0 {
                return None;
            }
        }
        if before + after > DIGITS || matches!(text.get(at), Some(b'e' | b'E')) {
            return None;
        }
        self.rest = &text[at..];
        let value = mantissa as f64 / POWERS[after];
        Some(if negative { -value as f32 } else { value as f32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema::Image {
        height: 1,
        width: 2,
        channels: 1,
    };

    fn under(text: &str) -> Option<Vec<f32>> {
        let mut raw = vec![7.0];
        let count = images_under("instances", text.as_bytes(), &SCHEMA, &mut raw);
        assert_eq!(raw.len(), 1 + 2 * count.unwrap_or(0), "{text}");
        count.map(|_| raw.split_off(1))
    }

    #[test]
    fn plain_images_are_read() {
        assert_eq!(under(r#"{"instances":[[1,2]]}"#), Some(vec![1.0, 2.0]));
        assert_eq!(
            under(" { \"instances\" : [ [ 1.5 , -2 ] ,\n[0.25,255] ] }\n"),
            Some(vec![1.5, -2.0, 0.25, 255.0])
        );
        let mut raw = Vec::new();
        assert_eq!(image(b"[0, 12.5]", &SCHEMA, &mut raw), Some(1));
        assert_eq!(raw, [0.0, 12.5]);
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "",
            "{}",
            "[1,2]",
            r#"{"instances":[]}"#,
            r#"{"instances":[[1]]}"#,
            r#"{"instances":[[1,2,3]]}"#,
            r#"{"instances":[[1,2],[3]]}"#,
            r#"{"instances":[[[1],[2]]]}"#,
            r#"{"instances":[[1,2]],"signature_name":"x"}"#,
            r#"{"instances":[[1,2]]} x"#,
            r#"{"instances":[[1,2]]"#,
            r#"{"instances":[[1,2]}"#,
            r#"{"instances":[[1 2]]}"#,
            r#"{"instances":[[1,2],]}"#,
            r#"{"instances":[[01,2]]}"#,
            r#"{"instances":[[1.,2]]}"#,
            r#"{"instances":[[.5,2]]}"#,
            r#"{"instances":[[+1,2]]}"#,
            r#"{"instances":[[-,2]]}"#,
            r#"{"instances":[[1e2,2]]}"#,
            r#"{"instances":[[1.5E2,2]]}"#,
            r#"{"instances":[[1.2345678901234567,2]]}"#,
            r#"{"instances":[[99999999999999999999999,2]]}"#,
            r#"{"instances":[[null,2]]}"#,
            r#"{"inputs":[[1,2]]}"#,
        ] {
            assert_eq!(under(text), None, "{text}");
        }
        let table = Schema::Table { columns: Vec::new() };
        assert_eq!(image(b"[]", &table, &mut Vec::new()), None);
    }

    #[test]
    fn numbers_are_those_of_the_json_reader() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let magnitude = 10_u64.pow(random(9) as u32);
            let whole = random(magnitude);
            let decimals = random(7) as usize;
            let sign = if random(2) == 0 { "" } else { "-" };
            let mut text = format!("{sign}{whole}");
            if decimals > 0 {
                text = format!("{text}.{:0decimals$}", random(10_u64.pow(decimals as u32)));
            }
            let read = under(&format!("{{\"instances\":[[{text},0]]}}")).expect("plain");
            let expected: f64 = serde_json::from_str(&text).expect("a number");
            assert_eq!(read[0].to_bits(), (expected as f32).to_bits(), "{text}");
        }
    }
}
