//! Servers of the tests' own: one that records mail, and one that answers HTTP as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// One message as it came over the wire.
pub(crate) struct Mail {
    pub(crate) from: IpAddr,
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: String,
}

impl Mail {
    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let header = self.data.split("\r\n\r\n").next().unwrap();
        header
            .split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A server that takes mail one command at a time and hands it over.
pub(crate) fn record() -> (String, Receiver<Mail>) {
    let (address, connections) = listen();
    let (sender, mails) = channel();
    std::thread::spawn(move || {
        for stream in connections {
            let sender = sender.clone();
            std::thread::spawn(move || take_mail(stream, &sender));
        }
    });
    (address, mails)
}

fn take_mail(mut stream: TcpStream, mails: &Sender<Mail>) -> Option<()> {
    let from = stream.peer_addr().ok()?.ip();
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    write!(stream, "220 hello\r\n").ok()?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let path = || line.split(['<', '>']).nth(1).unwrap_or("").to_owned();
        match &line[..4] {
            "MAIL" => sender = path(),
            "RCPT" => recipients.push(path()),
            "DATA" => {
                write!(stream, "354 go on\r\n").ok()?;
                let mut data = String::new();
                while !data.ends_with("\r\n.\r\n") {
                    lines.read_line(&mut data).ok()?;
                }
                data.truncate(data.len() - 3);
                let (sender, recipients) =
                    (std::mem::take(&mut sender), std::mem::take(&mut recipients));
                mails
                    .send(Mail {
                        from,
                        sender,
                        recipients,
                        data,
                    })
                    .ok()?;
            }
            _ => {}
        }
        write!(stream, "250 fine\r\n").ok()?;
    }
}

/// A server that answers at once and hands over what each read brought, with PIPELINING or without.
pub(crate) fn reads(offer: &'static str) -> (String, Receiver<String>) {
    let (address, connections) = listen();
    let (sender, reads) = channel();
    std::thread::spawn(move || {
        for stream in connections {
            let sender = sender.clone();
            std::thread::spawn(move || take_reads(stream, offer, &sender));
        }
    });
    (address, reads)
}

fn take_reads(mut stream: TcpStream, offer: &str, reads: &Sender<String>) -> Option<()> {
    let (mut buffer, mut rest) = (vec![0; 1 << 16], String::new());
    let mut is_in_data = false;
    write!(stream, "220 hello\r\n").ok()?;
    loop {
        let octets = stream.read(&mut buffer).ok().filter(|octets| *octets > 0)?;
        let text = String::from_utf8(buffer[..octets].to_vec()).ok()?;
        rest.push_str(&text);
        reads.send(text).ok()?;
        let mut answers = String::new();
        while let Some((line, left)) = rest.split_once("\r\n") {
            if is_in_data {
                is_in_data = line != ".";
                answers += if is_in_data { "" } else { "250 taken\r\n" };
            } else if line == "DATA" {
                is_in_data = true;
                answers += "354 go on\r\n";
            } else if line.starts_with("EHLO") {
                answers += offer;
            } else {
                answers += "250 fine\r\n";
            }
            rest = left.to_owned();
        }
        stream.write_all(answers.as_bytes()).ok()?;
    }
}

/// One request as it came.
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
    /// Which request of its connection, from 0.
    pub(crate) number: usize,
}

/// A server that answers each request with the octets that `answer` gives.
pub(crate) fn answer(answer: fn(usize) -> String) -> (String, Receiver<Request>) {
    let (address, connections) = listen();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in connections {
            let sender = sender.clone();
            std::thread::spawn(move || take_requests(stream, answer, &sender));
        }
    });
    (address, requests)
}

fn take_requests(
    mut stream: TcpStream,
    answer: fn(usize) -> String,
    requests: &Sender<Request>,
) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    for number in 0.. {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head
            .split("Content-Length: ")
            .nth(1)?
            .split("\r\n")
            .next()?;
        let mut body = vec![0; length.parse().ok()?];
        lines.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        requests.send(Request { head, body, number }).ok()?;
        stream.write_all(answer(number).as_bytes()).ok()?;
    }
    None
}

fn listen() -> (String, impl Iterator<Item = TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (
        address,
        std::iter::from_fn(move || Some(listener.accept().ok()?.0)),
    )
}
