//! The state folder: one server at a time, one name, and what has to be true before anything is served.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    config::Config,
    credentials::CredentialsError,
    gateway::GatewayError,
    identity::AuthError,
    ids::{Epoch, names_an_instance},
    runtime::RuntimeError,
    sandbox::lifecycle::{
        prove::ProofError,
        start::{StartError as SandboxError, StartFailure},
    },
    store::StoreError,
};

/// Why the server can't start. Each is a sentence with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting can't work.
    #[error("{0}")]
    Setting(String),
    /// The address is taken or not ours.
    #[error("{setting}: can't listen on {address}: {source}")]
    Listen {
        /// The setting to change.
        setting: &'static str,
        /// What was tried.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The state folder can't be used.
    #[error("state.dir: can't use {}: {source}", path.display())]
    State {
        /// What was tried.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another server uses the state folder.
    #[error("state.dir: another greenroom uses {}; stop it, or give this one a folder of its own", .0.display())]
    InUse(PathBuf),
    /// Nobody could answer for what is done.
    #[error("audit.file: can't write {}: {source}", path.display())]
    Audit {
        /// What was tried.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Tokens or keys can't be read.
    #[error(transparent)]
    Auth(AuthError),
    /// Users' keys for model APIs can't be kept as the settings say.
    #[error(transparent)]
    Credentials(CredentialsError),
    /// The supervisor's program can't be used.
    #[error("sandbox.supervisor: {0}")]
    Supervisor(String),
    /// The way out to the model can't be made.
    #[error(transparent)]
    Gateway(GatewayError),
    /// What outlives the server can't be opened.
    #[error(transparent)]
    Store(StoreError),
    /// The engine's trouble.
    #[error("{}", with_remedy(.0))]
    Runtime(RuntimeError),
    /// The throw-away sandbox didn't work.
    #[error("{}", proof_remedy(.0))]
    Proof(ProofError),
    /// It worked, but isn't as closed as we asked for.
    #[error("{0}; `greenroom check` says more")]
    NotHardened(String),
}

fn with_remedy(error: &RuntimeError) -> String {
    match error {
        RuntimeError::Unreachable { .. } => {
            format!("{error}; start Docker or Podman, or set DOCKER_HOST to where it listens")
        }
        RuntimeError::NoImage { .. } => format!("{error}; build it with `make image`, or set --image"),
        RuntimeError::Deadline { .. } | RuntimeError::Refused { .. } => error.to_string(),
    }
}

fn proof_remedy(error: &ProofError) -> String {
    match error {
        ProofError::Runtime(error) | ProofError::Start(StartFailure { error: SandboxError::Runtime(error), .. }) => {
            with_remedy(error)
        }
        ProofError::Start(StartFailure { error: SandboxError::Link(link), .. }) => format!(
            "a throw-away sandbox started, but its supervisor did not reach us ({link}); the state folder must be on a file system \
             that the engine sees under the same path, and a server in a container needs the host's process ids (`pid: host`)"
        ),
        ProofError::Start(_) | ProofError::NoReport(_) => format!("a throw-away sandbox could not be made: {error}"),
    }
}

/// The state folder, locked.
#[derive(Debug)]
pub(super) struct House {
    pub(super) dir: PathBuf,
    pub(super) instance: String,
    /// Held for as long as we live; the kernel lets go when we die.
    _lock: fs::File,
}

impl House {
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let asked = &config.state.dir;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::State { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(asked).map_err(failed(asked))?;
        // The engine is told absolute paths.
        let dir = asked.canonicalize().map_err(failed(asked))?;
        let lock_path = dir.join("lock");
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| StartError::InUse(dir.clone()))?;
        let instance = match &config.runtime.instance {
            Some(name) => name.clone(),
            None => instance_of(&dir).map_err(failed(&dir))?,
        };
        if !names_an_instance(&instance) {
            return Err(StartError::Setting("runtime.instance: must match [A-Za-z0-9_-]{1,64}".to_owned()));
        }
        Ok(Self { dir, instance, _lock: lock })
    }

    pub(super) fn fault(&self, what: &str, source: io::Error) -> StartError {
        StartError::State { path: self.dir.join(what), source }
    }
}

/// The name of this server on its engine, made at the first start.
fn instance_of(dir: &Path) -> io::Result<String> {
    let path = dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = Epoch::random().as_str()[..12].to_owned();
            fs::write(&path, format!("{name}\n"))?;
            Ok(name)
        }
        Err(error) => Err(error),
    }
}
