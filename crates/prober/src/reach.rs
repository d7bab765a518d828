//! Reaching addresses of the data plane, again and again, from where Volutus runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use uuid::Uuid;
use volutus_model::inventory::{ReachBy, ReachTarget};

use crate::chains::{Context, Stage};
use crate::exchange::Recorder;

/// From one ping to the next: no gap is known more finely than this.
const PING_EVERY: Duration = Duration::from_millis(200);
/// From one connection to the next; every one costs the other side a session.
const CONNECT_EVERY: Duration = Duration::from_millis(500);
/// An answer that takes longer counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Answers are as long as what was sent, and an IPv4 header before it has at most 60 bytes.
const ANSWER_BYTES: usize = 128;

/// A target, and what it is reached with.
#[derive(Debug)]
pub(crate) struct Reach {
    target: ReachTarget,
    echo: Option<Echo>,
}

impl Reach {
    /// Opens what is needed, so that a lack is known before anything begins.
    pub(crate) fn open(target: &ReachTarget) -> io::Result<Self> {
        let echo = match target.how {
            ReachBy::Ping => Some(Echo::open(target.address)?),
            ReachBy::Tcp => None,
        };
        Ok(Self { target: target.clone(), echo })
    }

    /// Goes on until the prober begins to end. `working` is held as long.
    pub(crate) async fn keep(self, context: Arc<Context>, working: mpsc::Sender<()>) {
        let recorder = context.recorder.clone();
        let work = async {
            match self.echo {
                Some(echo) => ping(&recorder, &self.target, &echo).await,
                None => connect(&recorder, &self.target).await,
            }
        };
        tokio::select! {
            biased;
            () = context.reached(Stage::Ending) => {}
            () = work => {}
        }
        drop(working);
    }
}

async fn ping(recorder: &Recorder, target: &ReachTarget, echo: &Echo) {
    let operation = format!("ping {}", target.name);
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut waiting: BTreeMap<u16, Instant> = BTreeMap::new();
    let mut number = 0_u16;
    loop {
        tokio::select! {
            due = ticks.tick() => {
                let (late, open) = waiting.into_iter().partition(|(_, due)| due.elapsed() >= ANSWER_MAX);
                waiting = open;
                let late: BTreeMap<u16, Instant> = late;
                for due in late.into_values() {
                    recorder.record_reach(&operation, due, Some(format!("no answer in {ANSWER_MAX:?}"))).await;
                }
                number = number.wrapping_add(1);
                match echo.send(number).await {
                    Ok(()) => drop(waiting.insert(number, due)),
                    Err(error) => recorder.record_reach(&operation, due, Some(error.to_string())).await,
                }
            }
            answer = echo.receive() => match answer {
                Ok(number) => {
                    if let Some(due) = number.and_then(|number| waiting.remove(&number)) {
                        recorder.record_reach(&operation, due, None).await;
                    }
                }
                // A router's "unreachable" for a ping that is recorded when its time is over.
                Err(error) => tracing::debug!(%error, target = %target.name, "a ping was refused"),
            }
        }
    }
}

async fn connect(recorder: &Recorder, target: &ReachTarget) {
    let operation = format!("tcp {}", target.name);
    let address = SocketAddr::new(target.address, target.port.unwrap_or_default());
    let mut ticks = interval(CONNECT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let due = ticks.tick().await;
        let (recorder, operation) = (recorder.clone(), operation.clone());
        // The next one is due whether or not this one is answered.
        tokio::spawn(async move {
            let fault = match timeout(ANSWER_MAX, TcpStream::connect(address)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no connection in {ANSWER_MAX:?}")),
            };
            recorder.record_reach(&operation, due, fault).await;
        });
    }
}

/// ICMP echoes to one address.
#[derive(Debug)]
struct Echo {
    socket: UdpSocket,
    six: bool,
    /// Whether answers of IPv4 come with their IP header.
    with_header: bool,
    /// Carried by every echo, by which this prober knows its own.
    token: [u8; 16],
}

impl Echo {
    /// Uses the kernel's own sockets for pings where `net.ipv4.ping_group_range` has this user's
    /// group, and else a raw one, which needs `CAP_NET_RAW`.
    fn open(address: IpAddr) -> io::Result<Self> {
        let six = address.is_ipv6();
        let (domain, protocol) =
            if six { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (Socket::new(domain, Type::RAW, Some(protocol))?, true)
            }
            socket => (socket?, false),
        };
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::new(address, 0).into())?;
        Ok(Self {
            // To the runtime it is a datagram socket like any other.
            socket: UdpSocket::from_std(socket.into())?,
            six,
            with_header: raw && !six,
            token: *Uuid::new_v4().as_bytes(),
        })
    }

    async fn send(&self, number: u16) -> io::Result<()> {
        self.socket.send(&request(self.six, number, &self.token)).await.map(drop)
    }

    /// The number of the echo that was answered; `None` where something else came in.
    async fn receive(&self) -> io::Result<Option<u16>> {
        let mut bytes = [0; ANSWER_BYTES];
        let length = self.socket.recv(&mut bytes).await?;
        Ok(answered(self.six, self.with_header, &bytes[..length], &self.token))
    }
}

/// An echo request (RFC 792, RFC 4443). The kernel fills in the checksum of ICMPv6, which covers
/// addresses.
fn request(six: bool, number: u16, token: &[u8; 16]) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0] = if six { 128 } else { 8 };
    bytes[4..6].copy_from_slice(&token[..2]);
    bytes[6..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(token);
    if !six {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (folded + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// The number of an echo reply that carries the token.
fn answered(six: bool, with_header: bool, bytes: &[u8], token: &[u8; 16]) -> Option<u16> {
    let header = if with_header { usize::from(bytes.first()? & 0x0f) * 4 } else { 0 };
    let reply = bytes.get(header..)?;
    let kind = if six { 129 } else { 0 };
    let number: [u8; 2] = reply.get(6..8)?.try_into().ok()?;
    (*reply.first()? == kind && reply.get(8..)? == token).then(|| u16::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: [u8; 16] = [7; 16];

    #[test]
    fn a_request_has_a_checksum_that_adds_up() {
        assert_eq!(checksum(&request(false, 513, &TOKEN)), 0);
        assert_eq!(request(true, 1, &TOKEN)[0], 128);
    }

    #[test]
    fn only_replies_with_the_token_count() {
        let mut reply = request(false, 513, &TOKEN);
        assert_eq!(answered(false, false, &reply, &TOKEN), None, "a request is no reply");
        reply[0] = 0;
        assert_eq!(answered(false, false, &reply, &TOKEN), Some(513));
        assert_eq!(answered(false, false, &reply, &[8; 16]), None);
        let mut packet = vec![0x45; 20];
        packet.extend(reply);
        assert_eq!(answered(false, true, &packet, &TOKEN), Some(513));
        assert_eq!(answered(false, true, &packet[..30], &TOKEN), None);
        assert_eq!(answered(false, true, &[], &TOKEN), None);
    }

    #[tokio::test]
    async fn this_machine_answers_pings() {
        for address in ["127.0.0.1", "::1"] {
            let echo = match Echo::open(address.parse().unwrap()) {
                Ok(echo) => echo,
                Err(error) => {
                    // Not every user may ping, and not every machine has IPv6.
                    let lacking = [io::ErrorKind::PermissionDenied, io::ErrorKind::AddrNotAvailable];
                    assert!(lacking.contains(&error.kind()), "{address}: {error}");
                    continue;
                }
            };
            echo.send(4711).await.unwrap();
            // The request itself comes in as well where the socket is raw.
            let answer = async {
                loop {
                    if let Some(number) = echo.receive().await.unwrap() {
                        return number;
                    }
                }
            };
            assert_eq!(timeout(Duration::from_secs(20), answer).await.expect("an answer"), 4711);
        }
    }

    #[tokio::test]
    async fn connections_are_recorded_with_what_refused_them() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = open.local_addr().unwrap().port();
        let (sender, mut samples) = mpsc::channel(10);
        let recorder = Recorder::new(sender);
        let target = ReachTarget {
            name: "web".parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            how: ReachBy::Tcp,
            port: Some(port),
        };
        let work = tokio::spawn(async move { connect(&recorder, &target).await });
        let first = samples.recv().await.unwrap();
        assert!(!first.failed() && !first.is_request());
        assert_eq!(first.operation, "tcp web");
        drop(open);
        let later = async { while !samples.recv().await.unwrap().failed() {} };
        timeout(Duration::from_secs(20), later).await.expect("a closed port is a failure");
        work.abort();
    }
}
