//! The user's choice of a device: the processor, or the hardware decoders (NVDEC) of an NVIDIA GPU.
//!
//! The choice for a group of frames is left to `Devices`, the driver to `ffi`.

use std::fmt;
use std::str::FromStr;

use ffi::{Gpu, GpuInfo};

use crate::error::{ErrorKind, Result};

/// The user's choice of a device: automatic, the processor, or one GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the processor.
    #[default]
    Cpu,
    /// The device that is faster according to the cost model; the processor if there is no GPU.
    Auto,
    /// This GPU, counted from 0, for all streams that it can decode; the processor for the rest.
    Nvdec(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    /// `auto`, `cpu`, `nvdec` or `nvdec:N`.
    fn from_str(text: &str) -> std::result::Result<DeviceChoice, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(DeviceChoice::Auto),
            None if text == "cpu" => Ok(DeviceChoice::Cpu),
            None if text == "nvdec" => Ok(DeviceChoice::Nvdec(0)),
            Some(("nvdec", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(DeviceChoice::Nvdec).map_err(|_| format!("{number:?} is not the number of a GPU"))
            }
            _ => Err("the device must be auto, cpu, nvdec or nvdec:N".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Cpu => formatter.write_str("cpu"),
            DeviceChoice::Auto => formatter.write_str("auto"),
            DeviceChoice::Nvdec(ordinal) => write!(formatter, "nvdec:{ordinal}"),
        }
    }
}

/// A choice, and the GPU that was opened for it.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub(crate) choice: DeviceChoice,
    pub(crate) gpu: Option<Gpu>,
    unavailable_reason: Option<String>,
}

impl Device {
    /// Opens the chosen GPU: loads the driver and retains the GPU's primary context, which takes some hundred megabytes
    /// of its memory.
    ///
    /// # Errors
    /// `Device` if a chosen GPU cannot be opened; with `Auto` that is no error, see [`Device::unavailable_reason`].
    pub fn open(choice: DeviceChoice) -> Result<Device> {
        let ordinal = match choice {
            DeviceChoice::Cpu => return Ok(Device::default()),
            DeviceChoice::Auto => 0,
            DeviceChoice::Nvdec(ordinal) => ordinal,
        };
        match Gpu::open(ordinal) {
            Ok(gpu) => Ok(Device { choice, gpu: Some(gpu), unavailable_reason: None }),
            Err(error) if choice == DeviceChoice::Auto => {
                Ok(Device { choice, gpu: None, unavailable_reason: Some(error.to_string()) })
            }
            Err(error) => Err(ErrorKind::Device(error.to_string()).into()),
        }
    }

    /// The choice that the device was opened for.
    pub fn choice(&self) -> DeviceChoice {
        self.choice
    }

    /// The opened GPU; `None` if the processor decodes everything.
    pub fn info(&self) -> Option<GpuInfo> {
        self.gpu.as_ref().map(Gpu::info)
    }

    /// The reason why no GPU is open, if one was tried.
    pub fn unavailable_reason(&self) -> Option<&str> {
        self.unavailable_reason.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn devices_have_names() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("nvdec"), Ok(DeviceChoice::Nvdec(0)));
        assert_eq!(read("nvdec:3").map(|choice| choice.to_string()), Ok("nvdec:3".to_owned()));
        for wrong in ["", "gpu", "nvdec:", "nvdec:-1", "nvdec:+1", "nvdec:99999999999", "cpu:0", "NVDEC"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
