//! Inventories of tests: three sites with a node each, and services.

use serde::Serialize;

/// Nodes of [`three_sites`], in its order.
pub const NODES: [&str; 3] = ["a1", "b1", "c1"];

/// An inventory of three sites `a`, `b` and `c` with the nodes `a1`, `b1` and `c1`, followed by `services`.
pub fn three_sites(name: &str, services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{name}\"\n");
    for (site, node) in ["a", "b", "c"].into_iter().zip(NODES) {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{node}\"\ncpu = \"2\"\nmemory = \"4GiB\"\n"
        ));
    }
    for pair in [["a", "b"], ["b", "c"], ["a", "c"]] {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"{}\", \"{}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n",
            pair[0], pair[1]
        ));
    }
    text + services
}

/// A service of an inventory, and how it is started.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    name: String,
    cpu: String,
    memory: String,
    run: Run,
}

#[derive(Debug, Clone, Serialize)]
struct Run {
    image: String,
    command: Vec<String>,
    ports: Vec<String>,
    volumes: Vec<String>,
    on: String,
}

#[derive(Serialize)]
struct Table<'a> {
    service: [&'a Service; 1],
}

impl Service {
    /// A service of this name, with nothing published and no volume.
    pub fn new(name: &str, image: &str, command: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
        let run = Run {
            image: image.to_owned(),
            command: owned(command),
            ports: Vec::new(),
            volumes: Vec::new(),
            on: String::new(),
        };
        Self { name: name.to_owned(), cpu: "0.1".to_owned(), memory: "256MiB".to_owned(), run }
    }

    /// From another image, which must have the same programs.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.run.image);
        self
    }

    /// With this TCP port published.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.run.ports.push(format!("{port}/tcp"));
        self
    }

    /// With this named volume, `name:/path`.
    #[must_use]
    pub fn volume(mut self, volume: &str) -> Self {
        self.run.volumes.push(volume.to_owned());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `[[service]]` table, started on `node`.
    ///
    /// # Errors
    /// When it can't be written as TOML.
    pub fn table(&self, node: &str) -> anyhow::Result<String> {
        let mut placed = self.clone();
        node.clone_into(&mut placed.run.on);
        Ok(toml::to_string(&Table { service: [&placed] })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_with_whatever_its_command_holds() {
        let command = ["sh", "-c", "echo \"a\\b\"\n'c' # d"];
        let text = Service::new("s", "i", &command).port(80).volume("v:/v").table("n").unwrap();
        let read: toml::Table = text.parse().unwrap();
        let run = &read["service"][0]["run"];
        assert_eq!(run["command"][2].as_str(), Some(command[2]));
        assert_eq!((run["ports"][0].as_str(), run["on"].as_str()), (Some("80/tcp"), Some("n")));
    }
}
