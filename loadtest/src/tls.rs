//! TLS of both ends: certificates and their checks, and a transport that is plain until it is secured.

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme,
};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

/// Where systems keep the certificates they trust; the first that exists counts.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How a client meets TLS. One per run.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Trusts what `authorities` (PEM) sign, or the system's bundle, or with `insecure` anyone.
    pub(crate) fn new(name: &str, authorities: Option<&Path>, insecure: bool) -> io::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = if insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
                .with_no_client_auth()
        } else {
            builder
                .with_root_certificates(roots(authorities)?)
                .with_no_client_auth()
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::other(format!("--tls-name {name}: {error}")))?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }
}

fn roots(authorities: Option<&Path>) -> io::Result<RootCertStore> {
    let found = BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let path = authorities.or(found).ok_or_else(|| {
        io::Error::other("no trusted certificates on this system: give --tls-ca or --tls-insecure")
    })?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(io::Error::other(format!(
            "{}: no certificate",
            path.display()
        )));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let wrap = |error| io::Error::other(format!("{}: {error}", path.display()));
    CertificateDer::pem_file_iter(path)
        .map_err(wrap)?
        .collect::<Result<_, _>>()
        .map_err(wrap)
}

/// A server's certificate from files, or one made here for `names`, `localhost` and the loopback addresses.
pub(crate) fn server(
    files: Option<(&Path, &Path)>,
    names: &[String],
) -> io::Result<Arc<ServerConfig>> {
    let (chain, key) = match files {
        Some((certificate, key)) => {
            let wrap = |error| io::Error::other(format!("{}: {error}", key.display()));
            (
                certificates(certificate)?,
                PrivateKeyDer::from_pem_file(key).map_err(wrap)?,
            )
        }
        None => {
            let local = ["localhost", "127.0.0.1", "127.0.0.2", "::1"].map(str::to_owned);
            let names = [names, &local].concat();
            let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
            let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
            (vec![made.cert.der().clone()], key.into())
        }
    };
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Trusts any certificate; the handshake's signatures are still checked.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A non-blocking stream, plain or within TLS. One per connection.
pub(crate) struct Transport {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Transport {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream
            .register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// TLS from the next octet on, as client.
    pub(crate) fn secure_as_client(&mut self, client: &Client) -> io::Result<()> {
        let tls = ClientConnection::new(Arc::clone(&client.config), client.name.clone())
            .map_err(io::Error::other)?;
        self.tls = Some(Box::new(tls.into()));
        Ok(())
    }

    /// TLS from the next octet on, as server.
    pub(crate) fn secure_as_server(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        self.tls = Some(Box::new(tls.into()));
        Ok(())
    }

    pub(crate) const fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// As `Read::read`: `WouldBlock` when the socket has no more.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets();
            // A handshake goes on, or an alert is to be told, whatever came of it.
            let written = send_records(tls, &mut self.stream);
            processed.map_err(|error| io::Error::other(format!("TLS: {error}")))?;
            written?;
        }
    }

    /// As `Write::write_vectored`; what TLS has taken may wait in its records until the socket is writable.
    pub(crate) fn write_vectored(&mut self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.write_vectored(segments);
        };
        send_records(tls, &mut self.stream)?;
        if tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write_vectored(segments)?;
        send_records(tls, &mut self.stream)?;
        // Before the handshake is over its buffer may be full.
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// As `write_vectored`, of one segment.
    pub(crate) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self.tls {
            None => self.stream.write(octets),
            Some(_) => self.write_vectored(&[IoSlice::new(octets)]),
        }
    }

    /// Sends what TLS holds back; true when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        send_records(tls, &mut self.stream)?;
        Ok(!tls.wants_write())
    }

    /// A close is then a reset; where that fails it is an ordinary close.
    pub(crate) fn reset_on_close(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Tells the peer that the end is meant; failure is the peer's loss.
    pub(crate) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = send_records(tls, &mut self.stream);
        }
    }
}

fn send_records(tls: &mut Connection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
