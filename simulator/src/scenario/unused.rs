//! Everything written must have an effect, and everything needed must be there.

use std::collections::BTreeSet;
use std::ops::Range;

use sterna_core::continuum::{ServiceName, SiteName, UsersName};
use sterna_policies::diagnose::Diagnostic;
use sterna_policies::load::At;

use super::file::ScenarioFile;
use super::load::Reader;
use super::{Chance, People, Shape, Tracks};

impl Reader<'_> {
    /// Reports what has no effect, and what is missing.
    pub(super) fn check_use(&mut self, written: &ScenarioFile, tracks: &Tracks, chance: &Chance) {
        let asks = |users: &UsersName| {
            let inventory = self.continuum.users.get(users).is_some_and(|users| !users.rates.is_empty());
            let track = tracks.rate.keys().chain(chance.bursts.keys()).any(|(one, _)| one == users);
            inventory || track
        };
        let asking: BTreeSet<&UsersName> = self.continuum.users.keys().filter(|users| asks(users)).collect();
        self.check_step(written, tracks, chance);
        self.check_askers(written, &asking);
        self.check_noise(written, &asking);
        self.check_latency(written, &asking);
        self.check_sites(written);
        self.check_services(written);
        self.check_distance(written, chance, &asking);
    }

    /// Whether something is wrong, here or in a file beside it: then what is missing may only not have been understood.
    fn is_wrong(&self) -> bool {
        self.findings.has_errors() || self.refused.is_some()
    }

    /// Adds a finding about something without effect: an error, or a warning where the scenario allows it.
    pub(super) fn unused(
        &mut self,
        allowed: bool,
        code: &'static str,
        span: Range<usize>,
        message: String,
    ) -> &mut Diagnostic {
        match allowed {
            true => self.findings.warning(code, span, message),
            false => self.findings.error(code, span, message),
        }
    }

    fn check_step(&mut self, written: &ScenarioFile, tracks: &Tracks, chance: &Chance) {
        let Some(step) = &written.step else { return };
        let lines = tracks.all().any(|track| track.shape() == Shape::Linear);
        if !lines && !chance.people.values().any(People::is_stepwise) && !self.is_wrong() {
            self.unused(written.allow_unused, "S0007", step.span(), "`step` has no effect".to_owned())
                .label("no track is linear")
                .help("leave it out, or give a track `shape = \"linear\"`");
        }
    }

    /// Where nobody asks, latency does not matter.
    fn check_askers(&mut self, written: &ScenarioFile, asking: &BTreeSet<&UsersName>) {
        let latency = written.latency.iter().map(|one| (&one.users, "this latency has"));
        let mobility = written.mobility.iter().map(|one| (&one.users, "where they are has"));
        for (one, what) in latency.chain(mobility) {
            let users = UsersName::from(one.value.clone());
            if self.continuum.users.contains_key(&users) && !asking.contains(&users) {
                self.unused(written.allow_unused, "S0010", one.span(), format!("`{users}` ask for nothing"))
                    .label(format!("so {what} no effect"))
                    .help("give them a rate in the inventory or a [[rate]] track");
            }
        }
    }

    /// Where nobody asks, nothing can stray.
    fn check_noise(&mut self, written: &ScenarioFile, asking: &BTreeSet<&UsersName>) {
        if let Some(noise) = written.noise.as_ref().filter(|_| asking.is_empty()) {
            self.unused(written.allow_unused, "S0015", noise.span(), "noise has no effect".to_owned())
                .label("nobody asks for anything")
                .help("give users a rate in the inventory or a [[rate]] track");
        }
    }

    /// Between all who ask and all sites with a node there is a latency, and where somebody is matters to at least one.
    fn check_latency(&mut self, written: &ScenarioFile, asking: &BTreeSet<&UsersName>) {
        for name in self.continuum.users.keys() {
            if !asking.contains(name) {
                continue;
            }
            let declared = written.mobility.iter().find(|one| one.users.value == name.as_str());
            let mut by_distance = false;
            for (site, about) in &self.continuum.sites {
                let hosts = self.continuum.nodes.values().any(|node| &node.site == site);
                let measured = self.is_measured(written, name, site);
                by_distance |= hosts && !measured && about.location.is_some();
                if hosts && !measured && (declared.is_none() || about.location.is_none()) {
                    let span = declared.map_or_else(|| written.inventory.span(), |one| one.users.span());
                    let finding =
                        self.findings.error("S0011", span, format!("no latency from `{name}` to `{site}`"));
                    if declared.is_some() {
                        finding
                            .label("the site has no `location`")
                            .help("give it one in the inventory, or add a [[latency]] track");
                    } else {
                        finding
                            .label("not in the inventory either")
                            .help("add a [[latency]] track, or the latency to the inventory");
                    }
                }
            }
            if let (Some(one), false) = (declared, by_distance) {
                let message = format!("where `{name}` are has no effect");
                self.unused(written.allow_unused, "S0015", one.users.span(), message)
                    .label("every site has a measured latency to them, or no `location`");
            }
        }
    }

    /// Nothing can be placed at a site without nodes, so what is said of it reaches nobody.
    fn check_sites(&mut self, written: &ScenarioFile) {
        let price = written.price.iter().map(|one| &one.site);
        let carbon = written.carbon.iter().map(|one| &one.site);
        let latency = written.latency.iter().map(|one| &one.site);
        let failure = written.failure.iter().flat_map(|one| one.site.as_ref().or(one.nodes_of.as_ref()));
        let preemption = written.preemption.iter().flat_map(|one| one.nodes_of.as_ref());
        let sites: Vec<&At<String>> =
            price.chain(carbon).chain(latency).chain(failure).chain(preemption).collect();
        for one in sites {
            let site = SiteName::from(one.value.clone());
            let hosts = self.continuum.nodes.values().any(|node| node.site == site);
            if self.continuum.sites.contains_key(&site) && !hosts {
                self.unused(written.allow_unused, "S0015", one.span(), format!("`{site}` has no node"))
                    .label("so this has no effect");
            }
        }
    }

    /// What a service holds and writes matters only when it is moved.
    fn check_services(&mut self, written: &ScenarioFile) {
        let memory = written.memory.iter().map(|one| &one.service);
        let writes = written.writes.iter().filter_map(|one| one.service.as_ref());
        let migration = written.migration.iter().filter_map(|one| one.service.as_ref());
        let services: Vec<&At<String>> = memory.chain(writes).chain(migration).collect();
        for one in services {
            let service = ServiceName::from(one.value.clone());
            if self.continuum.services.get(&service).is_some_and(|service| service.pinned) {
                self.unused(written.allow_unused, "S0015", one.span(), format!("`{service}` is pinned"))
                    .label("it is never moved, so this has no effect");
            }
        }
    }

    /// Latency over distance is for those who are somewhere and ask, and for sites to which nobody measured.
    fn check_distance(&mut self, written: &ScenarioFile, chance: &Chance, asking: &BTreeSet<&UsersName>) {
        if self.is_wrong() {
            return;
        }
        if let Some(one) = written.distance.first()
            && chance.people.is_empty()
        {
            let message = "latency over distance has no effect".to_owned();
            self.unused(written.allow_unused, "S0015", one.base.span(), message)
                .label("no [[mobility]] says where anybody is");
            return;
        }
        let of_own: BTreeSet<&str> =
            written.distance.iter().filter_map(|one| one.tier.as_ref()).map(|tier| tier.as_str()).collect();
        for one in &written.distance {
            let applies = |tier: &str| match &one.tier {
                Some(own) => own.as_str() == tier,
                None => !of_own.contains(tier),
            };
            let needed = self.continuum.sites.iter().any(|(site, about)| {
                let hosts = self.continuum.nodes.values().any(|node| &node.site == site);
                let somewhere = hosts && about.location.is_some() && applies(&about.tier);
                let people = || chance.people.keys().filter(|users| asking.contains(users));
                somewhere && people().any(|users| !self.is_measured(written, users, site))
            });
            if !needed {
                let message = "latency over distance has no effect".to_owned();
                self.unused(written.allow_unused, "S0015", one.base.span(), message)
                    .label("to every such site there is a measured latency, or it has no `location`");
            }
        }
    }

    /// Whether a number, and not a distance, says what the latency from users to a site is.
    fn is_measured(&self, written: &ScenarioFile, users: &UsersName, site: &SiteName) -> bool {
        let about = self.continuum.users.get(users);
        about.is_some_and(|about| about.latency.contains_key(site))
            || written
                .latency
                .iter()
                .any(|one| one.users.value == users.as_str() && one.site.value == site.as_str())
    }
}
