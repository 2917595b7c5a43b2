//! Policies that come with Sterna, each with comments that teach.

/// A policy that comes with Sterna.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name, the same as in its file.
    pub name: &'static str,
    /// The file, with its comments.
    pub text: &'static str,
}

/// All of them.
pub const ALL: [Preset; 6] = [
    Preset { name: "latency-first", text: include_str!("../presets/latency-first.toml") },
    Preset { name: "cost-saver", text: include_str!("../presets/cost-saver.toml") },
    Preset { name: "balanced", text: include_str!("../presets/balanced.toml") },
    Preset { name: "green", text: include_str!("../presets/green.toml") },
    Preset { name: "follow-the-users", text: include_str!("../presets/follow-the-users.toml") },
    Preset { name: "drain-only", text: include_str!("../presets/drain-only.toml") },
];

impl Preset {
    /// The preset of that name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|preset| preset.name == name)
    }

    /// What it is for, in one line: the first line of its file.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use crate::policy::{Method, Metric, Mode};

    #[test]
    fn all_load_without_errors_and_warnings() {
        for preset in ALL {
            let loaded = load::policy(preset.name, preset.text).unwrap();
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.plain());
            let policy = loaded.value;
            assert_eq!(policy.name, preset.name);
            assert_eq!(policy.mode, Mode::Recommend, "a preset must not move anything by itself");
            assert_eq!(policy.migration.method, Method::Checkpoint);
            // Whatever else counts, users must not be forgotten, where anything is moved for a gain.
            let gains = policy.trigger.any.as_ref().is_none_or(|any| !any.is_empty());
            assert_eq!(policy.metrics.contains_key(&Metric::UserLatency), gains);
            assert!(preset.about().ends_with('.'), "{}", preset.about());
        }
    }

    /// What is commented out in a preset is advice, so it must be right as well.
    #[test]
    fn the_tables_that_are_commented_out_load_too() {
        for preset in ALL {
            let uncommented: String = preset
                .text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest) if rest.starts_with('[') || rest.contains(" = ") => format!("{rest}\n"),
                    _ => format!("{line}\n"),
                })
                .collect();
            assert_ne!(uncommented, preset.text.to_owned() + "\n");
            let loaded = load::policy(preset.name, &uncommented).unwrap();
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.plain());
        }
    }

    #[test]
    fn presets_are_found_by_name() {
        assert_eq!(Preset::find("balanced").map(|preset| preset.name), Some("balanced"));
        assert_eq!(Preset::find("nothing"), None);
    }
}
