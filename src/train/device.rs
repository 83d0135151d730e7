//! What training runs on.

use anyhow::Result;
use burn::tensor::Device;

use crate::backends;
use crate::problem::Problem;

/// A device by the name that `--device` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainDevice {
    /// The processor, through burn's flex backend.
    #[default]
    Cpu,
    /// A GPU, through wgpu.
    Wgpu,
    /// The processor, through burn's deprecated ndarray backend.
    Ndarray,
}

impl TrainDevice {
    /// As `--device` takes it and the bundle records it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Ndarray => "ndarray",
        }
    }

    /// How to open the device, without gradients.
    ///
    /// # Errors
    ///
    /// When this build has no such backend.
    pub fn backend(self) -> Result<fn() -> Device> {
        let built: Option<fn() -> Device> = match self {
            Self::Cpu => Some(Device::flex),
            Self::Wgpu => backends::WGPU,
            Self::Ndarray => backends::NDARRAY,
        };
        built.ok_or_else(|| {
            Problem::new(format!("this build of emberline has no device `{}`", self.name()))
                .hint(format!(
                    "build it with `cargo build --release --features {}`, or use `--device cpu`",
                    self.name()
                ))
                .into()
        })
    }
}
