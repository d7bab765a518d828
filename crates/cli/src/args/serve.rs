//! What is said to `volutus serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// `volutus serve`
#[derive(Debug, Args)]
#[command(
    after_help = "At the Unix socket root, the user that the server runs as and the members of --group may do \
        everything. Over TLS keystone says who calls: the roles volutus_reader, volutus_operator and \
        volutus_approver. A signal ends it; a run that is under way pauses at its next safe point, and goes on when \
        the server is started again."
)]
pub struct ServeArgs {
    /// The Unix socket to answer at.
    #[arg(long, value_name = "PATH", env = "VOLUTUS_SOCKET", default_value = "/run/volutus/volutus.sock")]
    pub socket: PathBuf,
    /// The group whose members may use the socket.
    #[arg(long, value_name = "NAME", env = "VOLUTUS_GROUP")]
    pub group: Option<String>,
    /// Refuse an approval by the author of the plan.
    #[arg(long, env = "VOLUTUS_FOUR_EYES")]
    pub four_eyes: bool,
    /// Which names are one person's, for --four-eyes (TOML): docs/operating/serve.md.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_PEOPLE")]
    pub people: Option<PathBuf>,
    /// Give slots to hosts that reboot themselves (FleetLock), as many as [reboot.hosts] at_once of
    /// the policy allows.
    #[arg(long, env = "VOLUTUS_FLEET_LOCK")]
    pub fleet_lock: bool,
    /// Windows and freezes; see `volutus schedule list`.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_WINDOWS")]
    pub windows: Option<PathBuf>,
    /// Look for new releases and lock what is found: how often, and where (TOML); see docs/operating/releases.md.
    #[arg(long, value_name = "FILE", env = "VOLUTUS_RELEASES")]
    pub releases: Option<PathBuf>,
    /// For tests: a file that holds the time by which schedules are decided, and by which nothing else
    /// is done. Only the user that the server runs as may write it.
    #[arg(long, value_name = "FILE")]
    pub schedule_clock: Option<PathBuf>,
    /// Answer over TLS as well.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// The way in from the network.
#[derive(Debug, Args)]
#[command(next_help_heading = "From the network")]
pub struct TlsArgs {
    /// The address to answer at.
    #[arg(long = "tls-listen", value_name = "ADDRESS:PORT", requires_all = ["certificate", "key"])]
    pub listen: Option<SocketAddr>,
    /// The chain of certificates (PEM).
    #[arg(long = "tls-certificate", value_name = "FILE", requires = "listen")]
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long = "tls-key", value_name = "FILE", requires = "listen")]
    pub key: Option<PathBuf>,
}
