//! A continuum whose nodes are pods of a whole cluster, all of them or some.

use crate::desk::Desk;
use crate::guardian::Guardian;
use crate::two_nodes::TwoNodes;

/// Where the accounts are that Sterna is run with.
const HOME: &str = "default";

/// The cluster, and the desk from which nodes are made there.
#[derive(Debug)]
pub struct Pods {
    // Before the cluster: nodes outside of it go by `sterna sites down`, which asks the cluster too.
    _guardian: Guardian,
    /// The cluster.
    pub cluster: TwoNodes,
    /// The desk, with the rights of the cluster's administrator at first.
    pub desk: Desk,
}

impl Pods {
    /// Brings the cluster up, for a continuum of which no node is made yet.
    ///
    /// # Errors
    /// As [`TwoNodes::up`], and when there is no binary.
    pub async fn up(inventory: &str) -> anyhow::Result<Self> {
        let cluster = TwoNodes::up().await?;
        let desk = Desk::with(inventory, cluster.kubeconfig())?;
        let guardian = Guardian::over_with(
            desk.sterna.path(),
            &desk.inventory(),
            &desk.state(),
            &desk.file("none"),
            &[("KUBECONFIG", cluster.kubeconfig())],
        )?;
        Ok(Self { _guardian: guardian, cluster, desk })
    }

    /// Brings the image of nodes to the cluster; gives its name.
    ///
    /// # Errors
    /// As [`Desk::load_node_image`].
    pub async fn load_node_image(&self) -> anyhow::Result<String> {
        self.desk.load_node_image(std::slice::from_ref(&self.cluster)).await
    }

    /// A kubeconfig with no more rights than `sterna rbac` prints for nodes in a namespace; gives its path.
    ///
    /// # Errors
    /// When they are not printed, or the cluster refuses them.
    pub async fn rights(&self, nodes: &str, mode: &str) -> anyhow::Result<String> {
        let rbac = ["rbac", "--namespace", HOME, "--account", mode, "--nodes", nodes, "--mode", mode];
        self.cluster.apply(&self.desk.sterna.must(&rbac).await?).await?;
        let token = self.cluster.kubectl(&["-n", HOME, "create", "token", mode]).await?;
        let config = self.desk.file(&format!("{mode}.kubeconfig"));
        std::fs::copy(self.cluster.kubeconfig(), &config)?;
        let config = config.display().to_string();
        let own = ["config", "--kubeconfig", &config];
        let alone = async |rest: &[&str]| self.cluster.kubectl_alone(&[&own[..], rest].concat()).await;
        alone(&["set-credentials", mode, "--token", &token]).await?;
        alone(&["set-context", "--current", "--user", mode]).await?;
        Ok(config)
    }
}
