//! A connection to Redis, whatever stands behind it.

use std::fmt;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};

use super::options::{Options, Topology};

/// One per node and purpose; clones share the connection.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The URLs with what else is known of the servers behind them.
pub(super) fn servers(options: &Options) -> RedisResult<Vec<ConnectionInfo>> {
    let server = |url: &String| {
        let info = url.as_str().into_connection_info()?;
        let mut settings = info.redis_settings().clone();
        if let Some(user) = &options.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &options.password {
            settings = settings.set_password(password.reveal());
        }
        Ok(info.set_redis_settings(settings))
    };
    options.urls.iter().map(server).collect()
}

fn certificates(options: &Options) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: options.authorities.clone(),
    }
}

fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

fn client(server: ConnectionInfo, options: &Options) -> RedisResult<Client> {
    if is_tls(&server) {
        Client::build_with_tls(server, certificates(options))
    } else {
        Client::open(server)
    }
}

/// The server that takes writes; of a cluster, the `turn`th of those named.
async fn single(options: &Options, turn: usize) -> RedisResult<Client> {
    let mut servers = servers(options)?;
    match &options.topology {
        Topology::Single | Topology::Cluster => {
            let index = turn % servers.len().max(1);
            client(servers.swap_remove(index), options)
        }
        Topology::Sentinel { master } => {
            let addresses = servers.iter().map(|server| server.addr().clone());
            let mut builder =
                SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
            if servers.iter().any(is_tls) {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates(options))
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_certificates(certificates(options));
            }
            if let Some(user) = &options.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &options.password {
                builder = builder.set_client_to_redis_password(password.reveal());
            }
            builder.build()?.async_get_client().await
        }
    }
}

/// Connects anew.
pub(super) async fn connect(options: &Options) -> RedisResult<Link> {
    if options.topology == Topology::Cluster {
        let servers = servers(options)?;
        let is_tls = servers.iter().any(is_tls);
        let mut builder = ClusterClientBuilder::new(servers)
            .connection_timeout(options.timeout)
            .response_timeout(options.timeout)
            .retries(1);
        if is_tls {
            builder = builder.certs(certificates(options)).tls(TlsMode::Secure);
        }
        let connection = builder.build()?.get_async_connection().await?;
        return Ok(Link::Cluster(connection));
    }
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(Some(options.timeout));
    let client = single(options, 0).await?;
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    Ok(Link::Single(connection))
}

/// A connection that hears what is published on `channel`. In a cluster every node hears all.
pub(super) async fn subscribe(
    options: &Options,
    channel: &str,
    turn: usize,
) -> RedisResult<PubSub> {
    let mut ear = single(options, turn).await?.get_async_pubsub().await?;
    ear.subscribe(channel).await?;
    Ok(ear)
}
