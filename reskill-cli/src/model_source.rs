//! Where a pretrained model comes from: a folder, a file, or a name on the Hugging Face hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_kernels::Device;
use reskill_model::lora::Lora;
use reskill_model::{Pretrained, Transformer};

/// What a name on the hub begins with where a path could stand as well.
pub const HUB_PREFIX: &str = "hf:";

/// The name after [`HUB_PREFIX`].
#[must_use]
pub fn hub_name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(HUB_PREFIX)
}

/// The folder or file of a model on this machine; what the cache lacks of `hf:org/name[@revision]` is downloaded.
///
/// # Errors
/// One line that says what is not there.
pub fn locate(path: &Path) -> Result<PathBuf> {
    match hub_name(path) {
        Some(name) => Ok(download(name)?.0),
        None => Ok(path.to_path_buf()),
    }
}

/// [`locate`] for a command line, where `org/name` will do if there is no such path.
///
/// # Errors
/// As [`locate`].
pub fn locate_argument(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    let looks_like_name = text.contains('/') && !text.starts_with(['.', '/', '~']);
    if hub_name(path).is_some() || path.exists() || !looks_like_name {
        return locate(path);
    }
    let (found, _) = download(&text).with_context(|| {
        format!("{text}: there is no such file or folder, so it was looked for on the hub")
    })?;
    Ok(found)
}

/// The weights of a model on `device`, and an adapter beside them: that of the folder `adapter`, in PEFT's format.
///
/// # Errors
/// One line: what is missing or odd, or why the adapter is not for this model.
pub fn read(pretrained: &Pretrained, adapter: Option<&Path>, device: &Device) -> Result<Transformer> {
    // What is wrong with an adapter shows long before the weights of the model are read.
    let lora = adapter.map(|dir| read_adapter(pretrained, dir)).transpose()?;
    let mut model = pretrained.model_on(device)?;
    if let Some(lora) = lora {
        model.attach(lora)?;
    }
    Ok(model)
}

fn read_adapter(pretrained: &Pretrained, dir: &Path) -> Result<Lora> {
    if !dir.join("adapter_config.json").is_file() {
        bail!(
            "--adapter {}: no adapter_config.json is there; of a run that trained an adapter, give its policy/",
            dir.display()
        );
    }
    Lora::load(pretrained.config(), dir).context("--adapter")
}

/// `model.path` of a new run: a name on the hub with the commit that it means today, so that a run that is resumed goes on
/// with the same model.
///
/// # Errors
/// As [`locate`].
pub fn pinned(path: &Path) -> Result<PathBuf> {
    let Some(name) = hub_name(path) else { return Ok(path.to_path_buf()) };
    let (_, commit) = download(name).with_context(|| format!("`model.path` = {}", path.display()))?;
    let repo = name.split('@').next().unwrap_or(name);
    Ok(PathBuf::from(format!("{HUB_PREFIX}{repo}@{commit}")))
}

/// What other programs call the model: its name on the hub without the commit, or the path.
#[must_use]
pub fn public_name(path: &Path) -> String {
    match hub_name(path) {
        Some(name) => name.split('@').next().unwrap_or(name).to_string(),
        None => path.to_string_lossy().into_owned(),
    }
}

/// Where a model of the hub lies now, and its commit.
#[cfg(feature = "hub")]
fn download(name: &str) -> Result<(PathBuf, String)> {
    use reskill_model::pretrained::hub::{HubConfig, HubName, locate};

    let config = HubConfig::from_variables(|name| std::env::var(name).ok());
    let located = locate(&HubName::parse(name)?, &config, &mut Bars { bar: None })?;
    if located.may_be_old {
        crate::progress::print_line(&format!(
            "{name}: {} cannot be reached, using the copy of commit {}",
            config.endpoint,
            located.commit.get(..8).unwrap_or(&located.commit)
        ));
    }
    Ok((located.path, located.commit))
}

#[cfg(not(feature = "hub"))]
fn download(name: &str) -> Result<(PathBuf, String)> {
    anyhow::bail!("{name}: this program was built without the feature `hub`; give a folder or a .gguf file")
}

/// Progress of downloads, a bar a file.
#[cfg(feature = "hub")]
struct Bars {
    bar: Option<(crate::progress::Progress, u64)>,
}

#[cfg(feature = "hub")]
impl reskill_model::pretrained::hub::DownloadProgress for Bars {
    fn begin(&mut self, file: &str, bytes: u64) {
        // A download that goes on after it broke off begins again.
        self.end();
        self.bar = Some((crate::progress::Progress::new(file, "bytes", bytes, true), 0));
    }

    fn advance(&mut self, bytes: u64) {
        if let Some((bar, done)) = &mut self.bar {
            *done += bytes;
            bar.set(*done, "");
        }
    }

    fn end(&mut self) {
        if let Some((bar, _)) = self.bar.take() {
            bar.finish();
        }
    }
}
