//! `volutus serve`: answers over HTTP, and carries out what is approved when it is due.
//!
//! Work is done by one task per server, which is one per cloud ([`worker`]); the API hands what it is
//! asked for to it ([`works`]). Everything else is in the store, as with every other command.

mod clock;
pub mod firing;
mod hands;
mod looks;
#[cfg(test)]
mod tests;
mod told;
mod worker;
mod works;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle as Listening;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use volutus_openstack::CloudConfig;
use volutus_runtime::interrupts;
use volutus_server::{Access, Api, FleetLock, Keystone, Peer, People, Tls, listen, router};
use volutus_store::Store;

use self::clock::Clock;
use self::firing::Deeds;
use self::hands::OnCloud;
use self::looks::{FIRST, Looker, Looks, PERIOD};
use self::told::Told;
use self::worker::{LOOK, Worker};
use crate::args::ServeArgs;
use crate::commands::glances::Glances;
use crate::context::Context;
use crate::error::{CliError, Kind, Result};

/// Orders that may wait for the worker; it answers each at once while a run is under way.
const ORDERS_MAX: usize = 16;

/// How long requests that are being answered may take to end. Who follows events is cut off.
const END_LIMIT: Duration = Duration::from_secs(3);

/// Serves until a signal ends it.
pub async fn run(mut context: Context, args: &ServeArgs) -> Result<()> {
    // A log is no place for a live display.
    context.no_progress = true;
    let context = Arc::new(context);
    let store = context.store()?;
    let alone = Alone::hold(&context)?;
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    let clock = Clock::new(args.schedule_clock.clone())?;
    let glances = Arc::new(Glances::default());
    let looks = args.releases.as_deref().map(|path| Looks::read(&context, path)).transpose()?.map(Arc::new);
    let works = works::ByOrders {
        context: context.clone(),
        windows: args.windows.clone(),
        clock: clock.clone(),
        glances: glances.clone(),
        looks: looks.clone(),
        orders,
    };
    let tls = tls(args);
    let keystone = tls.as_ref().map(|_| keystone(&context)).transpose()?;
    let mut access = Access::new(args.group.clone(), keystone, args.four_eyes);
    if let Some(path) = &args.people {
        access.people = people(path)?;
    }
    let slots = context.reboot.hosts.at_once.of(context.inventory.hosts.len());
    let fleet_lock = args.fleet_lock.then(|| FleetLock { slots: u32::try_from(slots).unwrap_or(u32::MAX) });
    let cloud = context.inventory.name.clone();
    let router = router(Api::new(store.clone(), cloud, Arc::new(works), access, fleet_lock));

    let (stop, stopped) = watch::channel(false);
    let mut signals = interrupts().map_err(|error| {
        CliError::new(Kind::Internal, "serve", "signals cannot be received").because(&error)
    })?;
    tokio::spawn(async move {
        if signals.recv().await.is_some() {
            let _nobody_waits = stop.send(true);
        }
    });
    let at = args.socket.display();
    let (listener, socket) = listen(&args.socket, args.group.as_deref()).map_err(|error| {
        CliError::refused("cannot-listen", format!("could not listen at {at}")).because(&error).hint(
            "Name another path with --socket; its directory has to exist, and nobody else may answer there.",
        )
    })?;
    let local = router.clone().into_make_service_with_connect_info::<Peer>();
    let local = tokio::spawn(async move { axum::serve(listener, local).await });
    let link = Link::leave(&context, &args.socket)?;
    let remote = tls.map(|tls| serve_tls(tls, router)).transpose()?;
    anstream::eprintln!("cloud {} is served at {at}", context.inventory.name);

    let looking = looks.map(|looks| look(&context, &store, looks, &glances, stopped.clone())).transpose()?;
    let worker = Worker {
        hands: OnCloud::new(context.clone(), store.clone()),
        clock,
        windows: args.windows.clone(),
        glances,
        orders: received,
        stopped,
        look: LOOK,
        deeds: Deeds::of(&context, &store),
        told: Told::new(context.clone(), store.clone()),
        said: BTreeMap::new(),
        context,
        store,
    };
    worker.work().await;
    local.abort();
    if let Some((handle, task)) = remote {
        handle.graceful_shutdown(Some(END_LIMIT));
        end(task).await;
    }
    if let Some(looking) = looking
        && looking.await.is_err()
    {
        tracing::warn!("the looks for new releases broke off");
    }
    drop((link, socket, alone));
    Ok(())
}

/// Looks for new releases, on a thread of its own: hashing what wheels install holds nobody else up there.
fn look(
    context: &Arc<Context>,
    store: &Store,
    looks: Arc<Looks>,
    glances: &Arc<Glances>,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>> {
    let log = Box::new(|text: &str| anstream::eprintln!("{text}"));
    let (context, store, glances) = (context.clone(), store.clone(), glances.clone());
    let looker = Looker::new(context, store, Clock::Machine, looks, glances, log)?;
    let runtime = Handle::current();
    Ok(tokio::task::spawn_blocking(move || runtime.block_on(looker.work(stopped, FIRST, PERIOD))))
}

/// That this is the only server of a cloud: a second one would begin, pause and note the same runs. The kernel
/// takes the lock back when the process ends, however it does.
struct Alone {
    _locked: File,
}

impl Alone {
    fn hold(context: &Context) -> Result<Self> {
        let path = context.server_lock();
        let unusable = |error: &dyn std::error::Error| {
            CliError::new(Kind::Internal, "store", format!("could not lock {}", path.display()))
                .because(error)
        };
        let file = File::options().create(true).append(true).open(&path).map_err(|error| unusable(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _locked: file }),
            Err(TryLockError::WouldBlock) => {
                let cloud = &context.inventory.name;
                Err(CliError::refused(
                    "served-already",
                    format!("another server keeps cloud {cloud} already"),
                )
                .hint(format!("One process per cloud serves; `fuser {}` tells which does.", path.display())))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&error)),
        }
    }
}

/// The link in the state directory by which the command line finds the server; gone with it.
struct Link(PathBuf);

impl Link {
    fn leave(context: &Context, socket: &Path) -> Result<Self> {
        let link = context.server_link();
        let left = || {
            let socket = std::fs::canonicalize(socket)?;
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(socket, &link)
        };
        left().map_err(|error| {
            let message = format!("could not leave a link to the socket at {}", link.display());
            CliError::new(Kind::Internal, "cannot-listen", message).because(&error)
        })?;
        Ok(Self(link))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, "the link to the socket was not removed");
        }
    }
}

/// What a listener says at its end that nobody has asked for.
async fn end(task: JoinHandle<std::io::Result<()>>) {
    match task.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the listener"),
        Err(error) => tracing::warn!(%error, "the listener broke off"),
    }
}

fn tls(args: &ServeArgs) -> Option<Tls> {
    let (listen, certificate, key) = (args.tls.listen?, args.tls.certificate.clone()?, args.tls.key.clone()?);
    Some(Tls { listen, certificate, key })
}

type Remote = (Listening<SocketAddr>, JoinHandle<std::io::Result<()>>);

/// Listens at the network; that it cannot is told at once.
fn serve_tls(tls: Tls, router: Router) -> Result<Remote> {
    for path in [&tls.certificate, &tls.key] {
        std::fs::metadata(path).map_err(|error| {
            CliError::refused("cannot-listen", format!("could not read {}", path.display())).because(&error)
        })?;
    }
    let handle = Listening::new();
    let its = handle.clone();
    let task = tokio::spawn(async move {
        let served = tls.serve(router, its).await;
        if let Err(error) = &served {
            tracing::error!(%error, address = %tls.listen, "nobody is answered from the network");
        }
        served
    });
    Ok((handle, task))
}

/// Which names are one person's.
fn people(path: &Path) -> Result<People> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::refused("no-people", format!("could not read {}", path.display())).because(&error)
    })?;
    People::parse(&text).map_err(|error| {
        CliError::refused("malformed-people", format!("{}: {error}", path.display()))
            .hint("docs/operating/serve.md shows its form.")
    })
}

/// The keystone of the cloud, as the operator's entry of clouds.yaml names it.
fn keystone(context: &Context) -> Result<Keystone> {
    let unusable = |error: &dyn std::error::Error| {
        CliError::new(Kind::Cloud, "credentials", "keystone cannot be asked about tokens").because(error)
    };
    let credentials = &context.inventory.credentials;
    let clouds = credentials.clouds_yaml.as_ref().map(|path| context.base().join(path));
    let config =
        CloudConfig::load(clouds.as_deref(), &credentials.operator).map_err(|error| unusable(&error))?;
    let pem = config.cacert.as_ref().map(std::fs::read).transpose().map_err(|error| unusable(&error))?;
    Keystone::new(&config.auth_url, pem.as_deref()).map_err(|error| unusable(&error))
}
