//! The little of an ELF file that decides whether it can run in an empty image, on which processor, and what links it.

use crate::project::Architecture;

/// Machine numbers of the ELF header.
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// Object file types: an executable at a fixed address, and one (or a library) at any address.
const EXECUTABLE: u16 = 2;
const POSITION_INDEPENDENT: u16 = 3;
/// Type of the program header that names the dynamic loader.
const INTERPRETER: u32 = 3;

/// A file that cannot run in an empty image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForScratch {
    /// No executable, or a damaged one.
    #[error("it is no 64-bit Linux executable (ELF, little-endian)")]
    NotAnExecutable,
    /// An executable for a processor that images are not made for.
    #[error("it is for ELF machine {0}, and images are made for amd64 and arm64")]
    Machine(u16),
    /// An executable that a loader has to link first.
    #[error("it is dynamically linked, and an image without a libc cannot run it")]
    Dynamic,
}

/// The processor of an executable that needs nothing but a Linux kernel.
///
/// # Errors
///
/// [`NotForScratch`] when it could not run in an empty image.
pub fn inspect(file: &[u8]) -> Result<Architecture, NotForScratch> {
    match read(file)? {
        (architecture, None) => Ok(architecture),
        (_, Some(_)) => Err(NotForScratch::Dynamic),
    }
}

/// The processor of an executable, and the loader that links it when it is started, unless it is linked already.
///
/// # Errors
///
/// [`NotForScratch`] when it is no executable that runs in an image.
pub fn read(file: &[u8]) -> Result<(Architecture, Option<String>), NotForScratch> {
    let broken = NotForScratch::NotAnExecutable;
    // Magic number, 64-bit, little-endian.
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return Err(broken);
    }
    let kind = u16_at(file, 16).ok_or(broken.clone())?;
    if kind != EXECUTABLE && kind != POSITION_INDEPENDENT {
        return Err(broken);
    }
    let architecture = match u16_at(file, 18).ok_or(broken.clone())? {
        X86_64 => Architecture::Amd64,
        AARCH64 => Architecture::Arm64,
        other => return Err(NotForScratch::Machine(other)),
    };
    let (Some(table), Some(size), Some(count)) = (offset_at(file, 32), u16_at(file, 54), u16_at(file, 56)) else {
        return Err(broken);
    };
    for index in 0..usize::from(count) {
        let header = table.checked_add(index * usize::from(size)).ok_or(broken.clone())?;
        match u32_at(file, header) {
            None => return Err(broken),
            Some(INTERPRETER) => return Ok((architecture, Some(text_of(file, header).unwrap_or_default()))),
            Some(_) => {}
        }
    }
    Ok((architecture, None))
}

/// The text that a program header leads to, without the zero at its end.
fn text_of(file: &[u8], header: usize) -> Option<String> {
    let start = offset_at(file, header.checked_add(8)?)?;
    let length = offset_at(file, header.checked_add(32)?)?;
    let bytes = file.get(start..start.checked_add(length)?)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn offset_at(file: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*file.get(at..)?.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers alone: a file header, and one program header of the given type.
    fn elf(kind: u16, machine: u16, program_header: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        file[64..68].copy_from_slice(&program_header.to_le_bytes());
        file
    }

    #[test]
    fn the_processor_is_read_from_the_header() {
        for (machine, architecture) in [(X86_64, Architecture::Amd64), (AARCH64, Architecture::Arm64)] {
            for kind in [EXECUTABLE, POSITION_INDEPENDENT] {
                assert_eq!(inspect(&elf(kind, machine, 1)), Ok(architecture));
            }
        }
        assert_eq!(inspect(&elf(EXECUTABLE, 243, 1)), Err(NotForScratch::Machine(243)));
    }

    #[test]
    fn a_dynamic_executable_is_told_from_a_static_one() {
        assert_eq!(
            inspect(&elf(POSITION_INDEPENDENT, X86_64, INTERPRETER)),
            Err(NotForScratch::Dynamic)
        );
    }

    #[test]
    fn the_loader_is_named() {
        let mut file = elf(POSITION_INDEPENDENT, X86_64, INTERPRETER);
        let (start, name) = (file.len() as u64, b"/lib/ld.so\0");
        file[72..80].copy_from_slice(&start.to_le_bytes());
        file[96..104].copy_from_slice(&(name.len() as u64).to_le_bytes());
        file.extend(name);
        assert_eq!(read(&file), Ok((Architecture::Amd64, Some("/lib/ld.so".to_owned()))));
        assert_eq!(read(&elf(EXECUTABLE, X86_64, 1)), Ok((Architecture::Amd64, None)));
    }

    #[test]
    fn what_is_no_whole_executable_is_refused() {
        let whole = elf(EXECUTABLE, X86_64, 1);
        for length in 0..=64 {
            assert_eq!(
                inspect(&whole[..length]),
                Err(NotForScratch::NotAnExecutable),
                "{length}"
            );
        }
        assert_eq!(inspect(&elf(1, X86_64, 1)), Err(NotForScratch::NotAnExecutable));
        assert_eq!(inspect(b"#!/bin/sh\n"), Err(NotForScratch::NotAnExecutable));
        let mut far = whole;
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(inspect(&far), Err(NotForScratch::NotAnExecutable));
    }
}
