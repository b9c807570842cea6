//! A plain SMTP client that may say anything.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wait::PATIENCE;

pub(super) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Connects and takes the greeting.
    pub(super) fn connect(to: SocketAddr) -> Self {
        let mut client = Self::dial(to);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects and has said EHLO.
    pub(super) fn greeted(to: SocketAddr) -> Self {
        let mut client = Self::connect(to);
        client.expect("EHLO client.example", "250");
        client
    }

    /// Connects and reads nothing.
    pub(super) fn dial(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).expect("the node accepts"))
    }

    /// Connects from this address.
    pub(super) fn dial_from(from: IpAddr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        let from = SocketAddr::from((from, 0));
        socket.bind(&from.into()).expect("loopback is ours");
        socket.connect(&to.into()).expect("the node accepts");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out is set");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time-out is set");
        stream.set_nodelay(true).expect("no delay is set");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        self.try_send(octets).expect("the node reads");
    }

    pub(super) fn try_send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// One whole reply, its lines joined by LF; empty when the node has closed.
    pub(super) fn reply(&mut self) -> String {
        self.try_reply().expect("the node replies")
    }

    /// As [`Client::reply`]; a reset is an error.
    pub(super) fn try_reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            while let Some(end) = self.read.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8(line).expect("replies are UTF-8");
                let line = line.strip_suffix("\r\n").expect("lines end with CR LF");
                reply.push_str(line);
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(reply);
                }
                reply.push('\n');
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Ok(reply),
                octets => self.read.extend_from_slice(&buffer[..octets]),
            }
        }
    }

    pub(super) fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Says it and is answered so.
    #[track_caller]
    pub(super) fn expect(&mut self, line: &str, answer: &str) {
        let reply = self.say(line);
        assert!(reply.starts_with(answer), "{line}: {reply}");
    }

    /// Nothing more will be sent; replies are still read.
    pub(super) fn finish(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("the connection stands");
    }

    /// Closes with a reset, as a host that crashed.
    pub(super) fn reset(self) {
        let socket = Socket::from(self.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("linger is set");
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The next reply is so.
    #[track_caller]
    pub(super) fn hear(&mut self, answer: &str) {
        let reply = self.reply();
        assert!(reply.starts_with(answer), "{answer} awaited: {reply}");
    }

    /// The node has nothing more to say, and closed.
    #[track_caller]
    pub(super) fn hear_end(&mut self) {
        match self.try_reply() {
            Ok(reply) => assert_eq!(reply, "", "the end was awaited"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// A reply that comes within `patience`, if one does; a reset is an error.
    pub(super) fn heard_within(&mut self, patience: Duration) -> io::Result<Option<String>> {
        self.stream.set_read_timeout(Some(patience))?;
        let reply = self.try_reply();
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match reply {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            reply => reply.map(Some),
        }
    }

    /// Up to the 354 of DATA.
    #[track_caller]
    pub(super) fn begin(&mut self, from: &str, to: &[&str]) {
        self.expect(&format!("MAIL FROM:<{from}>"), "250");
        for recipient in to {
            self.expect(&format!("RCPT TO:<{recipient}>"), "250");
        }
        self.expect("DATA", "354");
    }

    /// The rest of it: the id the message is queued as.
    #[track_caller]
    pub(super) fn end(&mut self, content: &[u8]) -> String {
        let mut wire = stuffed(content);
        wire.extend_from_slice(b".\r\n");
        self.send(&wire);
        queued_as(&self.reply())
    }

    /// A whole message.
    #[track_caller]
    pub(super) fn mail(&mut self, from: &str, to: &[&str], content: &[u8]) -> String {
        self.begin(from, to);
        self.end(content)
    }
}

/// One message over a connection of its own.
#[track_caller]
pub(super) fn mail(node: SocketAddr, from: &str, to: &[&str], content: &[u8]) -> String {
    let mut client = Client::greeted(node);
    let id = client.mail(from, to, content);
    client.expect("QUIT", "221");
    id
}

/// A small message that says who it is.
pub(super) fn letter(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nBody of {subject}.\r\n").into_bytes()
}

#[track_caller]
pub(super) fn queued_as(reply: &str) -> String {
    let id = reply.strip_prefix("250 2.0.0 Ok: queued as ");
    id.unwrap_or_else(|| panic!("not queued: {reply}"))
        .to_owned()
}

/// RFC 5321 §4.5.2.
pub(super) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire
}
