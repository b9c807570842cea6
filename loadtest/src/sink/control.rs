//! The sink's small HTTP door: GET gives the report so far, POST /quit ends the run. One thread, one request at a time.

use super::ledger::Ledger;
use super::report::Report;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Opens the door; its thread ends with the process.
pub(crate) fn start(
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    quit: Arc<AtomicBool>,
    expect: Option<u64>,
) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A peer that goes away is its own trouble.
            let _ = answer(stream, &ledger, &quit, expect);
        }
    });
    Ok(())
}

fn answer(
    mut stream: TcpStream,
    ledger: &Mutex<Ledger>,
    quit: &AtomicBool,
    expect: Option<u64>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 1024];
    let length = stream.read(&mut request)?;
    let body = {
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&Report::of(&ledger, expect))?
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    if request[..length].starts_with(b"POST /quit") {
        quit.store(true, Ordering::Relaxed);
    }
    Ok(())
}
