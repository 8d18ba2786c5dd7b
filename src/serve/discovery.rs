//! `/discover-cluster-nodes`: all nodes of the Cluster that `--redis.addr` is part of, as Prometheus reads
//! them: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//!
//! What a newcomer would get wrong: on failure the answer is no empty list but an error, for Prometheus then
//! keeps the targets that it has.

use super::State;
use super::response::{self, Body};
use super::scrape::end;
use crate::config::credentials::Origin;
use crate::config::{Address, Config};
use crate::connect::{self, Deadline};
use crate::discover::cluster::{self, Unknown};
use crate::scrape::job::login;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;

/// One group of targets, as the format has it.
#[derive(Serialize)]
struct Group {
    targets: Vec<String>,
    labels: Labels,
}

/// No labels.
#[derive(Serialize)]
struct Labels {}

/// Answers `/discover-cluster-nodes`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let Some(target) = config.scrape.target.as_ref().filter(|_| config.collect.cluster) else {
        let reason = "The discovery endpoint is only available on a redis cluster";
        return response::error(StatusCode::BAD_REQUEST, reason);
    };
    let deadline = Deadline::new(end(&config, request.headers()), config.connect.timeout);
    match nodes(&state, &config, target, deadline).await {
        Ok(nodes) => {
            let targets = nodes.iter().map(ToString::to_string).collect();
            let body = serde_json::to_string_pretty(&[Group { targets, labels: Labels {} }]);
            response::json(body.unwrap_or_default())
        }
        Err(reason) => {
            let reason = format!("Couldn't connect to redis cluster: cluster refresh failed: {reason}");
            response::error(StatusCode::INTERNAL_SERVER_ERROR, reason)
        }
    }
}

/// Asks the target over a connection of its own for the addresses of all nodes.
async fn nodes(
    state: &State,
    config: &Config,
    target: &Address,
    deadline: Deadline,
) -> Result<Vec<Address>, String> {
    let address = target.clone().without_credentials();
    let login = login(config, target, Origin::Flag);
    let dialling = deadline.at_most(config.connect.timeout);
    let connected = connect::connect(&address, &login, &config.connect.tls, &state.clients, dialling).await;
    let mut connection = connected.map_err(|error| format!("all nodes failed: {}", error.chain()))?;
    let nodes = cluster::nodes(&mut connection, deadline).await.map_err(|error| match error {
        Unknown::Broken(error) => error.chain(),
        refused => refused.to_string(),
    })?;
    Ok(nodes.iter().map(|node| node.address(&address, config.collect.cluster_hostnames)).collect())
}
