//! What a test has of an API server for itself: a namespace, clients with an account's rights, and what it applies there as people do.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams,
    PostParams, TypeMeta,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::sterna::Sterna;

/// How long the API server may take to answer, as for Sterna itself.
const TO_ANSWER: Duration = Duration::from_secs(10);

/// An API server, a namespace there for one test, and a folder for the test's files.
pub struct Ground {
    /// The API server.
    pub cluster: Cluster,
    /// A client with the rights of its administrator.
    pub client: Client,
    /// Name of the namespace.
    pub namespace: String,
    /// The binary.
    pub sterna: Sterna,
    /// The folder.
    pub folder: TempDir,
}

impl Ground {
    /// With a namespace that is there.
    ///
    /// # Errors
    /// When there is no API server, or no binary.
    pub async fn up() -> anyhow::Result<Self> {
        let ground = Self::unmade().await?;
        ground.make(&ground.namespace, Value::Null).await?;
        Ok(ground)
    }

    /// With the name of a namespace that is yet to be made.
    ///
    /// # Errors
    /// As [`Ground::up`].
    pub async fn unmade() -> anyhow::Result<Self> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::up().await?;
        let client = client(Kubeconfig::read_from(cluster.kubeconfig())?).await?;
        let namespace = format!("sterna-e2e-{}", fastrand::u32(..));
        Ok(Self { cluster, client, namespace, sterna: Sterna::built()?, folder: tempfile::tempdir()? })
    }

    /// Makes a namespace with these labels.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make(&self, namespace: &str, labels: Value) -> anyhow::Result<()> {
        let object = json!({ "metadata": { "name": namespace, "labels": labels } });
        let all = Api::all(self.client.clone());
        all.create(&PostParams::default(), &Namespace::deserialize(object)?).await?;
        Ok(())
    }

    /// Removes a namespace.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove(&self, namespace: &str) -> anyhow::Result<()> {
        Api::<Namespace>::all(self.client.clone()).delete(namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Removes its namespace.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn down(self) -> anyhow::Result<()> {
        self.remove(&self.namespace).await
    }

    /// Objects of its namespace, in the eyes of the administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects that a command of Sterna prints.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub async fn printed(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        Ok(serde_saphyr::from_multiple(&self.sterna.must(arguments).await?)?)
    }

    /// Applies objects, whatever they are, as `kubectl apply` does.
    ///
    /// # Errors
    /// When the server refuses one.
    pub async fn apply<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> anyhow::Result<()> {
        for object in objects {
            let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(TypeMeta::deserialize(object)?)?);
            let (client, name) = (self.client.clone(), object["metadata"]["name"].as_str());
            let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => Api::namespaced_with(client, namespace, &kind),
                None => Api::all_with(client, &kind),
            };
            let name = name.with_context(|| format!("it has no name: {object}"))?;
            let applied = api.patch(name, &PatchParams::apply("sterna-e2e"), &Patch::Apply(object)).await;
            applied.with_context(|| format!("applying {object}"))?;
        }
        Ok(())
    }

    /// The reasons of the events about an object of a namespace, oldest first.
    ///
    /// # Errors
    /// When the server does not list them.
    pub async fn events(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<String>> {
        let all: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut found = all.list(&ListParams::default()).await?.items;
        found.retain(|event| event.regarding.as_ref().and_then(|on| on.name.as_deref()) == Some(name));
        found.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        Ok(found.into_iter().filter_map(|event| event.reason).collect())
    }

    /// The kubeconfig file of the administrator.
    pub fn admin(&self) -> String {
        self.cluster.kubeconfig().display().to_string()
    }

    /// Makes an account that may do nothing.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make_account(&self, account: &str) -> anyhow::Result<()> {
        let metadata = ObjectMeta { name: Some(account.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        self.api().create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// A client with the rights of an account.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn client_of(&self, account: &str) -> anyhow::Result<Client> {
        client(self.with_token(account).await?).await
    }

    /// A kubeconfig file with the token of an account.
    ///
    /// # Errors
    /// When there is no such account, or the file can't be written.
    pub async fn kubeconfig_of(&self, account: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join(format!("{account}.json"));
        std::fs::write(&path, serde_json::to_string(&self.with_token(account).await?)?)?;
        Ok(path.display().to_string())
    }

    async fn with_token(&self, account: &str) -> anyhow::Result<Kubeconfig> {
        let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let accounts = self.api::<ServiceAccount>();
        let answer = accounts.create_token_request(account, &PostParams::default(), &asked).await?;
        let token = answer.status.context("no token")?.token;
        let mut file = Kubeconfig::read_from(self.cluster.kubeconfig())?;
        for user in &mut file.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({ "token": token }))?);
        }
        Ok(file)
    }
}

async fn client(file: Kubeconfig) -> anyhow::Result<Client> {
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    (config.connect_timeout, config.read_timeout) = (Some(TO_ANSWER), Some(TO_ANSWER));
    Ok(Client::try_from(config)?)
}
