//! The messages of the Open Inference Protocol, package `inference`, and of gRPC's health checks, by the numbers and the
//! types of their fields. `ServerLive`, `ServerReady` and `ServerMetadata` are asked with an empty message, which is `()`
//! here. What a message means is read elsewhere.

use std::collections::HashMap;

use prost::bytes::Bytes;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Enumeration, Message, Oneof};

/// Which model is meant: `ModelReady`, `ModelMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ModelRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty for any.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Yes or no: the answer of `ServerLive`, `ServerReady` and `ModelReady`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Truth {
    #[prost(bool, tag = "1")]
    pub holds: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ServerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, repeated, tag = "3")]
    pub extensions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub versions: Vec<String>,
    #[prost(string, tag = "3")]
    pub platform: String,
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<TensorMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct InferRequest {
    #[prost(string, tag = "1")]
    pub model_name: String,
    #[prost(string, tag = "2")]
    pub model_version: String,
    #[prost(string, tag = "3")]
    pub id: String,
    #[prost(map = "string, message", tag = "4")]
    pub parameters: HashMap<String, Parameter>,
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<InputTensor>,
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<RequestedOutput>,
    /// The elements of each input as bytes, or of none.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw_input_contents: Vec<Bytes>,
}

/// Its parameters (4) are hints to other servers.
#[derive(Clone, PartialEq, Message)]
pub struct InputTensor {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    pub contents: Option<TensorContents>,
}

/// Its parameters (2) are hints to other servers.
#[derive(Clone, PartialEq, Message)]
pub struct RequestedOutput {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct InferResponse {
    #[prost(string, tag = "1")]
    pub model_name: String,
    #[prost(string, tag = "2")]
    pub model_version: String,
    #[prost(string, tag = "3")]
    pub id: String,
    #[prost(map = "string, message", tag = "4")]
    pub parameters: HashMap<String, Parameter>,
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<OutputTensor>,
    /// The elements of each output as bytes, or of none.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub raw_output_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OutputTensor {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    pub contents: Option<TensorContents>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Parameter {
    #[prost(oneof = "ParameterChoice", tags = "1, 2, 3, 4, 5")]
    pub choice: Option<ParameterChoice>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ParameterChoice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(uint64, tag = "5")]
    Uint64(u64),
}

/// The elements of a tensor one by one, in the field of their kind; smaller numbers are in the field of 32 bits.
#[derive(Clone, PartialEq, Message)]
pub struct TensorContents {
    #[prost(bool, repeated, tag = "1")]
    pub bools: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    pub ints: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    pub int64s: Vec<i64>,
    #[prost(uint32, repeated, tag = "4")]
    pub uints: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    pub uint64s: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    pub floats: Vec<f32>,
    #[prost(double, repeated, tag = "7")]
    pub doubles: Vec<f64>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub texts: Vec<Vec<u8>>,
}

/// Whose health is asked after.
#[derive(Clone, PartialEq, Message)]
pub struct HealthRequest {
    /// Empty for the server's.
    #[prost(string, tag = "1")]
    pub service: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct HealthResponse {
    #[prost(enumeration = "Health", tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Health {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
}

impl InferRequest {
    /// How many tensors a request holds, with those that it asks for, before they are read: an empty one is two bytes in
    /// a message, and hundreds in memory.
    ///
    /// # Errors
    ///
    /// When the message is none.
    pub fn tensors(mut message: &[u8]) -> Result<usize, DecodeError> {
        let mut tensors = 0;
        while !message.is_empty() {
            let (number, kind) = decode_key(&mut message)?;
            skip_field(kind, number, &mut message, DecodeContext::default())?;
            tensors += usize::from((5..=7).contains(&number));
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Triton's client for Python writes: `SerializeToString(deterministic=True).hex()` of its own messages.
    const RAW: &str = "0a016d1201761a0169220d0a0774696d656f7574120210072a190a036167651204465033321a02020122080a017812031a01793207\
                       0a056c6162656c3a080000803f000000c0";
    const TYPED: &str = "2a442a420a020100120bffffffffffffffffff01011a0afeffffffffffffffff012201032a0a8080808080808080800132040000c0\
                         3f3a08000000000000d0bf4204726f6d65";
    const ANSWER: &str =
        "0a016d1201761a0169220d0a0664696765737412031a01642a160a056c6162656c120542595445531a01012a0342013732026162";
    const METADATA: &str = "0a016d1201761a017022160a01691204465033321a0bffffffffffffffffff01022a160a016f120542595445531a0affffffff\
                            ffffffffff01";

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte");
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    fn parameter(choice: ParameterChoice) -> Parameter {
        Parameter { choice: Some(choice) }
    }

    #[test]
    fn a_request_is_read_as_tritons_client_writes_it() {
        let request = InferRequest::decode(&bytes(RAW)[..]).expect("a request");
        let timeout = ("timeout".to_owned(), parameter(ParameterChoice::Int64(7)));
        let expected = InferRequest {
            model_name: "m".into(),
            model_version: "v".into(),
            id: "i".into(),
            parameters: HashMap::from([timeout]),
            inputs: vec![InputTensor {
                name: "age".into(),
                datatype: "FP32".into(),
                shape: vec![2, 1],
                contents: None,
            }],
            outputs: vec![RequestedOutput { name: "label".into() }],
            raw_input_contents: vec![Bytes::from_static(b"\0\0\x80\x3f\0\0\0\xc0")],
        };
        assert_eq!(request, expected);
        assert_eq!(InferRequest::tensors(&bytes(RAW)), Ok(3));
    }

    #[test]
    fn contents_are_read_in_every_kind() {
        let mut request = InferRequest::decode(&bytes(TYPED)[..]).expect("a request");
        let contents = request.inputs.pop().and_then(|input| input.contents);
        let expected = TensorContents {
            bools: vec![true, false],
            ints: vec![-1, 1],
            int64s: vec![-2],
            uints: vec![3],
            uint64s: vec![1 << 63],
            floats: vec![1.5],
            doubles: vec![-0.25],
            texts: vec![b"rome".to_vec()],
        };
        assert_eq!(contents, Some(expected));
    }

    #[test]
    fn answers_are_written_as_tritons_client_reads_them() {
        let answer = InferResponse {
            model_name: "m".into(),
            model_version: "v".into(),
            id: "i".into(),
            parameters: HashMap::from([("digest".to_owned(), parameter(ParameterChoice::Text("d".into())))]),
            outputs: vec![OutputTensor {
                name: "label".into(),
                datatype: "BYTES".into(),
                shape: vec![1],
                contents: Some(TensorContents {
                    texts: vec![b"7".to_vec()],
                    ..TensorContents::default()
                }),
            }],
            raw_output_contents: vec![b"ab".to_vec()],
        };
        assert_eq!(answer.encode_to_vec(), bytes(ANSWER));
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
        };
        let metadata = ModelMetadata {
            name: "m".into(),
            versions: vec!["v".into()],
            platform: "p".into(),
            inputs: vec![tensor("i", "FP32", &[-1, 2])],
            outputs: vec![tensor("o", "BYTES", &[-1])],
        };
        assert_eq!(metadata.encode_to_vec(), bytes(METADATA));
        let server = ServerMetadata {
            name: "n".into(),
            version: "1".into(),
            extensions: vec!["e".into()],
        };
        assert_eq!(server.encode_to_vec(), bytes("0a016e1201311a0165"));
        for (choice, hex) in [
            (ParameterChoice::Bool(true), "0801"),
            (ParameterChoice::Int64(-1), "10ffffffffffffffffff01"),
            (ParameterChoice::Double(0.5), "21000000000000e03f"),
            (ParameterChoice::Uint64(9), "2809"),
        ] {
            assert_eq!(parameter(choice).encode_to_vec(), bytes(hex));
        }
    }

    #[test]
    fn tensors_are_counted_before_they_are_read() {
        assert_eq!(InferRequest::tensors(&b"*\0".repeat(1000)), Ok(1000));
        assert_eq!(InferRequest::tensors(b""), Ok(0));
        assert!(InferRequest::tensors(b"*\x05").is_err(), "a tensor that is cut off");
        assert!(InferRequest::tensors(b"\xff\xff\xff").is_err(), "no key of a field");
    }
}
