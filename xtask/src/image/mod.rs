//! `cargo xtask image`: a minimal OCI image of one static `kubeop`, made without a container engine.
//!
//! Invariant: the same commit, toolchain and Debian packages give the same image digest.

mod binary;
mod bom;
mod contents;
mod packages;
mod source;
pub(crate) mod target;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::source::Source;
pub(crate) use self::{binary::Profile, contents::Variant};
use crate::{
    environment,
    oci::{
        archive,
        config::Platform,
        layer::Packing,
        layout::{Building, Layout},
        push,
    },
    progress,
    step::Runner,
    supervise::lifeline,
};

/// Arguments of `image`.
#[derive(Args)]
pub(crate) struct Options {
    /// How the binary is compiled.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// What the image holds beside the binary.
    #[arg(long, value_enum, default_value = "plain")]
    variant: Variant,
    /// `linux/amd64`, `linux/arm64`, or both with a comma between; this machine's if not given.
    #[arg(long, value_delimiter = ',', value_parser = Platform::parse)]
    platform: Vec<Platform>,
    /// A static executable of the only platform that is built already, instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the image goes [default: target/image].
    #[arg(long)]
    output: Option<PathBuf>,
    /// Also push it to this registry, which speaks plain HTTP, as in `127.0.0.1:5000`.
    #[arg(long, value_name = "ADDRESS")]
    push: Option<SocketAddr>,
}

/// What to make.
pub(crate) struct Request<'a> {
    pub(crate) profile: Profile,
    pub(crate) variant: Variant,
    pub(crate) platforms: &'a [Platform],
    /// An executable for the only platform that is built already.
    pub(crate) binary: Option<&'a Path>,
    pub(crate) output: &'a Path,
}

/// Makes an image as the command line says.
pub(crate) fn run(options: &Options) -> Result<()> {
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    let mut platforms = options.platform.clone();
    platforms.sort();
    platforms.dedup();
    if platforms.is_empty() {
        platforms.push(host()?);
    }
    let output = match &options.output {
        Some(given) => std::path::absolute(given).with_context(|| format!("cannot use {}", given.display()))?,
        None => target::root()?.join("image"),
    };
    let request = Request {
        profile: options.profile,
        variant: options.variant,
        platforms: &platforms,
        binary: options.binary.as_deref(),
        output: &output,
    };
    let layout = build(&runner, &request)?;
    if let Some(address) = options.push {
        push(&layout, address)?;
    }
    println!("{}", layout.path.display());
    Ok(())
}

/// The platform images for this machine have.
pub(crate) fn host() -> Result<Platform> {
    Platform::host().with_context(|| {
        format!("there is no image for {}: say --platform linux/amd64 or linux/arm64", std::env::consts::ARCH)
    })
}

/// Compiles (unless the binary is given), packs, and writes below `output`: the layout, the same as one archive, and a bill of materials per platform.
pub(crate) fn build(runner: &Runner<'_>, request: &Request<'_>) -> Result<Layout> {
    if request.binary.is_some() && request.platforms.len() != 1 {
        bail!("a given binary is for one platform");
    }
    let source = Source::read()?;
    let mut executables = Vec::new();
    for platform in request.platforms {
        executables.push(match request.binary {
            Some(given) => given.to_owned(),
            None => binary::build(runner, request.profile, *platform)?,
        });
    }

    let start = Instant::now();
    let name = request.variant.name(&source);
    progress::heading(&format!("image {name}"));
    fs::create_dir_all(request.output).with_context(|| format!("cannot create {}", request.output.display()))?;
    let stem = format!("kubeop-{}", name.tag);
    let packing = match request.profile {
        Profile::Release => Packing::Small,
        Profile::Dev => Packing::Fast,
    };
    let mut building = Building::begin(&request.output.join(&stem), source.epoch)?;
    for (platform, executable) in request.platforms.iter().zip(&executables) {
        let stripped = request.output.join(format!("{stem}-{}.stripped", platform.architecture()));
        binary::strip(executable, *platform, &stripped)?;
        let (base, packages) = contents::base(request.profile, request.variant, *platform)?;
        let layers = [building.layer(&base, packing)?, building.layer(&contents::binary(&stripped)?, packing)?];
        fs::remove_file(&stripped).context("cannot remove the stripped copy")?;
        let image = building.image(&contents::config(*platform, &source, &name), &layers)?;
        let bom = bom::document(*platform, &source, &packages)?;
        building.attach(&image, bom::MEDIA_TYPE, &bom)?;
        let beside = request.output.join(format!("{stem}-{}.cdx.json", platform.architecture()));
        fs::write(&beside, &bom).with_context(|| format!("cannot write {}", beside.display()))?;
        let size: u64 = layers.iter().map(|layer| layer.size).sum();
        progress::note(&format!("linux/{}: {} MiB in {} layers", platform.architecture(), size >> 20, layers.len()));
    }
    let layout = building.finish(name)?;
    archive::write(&layout, &request.output.join(format!("{stem}.tar")), source.epoch)?;
    progress::note(&format!("{} in {}", layout.top.digest, progress::since(start)));
    Ok(layout)
}

/// Pushes it to a registry of this machine, under the repository's path without the host: `kubeop/kubeop`.
pub(crate) fn push(layout: &Layout, address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let path = layout.name.repository.split_once('/').map_or("", |(_, path)| path);
    push::push(layout, address, path).with_context(|| format!("cannot push {} to {address}", layout.name))?;
    progress::note(&format!("pushed to {address}/{path}:{} in {}", layout.name.tag, progress::since(start)));
    Ok(())
}
