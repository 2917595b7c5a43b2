//! What is right, to be spoilt.

use serde_json::{Value, json};
use sterna_executor::identity::Credentials;
use sterna_executor::migration::certificate::{Certificate, Grounds};
use sterna_executor::migration::order::{MigrationId, Order};
use sterna_executor::node::api::Reservation;
use sterna_executor::node::client::AgentClient;
use sterna_policies::policy::{Memory, Method};
use sterna_policies::quantity::{Bytes, Millis};

/// What every document is made from.
#[derive(Clone)]
pub struct Genuine {
    /// The node that is called.
    pub here: String,
    /// Another one, whose agent calls.
    pub there: String,
    /// Where the called node's agent listens.
    pub address: String,
    /// Digest of an image that the called node has.
    pub image: String,
    /// What the called node says of itself.
    pub facts: Value,
    /// A migration from there that is held here.
    pub held: Reservation,
    /// What proves a call about it.
    pub credentials: Credentials,
}

const SECOND: i64 = 1_000_000;

/// An order for a service that nobody has.
pub fn order(service: &str, from: &str, to: &str, address: &str) -> Order {
    Order {
        id: MigrationId::new(),
        service: service.into(),
        from: from.into(),
        to: to.into(),
        from_address: address.to_owned(),
        to_address: address.to_owned(),
        method: Method::Checkpoint,
        memory: Memory::Ahead,
        max_downtime: None,
        bandwidth: None,
        deadline: Millis::from_micros(60 * SECOND),
        freeze_lease: Millis::from_micros(10 * SECOND),
        predicted: None,
    }
}

/// A reservation for it.
pub fn reservation(order: Order, image: &str) -> Reservation {
    let service = order.service.to_string();
    let volume = format!("{service}-data");
    Reservation {
        order,
        epoch: 1,
        body: json!({
            "Image": "sterna-services:latest",
            "Cmd": ["sleep", "1000"],
            "Env": ["A=b"],
            "Labels": { "sterna.service": service },
            "HostConfig": { "Binds": [format!("{volume}:/data")], "NetworkMode": "bridge" },
        }),
        image: image.to_owned(),
        volumes: vec![volume],
        memory: Bytes::from_mib(8),
        files: Bytes::from_mib(1),
        image_size: Bytes::from_mib(1),
        token: "0123456789abcdef".repeat(4),
        pod: None,
    }
}

impl Genuine {
    /// The document that a route is called with, such that nothing would come of it even if it were believed.
    pub fn document(&self, method: &str, path: &str) -> Value {
        let elsewhere = order("nobody", &self.there, "elsewhere", &self.address);
        match (method, path) {
            ("POST", "/v1/services") => json!({
                "service": "nobody",
                "run": {
                    "image": "no-such-image:1", "command": ["x"], "env": ["A=b"],
                    "ports": ["7777/tcp"], "volumes": ["nobody-data:/data"], "on": self.here,
                },
            }),
            // Nobody listens there.
            ("POST", "/v1/images/pull") => json!({ "image": "127.0.0.1:1/nobody/nothing:1", "within": "2s" }),
            ("POST", "/v1/migrations" | "/v1/migrations/check") => {
                json!(order("nobody", &self.here, &self.there, &self.address))
            }
            ("POST", "/v1/arrivals") => json!(reservation(elsewhere, &self.image)),
            ("POST", "/v1/arrivals/check") => {
                let here = order("nobody", &self.there, &self.here, &self.address);
                json!([reservation(here, &self.image), self.facts])
            }
            ("POST", path) if path.ends_with("/release") || path.ends_with("/start-anew") => {
                self.certificate(&self.held.order, "elsewhere", 2, Grounds::Commit)
            }
            ("POST", path) if path.ends_with("/finish") => {
                json!({ "restart": { "Name": "always", "MaximumRetryCount": 0 } })
            }
            ("POST", "/v1/peers") => json!({ "node": "b", "address": self.address }),
            ("POST", "/v1/probes") => json!({ "targets": [self.address] }),
            ("POST", "/v1/traffic/held") => {
                json!({ "listener": 1, "freeze": ["nobody", elsewhere.id] })
            }
            _ => Value::Null,
        }
    }

    fn certificate(&self, order: &Order, to: &str, epoch: u64, grounds: Grounds) -> Value {
        let certificate = Certificate {
            migration: order.id,
            service: order.service.clone(),
            epoch,
            destination: to.into(),
            image: self.image.clone(),
            grounds,
        };
        // Plain data, signed with a key that has just been made.
        json!(self.credentials.seal(&certificate).ok())
    }

    /// Certificates that are not the right one for what is held: for another node, epoch or migration, on another's word,
    /// and the right one with its signature, its signer or its words changed.
    pub fn forgeries(&self) -> Vec<Value> {
        let held = &self.held.order;
        let fenced = Grounds::Fenced { by: "me".to_owned(), reason: "because".to_owned() };
        let other = order("nobody", &self.there, &self.here, &self.address);
        let right = self.certificate(held, &self.here, self.held.epoch + 1, Grounds::Commit);
        let changed = |field: &str, value: Value| {
            let mut forged = right.clone();
            forged[field] = value;
            forged
        };
        let statement = right["statement"].as_str().unwrap_or_default();
        vec![
            self.certificate(held, "elsewhere", 2, Grounds::Commit),
            self.certificate(held, &self.here, 7, Grounds::Commit),
            // An agent can't say that it is gone itself.
            self.certificate(held, &self.here, 2, fenced),
            self.certificate(&other, &self.here, 2, Grounds::Commit),
            changed("signature", json!(vec![0; 64])),
            changed("signature", json!([])),
            changed("signer", json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
            changed("signer", json!("")),
            changed("statement", json!(statement.replace("\"epoch\":2", "\"epoch\":3"))),
            changed("statement", json!("{}")),
        ]
    }

    /// Reservations, addressed rightly, of what no service may have.
    pub fn overreaching(&self) -> Vec<Value> {
        let here =
            || json!(reservation(order("nobody", &self.there, &self.here, &self.address), &self.image));
        let host = |field: &str, value: Value| {
            let mut asked = here();
            asked["body"]["HostConfig"][field] = value;
            asked
        };
        let with = |field: &str, value: Value| {
            let mut asked = here();
            asked[field] = value;
            asked
        };
        let of_order = |field: &str, value: Value| {
            let mut asked = here();
            asked["order"][field] = value;
            asked
        };
        let any_folder = json!([{
            "Type": "volume", "Source": "nobody-data", "Target": "/host",
            "VolumeOptions": { "DriverConfig": {
                "Name": "local", "Options": { "type": "none", "o": "bind", "device": "/" },
            } },
        }]);
        vec![
            host("Privileged", json!(true)),
            host("PidMode", json!("host")),
            host("IpcMode", json!("host")),
            host("UsernsMode", json!("host")),
            host("UTSMode", json!("host")),
            host("NetworkMode", json!("host")),
            host("Cgroup", json!("container:ticker")),
            host("CgroupParent", json!("/")),
            host("Binds", json!(["nobody-data:/data", "/:/host"])),
            host("Binds", json!(["nobody-data:/data", "/var/run/docker.sock:/s"])),
            host("Binds", json!(["nobody-data:/data", "../../etc:/s"])),
            host("Mounts", any_folder),
            host("Devices", json!([{ "PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem" }])),
            host("DeviceCgroupRules", json!(["a *:* rwm"])),
            host("CapAdd", json!(["SYS_ADMIN"])),
            host("CapAdd", json!(["ALL"])),
            host("SecurityOpt", json!(["seccomp=unconfined"])),
            host("MaskedPaths", json!([])),
            host("ReadonlyPaths", json!([])),
            host("Sysctls", json!({ "kernel.core_pattern": "|/bin/sh" })),
            host("Runtime", json!("runc-of-mine")),
            host("Annotations", json!({ "org.systemd.property.Slice": "'x'" })),
            host("VolumesFrom", json!(["ticker"])),
            host("Links", json!(["ticker:t"])),
            host("OomScoreAdj", json!(-1000)),
            host("RestartPolicy", json!({ "Name": "sometimes" })),
            with("volumes", json!(["nobody-data", "../containers/ticker?force=1"])),
            with("volumes", json!(["nobody-data", "../images/sterna-services:latest?force=1"])),
            with("volumes", json!([])),
            with("volumes", json!(vec!["v"; 1000])),
            with("image", json!("../events?")),
            with("image", json!("sha256:0")),
            with("epoch", json!(u64::MAX)),
            with("memory", json!(u64::MAX)),
            with("files", json!(u64::MAX)),
            with("token", json!("")),
            with("token", json!("a\r\nb: c")),
            of_order("service", json!("../containers/ticker?force=1")),
            of_order("service", json!("ticker")),
            of_order("service", json!("a\u{0}b")),
            of_order("method", json!("magic")),
            of_order("from", json!("elsewhere")),
            of_order("to", json!("elsewhere")),
            of_order("from_address", json!("no address")),
            of_order("id", json!("../../etc")),
        ]
    }
}

/// What a node says of itself.
///
/// # Errors
/// When it does not answer.
pub async fn facts(client: &AgentClient) -> anyhow::Result<Value> {
    Ok(json!(client.facts().await?))
}
