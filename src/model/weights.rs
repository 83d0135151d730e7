//! Weights as safetensors, under PyTorch's names and layouts: `layers.0.weight` is `[out, in]`, a convolution's weight
//! `[out, in, height, width]`, so that anything that reads safetensors can load them.

use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Architecture, Model};

/// Weights that do not fit the network they are loaded into.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A tensor that the network has and the file has not.
    #[error("tensor `{0}` is missing")]
    Absent(String),
    /// A tensor of another shape or type.
    #[error("tensor `{name}` is {found}, and the network has {expected}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape that the network needs.
        expected: String,
    },
    /// The device did not give the weights.
    #[error("the device did not give its weights: {0}")]
    Device(String),
}

/// The weights of a model as a safetensors file.
///
/// # Errors
///
/// [`WeightsError::Device`] when the device fails.
pub fn to_safetensors(model: &Model) -> Result<Vec<u8>, WeightsError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut push = |name: String, shape: Vec<usize>, data: TensorData| {
        let values = data
            .try_into_vec_as::<f32>()
            .map_err(|error| WeightsError::Device(error.to_string()))?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((name, shape, bytes));
        Ok::<(), WeightsError>(())
    };
    let (convolutions, layers) = parts(model);
    for (index, layer) in convolutions.iter().enumerate() {
        let weight = layer.weight.val();
        push(
            format!("convolutions.{index}.weight"),
            weight.dims().to_vec(),
            read(weight)?,
        )?;
        if let Some(bias) = &layer.bias {
            let bias = bias.val();
            push(format!("convolutions.{index}.bias"), bias.dims().to_vec(), read(bias)?)?;
        }
    }
    for (index, layer) in layers.iter().enumerate() {
        let weight = layer.weight.val().transpose();
        push(format!("layers.{index}.weight"), weight.dims().to_vec(), read(weight)?)?;
        if let Some(bias) = &layer.bias {
            let bias = bias.val();
            push(format!("layers.{index}.bias"), bias.dims().to_vec(), read(bias)?)?;
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map(|view| (name.clone(), view))
                .map_err(|error| WeightsError::Format(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize(views, None).map_err(|error| WeightsError::Format(error.to_string()))
}

/// Builds the network of `architecture` with the weights of a safetensors file.
///
/// # Errors
///
/// [`WeightsError`] when the file is damaged, or a tensor is missing or of another shape.
pub fn from_safetensors(bytes: &[u8], architecture: &Architecture, device: &Device) -> Result<Model, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format(error.to_string()))?;
    let mut model = architecture.init(device);
    let (convolutions, layers) = parts_mut(&mut model);
    for (index, layer) in convolutions.iter_mut().enumerate() {
        let shape = layer.weight.val().dims();
        let name = format!("convolutions.{index}.weight");
        layer.weight = Param::from_tensor(load(&file, &name, shape, device)?);
        if let Some(bias) = &mut layer.bias {
            let shape = bias.val().dims();
            let name = format!("convolutions.{index}.bias");
            *bias = Param::from_tensor(load(&file, &name, shape, device)?);
        }
    }
    for (index, layer) in layers.iter_mut().enumerate() {
        let [input, output] = layer.weight.val().dims();
        let name = format!("layers.{index}.weight");
        let weight: Tensor<2> = load(&file, &name, [output, input], device)?;
        // Back to rows of inputs in memory: the transposed view would be walked against its grain by every product.
        let data = read(weight.transpose())?;
        layer.weight = Param::from_tensor(Tensor::from_data(data, device));
        if let Some(bias) = &mut layer.bias {
            let shape = bias.val().dims();
            let name = format!("layers.{index}.bias");
            *bias = Param::from_tensor(load(&file, &name, shape, device)?);
        }
    }
    Ok(model)
}

fn parts(model: &Model) -> (&[Conv2d], &[Linear]) {
    match model {
        Model::Mlp(model) => (&[], &model.layers),
        Model::Cnn(model) => (&model.convolutions, &model.layers),
    }
}

fn parts_mut(model: &mut Model) -> (&mut [Conv2d], &mut [Linear]) {
    match model {
        Model::Mlp(model) => (&mut [], &mut model.layers),
        Model::Cnn(model) => (&mut model.convolutions, &mut model.layers),
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<TensorData, WeightsError> {
    tensor
        .try_into_data()
        .map_err(|error| WeightsError::Device(format!("{error:?}")))
}

fn load<const D: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    shape: [usize; D],
    device: &Device,
) -> Result<Tensor<D>, WeightsError> {
    let view = file.tensor(name).map_err(|_| WeightsError::Absent(name.into()))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(WeightsError::Shape {
            name: name.into(),
            found: format!("{:?} {:?}", view.dtype(), view.shape()),
            expected: format!("F32 {shape:?}"),
        });
    }
    let values: Vec<f32> = view
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

#[cfg(test)]
mod tests {
    use super::super::{ModelConfig, batch};
    use super::*;

    fn architecture(model: ModelConfig) -> Architecture {
        Architecture {
            model,
            input: vec![8, 8, 1],
            classes: 3,
        }
    }

    fn round_trip(model: ModelConfig) {
        let device = Device::flex();
        let architecture = architecture(model);
        let model = architecture.init(&device);
        let bytes = to_safetensors(&model).expect("serialise");
        let again = from_safetensors(&bytes, &architecture, &device).expect("load");
        let inputs: Vec<f32> = (0..128).map(|value| (value % 7) as f32 / 7.0).collect();
        let answer = |model: &Model| {
            model
                .forward(batch(inputs.clone(), 64, &device))
                .into_data()
                .try_to_vec_as::<f32>()
                .expect("floats")
        };
        assert_eq!(answer(&model), answer(&again));
        assert_eq!(bytes, to_safetensors(&again).expect("serialise"));
    }

    #[test]
    fn a_dense_network_keeps_its_answers_through_a_file() {
        round_trip(ModelConfig::Mlp {
            hidden: vec![5, 4],
            dropout: 0.2,
        });
    }

    #[test]
    fn a_convolutional_network_keeps_its_answers_through_a_file() {
        round_trip(ModelConfig::Cnn {
            filters: [2, 3],
            hidden: 6,
            dropout: 0.2,
        });
    }

    #[test]
    fn weights_of_another_network_are_refused_by_name() {
        let device = Device::flex();
        let small = architecture(ModelConfig::Mlp {
            hidden: vec![5],
            dropout: 0.0,
        });
        let large = architecture(ModelConfig::Mlp {
            hidden: vec![6],
            dropout: 0.0,
        });
        let bytes = to_safetensors(&small.init(&device)).expect("serialise");
        let error = from_safetensors(&bytes, &large, &device).expect_err("another shape");
        assert_eq!(
            error.to_string(),
            "tensor `layers.0.weight` is F32 [5, 64], and the network has F32 [6, 64]"
        );
        let error = from_safetensors(b"nonsense", &small, &device).expect_err("no file");
        assert!(matches!(error, WeightsError::Format(_)));
    }
}
