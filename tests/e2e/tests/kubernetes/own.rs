//! What a test has of an API server for itself: a namespace, and clients with an account's rights.

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use sterna_e2e::cluster::Cluster;
use sterna_executor::platform::kubernetes::connection;

/// Makes a namespace; gives an administrator's client and its name.
pub async fn namespace(cluster: &Cluster) -> anyhow::Result<(Client, String)> {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = connection::client(Some(cluster.kubeconfig())).await?;
    let metadata = ObjectMeta { generate_name: Some("sterna-e2e-".to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let made = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok((client, made.metadata.name.context("the namespace has no name")?))
}

/// Removes it.
pub async fn remove(client: Client, namespace: &str) -> anyhow::Result<()> {
    Api::<Namespace>::all(client).delete(namespace, &DeleteParams::default()).await?;
    Ok(())
}

/// A client with the rights of an account of the namespace.
pub async fn of_account(
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
    account: &str,
) -> anyhow::Result<Client> {
    let file = kubeconfig(cluster, client, namespace, account).await?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A kubeconfig with the token of an account of the namespace.
pub async fn kubeconfig(
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
    account: &str,
) -> anyhow::Result<Kubeconfig> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &asked).await?;
    let token = answer.status.context("no token")?.token;
    let mut file = Kubeconfig::read_from(cluster.kubeconfig())?;
    for user in &mut file.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({ "token": token }))?);
    }
    Ok(file)
}
