//! Servers that take what people and programs are told, on loopback: SMTP (RFC 5321) and HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A conversation that stands still for longer is broken off.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server takes what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It does.
    Takes,
    /// Not now: SMTP 451, HTTP 503.
    NotNow,
    /// Never: SMTP 550, HTTP 410.
    Refuses,
    /// It takes all of it, and hangs up without an answer.
    HangsUp,
}

/// A server, and what it was given. It ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    taken: Mutex<Vec<String>>,
    manner: Mutex<Manner>,
    over: AtomicBool,
}

impl Sink {
    /// A mail server.
    pub fn smtp() -> std::io::Result<Self> {
        Self::serve(mail)
    }

    /// A web server that takes anything at any path.
    pub fn http() -> std::io::Result<Self> {
        Self::serve(web)
    }

    fn serve(speak: fn(&mut BufReader<TcpStream>, &Shared) -> std::io::Result<()>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            taken: Mutex::default(),
            manner: Mutex::new(Manner::Takes),
            over: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let shared = theirs.clone();
                std::thread::spawn(move || {
                    let _limit = stream.set_read_timeout(Some(PATIENCE));
                    // A client that hangs up is its own test's business.
                    let _ended = speak(&mut BufReader::new(stream), &shared);
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How it takes things from now on.
    pub fn be(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// Everything that it was given, in order; a message with its headers, a request with its first
    /// line and headers.
    pub fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is over.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, what: String) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

fn mail(stream: &mut BufReader<TcpStream>, shared: &Shared) -> std::io::Result<()> {
    let say = |stream: &mut BufReader<TcpStream>, text: &str| write!(stream.get_mut(), "{text}\r\n");
    say(stream, "220 sink ESMTP")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let word = line.trim().get(..4).unwrap_or_default().to_ascii_uppercase();
        match (word.as_str(), shared.manner()) {
            ("QUIT", _) => return say(stream, "221 bye"),
            ("RCPT", Manner::NotNow) => say(stream, "451 not now")?,
            ("RCPT", Manner::Refuses) => say(stream, "550 no such user")?,
            ("DATA", manner) => {
                say(stream, "354 go on")?;
                let mut message = String::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    message.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                shared.take(message);
                if manner == Manner::HangsUp {
                    return Ok(());
                }
                say(stream, "250 taken")?;
            }
            _ => say(stream, "250 fine")?,
        }
    }
}

fn web(stream: &mut BufReader<TcpStream>, shared: &Shared) -> std::io::Result<()> {
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        request.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    request.push_str(&String::from_utf8_lossy(&body));
    let status = match shared.manner() {
        Manner::Takes => "200 OK",
        Manner::NotNow => "503 Service Unavailable",
        Manner::Refuses => "410 Gone",
        Manner::HangsUp => {
            shared.take(request);
            return Ok(());
        }
    };
    shared.take(request);
    write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
