//! The convolutional network.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Two blocks of 3x3 convolution, ReLU and 2x2 max pooling, then one hidden dense layer.
#[derive(Module, Debug)]
pub struct Cnn {
    pub(super) convolutions: Vec<Conv2d>,
    pub(super) layers: Vec<Linear>,
    pool: MaxPool2d,
    dropout: Dropout,
    #[module(skip)]
    image: [usize; 3],
}

impl Cnn {
    /// `image` is `[height, width, channels]`.
    pub(super) fn new(
        image: [usize; 3],
        filters: [usize; 2],
        hidden: usize,
        classes: usize,
        dropout: f64,
        device: &Device,
    ) -> Self {
        let [height, width, channels] = image;
        let convolution = |input, output| {
            Conv2dConfig::new([input, output], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let flat = (height / 4) * (width / 4) * filters[1];
        Self {
            convolutions: vec![convolution(channels, filters[0]), convolution(filters[0], filters[1])],
            layers: vec![
                LinearConfig::new(flat, hidden).init(device),
                LinearConfig::new(hidden, classes).init(device),
            ],
            pool: MaxPool2dConfig::new([2, 2]).init(),
            dropout: DropoutConfig::new(dropout).init(),
            image,
        }
    }

    pub(super) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let [height, width, channels] = self.image;
        let batch = inputs.dims()[0];
        // Samples come with channels last, burn convolves with channels first.
        let images = if channels == 1 {
            inputs.reshape([batch, 1, height, width])
        } else {
            inputs.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
        };
        let features = self
            .convolutions
            .iter()
            .fold(images, |images, layer| self.pool.forward(relu(layer.forward(images))));
        let flat = self.dropout.forward(features.flatten::<2>(1, 3));
        let hidden = self.dropout.forward(relu(self.layers[0].forward(flat)));
        self.layers[1].forward(hidden)
    }
}
