//! Services written as an inventory has them, to be read beside one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::continuum::{Service, ServiceName};

#[derive(Serialize)]
struct Part<'a> {
    service: Vec<Table<'a>>,
}

#[derive(Serialize)]
struct Table<'a> {
    name: &'a ServiceName,
    #[serde(flatten)]
    service: &'a Service,
}

/// These services as tables `[[service]]`; nothing where there are none.
///
/// # Errors
/// When a value has no form in TOML.
pub fn services(services: &BTreeMap<ServiceName, Service>) -> Result<String, toml::ser::Error> {
    if services.is_empty() {
        return Ok(String::new());
    }
    let service = services.iter().map(|(name, service)| Table { name, service }).collect();
    toml::to_string(&Part { service })
}

/// An inventory and such tables as one text.
pub fn together(inventory: &str, services: &str) -> String {
    if services.is_empty() { inventory.to_owned() } else { format!("{}\n\n{services}", inventory.trim_end()) }
}

#[cfg(test)]
mod tests {
    use sterna_policies::quantity::{Bytes, Cores, Millis};

    use super::*;
    use crate::continuum::inventory::load;
    use crate::continuum::{Restart, Run};

    const INVENTORY: &str = r#"
schema_version = 1
name = "demo"

[[site]]
name = "a"
tier = "edge"
region = "eu"
price = { node = "0.1USD/h" }
power = { idle = "5W", full = "20W" }
node = [{ name = "n1", cpu = "2cores", memory = "4GiB" }]

[[users]]
name = "people"
rates = { shop = "5/s" }
"#;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let run = Run {
            image: "shop:1".into(),
            command: vec!["--name".into(), "a \"b\"\n\\c".into()],
            env: vec!["A=ä\t'x'".into()],
            ports: vec!["80/tcp".into()],
            volumes: vec!["shop-data:/data".into()],
            on: "n1".into(),
            entrypoint: vec!["/bin/shop".into()],
            working_dir: Some("/srv".into()),
            user: Some("5:6".into()),
            memory_limit: Some(Bytes(123_456_789)),
            cpu_limit: Some(Cores::from_micros(1_234_567)),
            read_only: true,
            drop_capabilities: vec!["ALL".into()],
            no_new_privileges: true,
            restart: Restart::OnFailure,
            stop_timeout: Some(Millis::from_micros(7_000_000_000)),
        };
        let service = Service {
            cpu: Cores::from_micros(333_333),
            memory: Bytes((64 << 20) + 1),
            pinned: true,
            labels: [("app.kubernetes.io/name".to_owned(), "shop".to_owned())].into(),
            run: Some(run.clone()),
        };
        let plain = Run { image: "x".into(), on: "n1".into(), ..Run::default() };
        let other = Service { labels: BTreeMap::new(), pinned: false, run: Some(plain), ..service.clone() };
        let all: BTreeMap<_, _> = [("shop".into(), service), ("other".into(), other)].into();
        let text = together(INVENTORY, &services(&all).unwrap());
        let read = load("inventory.toml", &text).unwrap_or_else(|invalid| panic!("{text}\n{invalid}"));
        assert_eq!(read.value.services, all);
        assert_eq!(together(INVENTORY, &services(&BTreeMap::new()).unwrap()), INVENTORY);
    }
}
