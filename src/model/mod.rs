//! The networks: from an [`Architecture`] to a burn module that maps a batch of encoded inputs to logits, and its
//! weights in and out of safetensors.
//!
//! A model knows no file names, no preprocessing and no training loop. It is the same module in training (on an autodiff
//! device) and in the server (on a plain one), so there is nothing to convert between them.

mod cnn;
mod mlp;
mod weights;

pub use weights::{WeightsError, from_safetensors, to_safetensors};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Weights of the largest network that is built: 400 MB, and four times that in training.
pub const MOST_WEIGHTS: usize = 100_000_000;

/// The kind of network and its sizes, without what the data decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelConfig {
    /// Dense layers with ReLU, dropout after each hidden one.
    Mlp {
        /// Neurons of each hidden layer.
        hidden: Vec<usize>,
        /// Share of activations that training drops, in `[0, 1)`.
        dropout: f64,
    },
    /// Two blocks of 3x3 convolution, ReLU and 2x2 max pooling, then one hidden dense layer.
    Cnn {
        /// Channels of the two blocks.
        filters: [usize; 2],
        /// Neurons of the hidden dense layer.
        hidden: usize,
        /// Share of activations that training drops before each dense layer, in `[0, 1)`.
        dropout: f64,
    },
}

/// All that is needed to build the network again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The network.
    pub model: ModelConfig,
    /// Values of one encoded input: `[width]` for a table, `[height, width, channels]` for an image.
    pub input: Vec<usize>,
    /// Classes, so logits of one answer.
    pub classes: usize,
}

/// A network with its weights.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one model a process: the size of the enum is of no interest
pub enum Model {
    /// Dense.
    Mlp(mlp::Mlp),
    /// Convolutional.
    Cnn(cnn::Cnn),
}

impl Architecture {
    /// Values of one encoded input.
    pub fn input_width(&self) -> usize {
        self.input.iter().product()
    }

    /// Weights of the network.
    pub fn weights(&self) -> usize {
        let dense = |sizes: &[usize]| {
            sizes.windows(2).fold(0_usize, |sum, pair| {
                sum.saturating_add(pair[0].saturating_add(1).saturating_mul(pair[1]))
            })
        };
        match &self.model {
            ModelConfig::Mlp { hidden, .. } => {
                let mut sizes = vec![self.input_width()];
                sizes.extend(hidden);
                sizes.push(self.classes);
                dense(&sizes)
            }
            ModelConfig::Cnn { filters, hidden, .. } => {
                let [height, width, channels] = self.input[..] else {
                    return 0;
                };
                let convolution =
                    |input: usize, output: usize| input.saturating_mul(9).saturating_add(1).saturating_mul(output);
                let flat = (height / 4).saturating_mul(width / 4).saturating_mul(filters[1]);
                convolution(channels, filters[0])
                    .saturating_add(convolution(filters[0], filters[1]))
                    .saturating_add(dense(&[flat, *hidden, self.classes]))
            }
        }
    }

    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    ///
    /// A sentence that names the size that cannot be built.
    pub fn check(&self) -> Result<(), String> {
        let positive = |name: &str, size: usize| {
            if size == 0 {
                Err(format!("`{name}` has a size of 0"))
            } else {
                Ok(())
            }
        };
        let dropout = match &self.model {
            ModelConfig::Mlp { hidden, dropout } => {
                hidden.iter().try_for_each(|size| positive("hidden", *size))?;
                *dropout
            }
            ModelConfig::Cnn {
                filters,
                hidden,
                dropout,
            } => {
                filters.iter().try_for_each(|size| positive("filters", *size))?;
                positive("hidden", *hidden)?;
                let [height, width, _] = self.input[..] else {
                    return Err("a `cnn` reads images, and the data is a table".into());
                };
                if height < 4 || width < 4 {
                    return Err(format!(
                        "a `cnn` needs images of 4x4 pixels or more, and these are {width}x{height}"
                    ));
                }
                *dropout
            }
        };
        if !(0.0..1.0).contains(&dropout) {
            return Err(format!("`dropout` is `{dropout}`, and must be in [0, 1)"));
        }
        positive("input", self.input_width())?;
        if self.classes < 2 {
            return Err(format!(
                "the data has {} class, and a classifier needs two or more",
                self.classes
            ));
        }
        let weights = self.weights();
        if weights > MOST_WEIGHTS {
            return Err(format!(
                "it has {weights} weights, and up to {MOST_WEIGHTS} are trained"
            ));
        }
        Ok(())
    }

    /// Builds the network with fresh weights, drawn from the device's random generator.
    pub fn init(&self, device: &Device) -> Model {
        match &self.model {
            ModelConfig::Mlp { hidden, dropout } => Model::Mlp(mlp::Mlp::new(
                self.input_width(),
                hidden,
                self.classes,
                *dropout,
                device,
            )),
            ModelConfig::Cnn {
                filters,
                hidden,
                dropout,
            } => Model::Cnn(cnn::Cnn::new(
                [self.input[0], self.input[1], self.input[2]],
                *filters,
                *hidden,
                self.classes,
                *dropout,
                device,
            )),
        }
    }
}

impl Model {
    /// Logits `[batch, classes]` of encoded inputs `[batch, input width]`.
    pub fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Mlp(model) => model.forward(inputs),
            Self::Cnn(model) => model.forward(inputs),
        }
    }
}

/// A batch of encoded inputs, `values.len() / width` rows, as a tensor.
pub fn batch(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / width;
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;

    #[test]
    fn weights_are_counted_before_they_are_made() {
        let models = [
            ModelConfig::Mlp {
                hidden: vec![5, 4],
                dropout: 0.2,
            },
            ModelConfig::Cnn {
                filters: [2, 3],
                hidden: 6,
                dropout: 0.2,
            },
        ];
        for model in models {
            let architecture = Architecture {
                model,
                input: vec![9, 8, 3],
                classes: 3,
            };
            architecture.check().expect("can be built");
            assert_eq!(architecture.weights(), architecture.init(&Device::flex()).num_params());
        }
    }

    #[test]
    fn a_network_that_no_memory_holds_is_refused() {
        let architecture = Architecture {
            model: ModelConfig::Mlp {
                hidden: vec![99_999_999],
                dropout: 0.2,
            },
            input: vec![28, 28, 1],
            classes: 10,
        };
        let error = architecture.check().expect_err("too large");
        assert!(error.contains("79499999215 weights"), "{error}");
    }
}
