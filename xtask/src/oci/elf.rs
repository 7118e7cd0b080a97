//! Which shared libraries programs need, read by binutils' `readelf`, which comes with the C compiler and reads the programs of other machines too.
//!
//! Invariant: nothing is executed, unlike with `ldd`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// What a set of programs asks the dynamic linker for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// File names, as `libz.so.1`.
    pub(super) libraries: BTreeSet<String>,
    /// Paths, as `/lib64/ld-linux-x86-64.so.2`.
    pub(super) interpreters: BTreeSet<String>,
}

/// Whether a file begins as an ELF file does.
pub(super) fn is_elf(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.take(4).read_to_end(&mut magic).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(magic == b"\x7fELF")
}

/// What these ELF files need directly.
pub(super) fn needs(files: &[PathBuf]) -> Result<Needs> {
    if files.is_empty() {
        return Ok(Needs::default());
    }
    let output = Command::new("readelf")
        .args(["--dynamic", "--program-headers", "--wide"])
        .args(files)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run readelf: install binutils")?;
    if !output.status.success() {
        bail!("readelf failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<Needs> {
    let mut needs = Needs::default();
    for line in text.lines() {
        if line.contains("(NEEDED)") {
            let name = between(line, '[', ']').with_context(|| format!("readelf said {line:?}"))?;
            needs.libraries.insert(name.to_owned());
        } else if let Some((_, rest)) = line.split_once("[Requesting program interpreter: ") {
            needs.interpreters.insert(rest.trim_end_matches(']').to_owned());
        }
    }
    Ok(needs)
}

fn between(line: &str, open: char, close: char) -> Option<&str> {
    Some(line.split_once(open)?.1.split_once(close)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_what_readelf_prints() {
        let text = "\nFile: /usr/bin/git\n  INTERP  0x318\n      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n\
            Dynamic section at offset 0x2 contains 29 entries:\n 0x0000000000000001 (NEEDED)             Shared library: [libz.so.1]\n \
            0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n 0x000000000000000e (SONAME) Library soname: [x.so]\n";
        let needs = parse(text).unwrap();
        assert_eq!(needs.libraries.iter().collect::<Vec<_>>(), ["libc.so.6", "libz.so.1"]);
        assert_eq!(needs.interpreters.iter().collect::<Vec<_>>(), ["/lib64/ld-linux-x86-64.so.2"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn text_is_not_elf_and_a_program_is() {
        assert!(!is_elf(Path::new("/etc/passwd")).unwrap());
        assert!(is_elf(&std::env::current_exe().unwrap()).unwrap());
        assert!(!is_elf(Path::new("/dev/null")).unwrap());
    }
}
