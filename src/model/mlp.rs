//! The dense network.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Dense layers with ReLU, dropout after each hidden one.
#[derive(Module, Debug)]
pub struct Mlp {
    pub(super) layers: Vec<Linear>,
    dropout: Dropout,
}

impl Mlp {
    pub(super) fn new(input: usize, hidden: &[usize], classes: usize, dropout: f64, device: &Device) -> Self {
        let sizes: Vec<usize> = std::iter::once(input)
            .chain(hidden.iter().copied())
            .chain(std::iter::once(classes))
            .collect();
        Self {
            layers: sizes
                .windows(2)
                .map(|pair| LinearConfig::new(pair[0], pair[1]).init(device))
                .collect(),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    pub(super) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let Some((last, hidden)) = self.layers.split_last() else {
            return inputs;
        };
        let activations = hidden.iter().fold(inputs, |activations, layer| {
            self.dropout.forward(relu(layer.forward(activations)))
        });
        last.forward(activations)
    }
}
