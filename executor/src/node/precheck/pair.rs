//! What speaks against two nodes, each by itself and as a pair.

use crate::migration::finding::{Code, Finding, Subject};
use crate::node::api::NodeFacts;

/// The storage driver whose writable layers are understood.
const STORAGE: &str = "overlay2";

/// Features of x86 processors, in the kernel's words, that only a kernel uses, or that programs are never told of: how it
/// counts time, saves power, guards itself, and runs virtual machines. All others may be in use by a program.
const NOT_FOR_PROGRAMS: &[&str] = &[
    "acpi",
    "amd_lbr_v2",
    "amd_ppin",
    "aperfmperf",
    "apic",
    "arat",
    "arch_capabilities",
    "arch_lbr",
    "arch_perfmon",
    "art",
    "avic",
    "bts",
    "bus_lock_detect",
    "cat_l2",
    "cat_l3",
    "cdp_l2",
    "cdp_l3",
    "cid",
    "cmp_legacy",
    "constant_tsc",
    "cpb",
    "cpuid",
    "cpuid_fault",
    "cqm",
    "cqm_llc",
    "cqm_mbm_local",
    "cqm_mbm_total",
    "cqm_occup_llc",
    "cr8_legacy",
    "dca",
    "de",
    "decodeassists",
    "ds_cpl",
    "dtes64",
    "dtherm",
    "dts",
    "epb",
    "ept",
    "ept_ad",
    "est",
    "extapic",
    "extd_apicid",
    "fast_lmul",
    "flexpriority",
    "flush_l1d",
    "flushbyasid",
    "ht",
    "hw_pstate",
    "hwp",
    "hwp_act_window",
    "hwp_epp",
    "hwp_notify",
    "hwp_pkg_req",
    "hypervisor",
    "ibpb",
    "ibrs",
    "ibrs_enhanced",
    "ibs",
    "ida",
    "intel_pt",
    "intel_ppin",
    "invpcid",
    "invpcid_single",
    "lbrv",
    "mba",
    "mca",
    "mce",
    "md_clear",
    "monitor",
    "mtrr",
    "nodeid_msr",
    "nonstop_tsc",
    "nonstop_tsc_s3",
    "nopl",
    "npt",
    "nrip_save",
    "nx",
    "osvw",
    "pae",
    "pat",
    "pausefilter",
    "pbe",
    "pcid",
    "pconfig",
    "pdcm",
    "pdpe1gb",
    "pebs",
    "perfctr_core",
    "perfctr_llc",
    "perfctr_nb",
    "perfmon_v2",
    "pfthreshold",
    "pge",
    "pku_os",
    "pln",
    "proc_feedback",
    "pse",
    "pse36",
    "pti",
    "pts",
    "rdt_a",
    "rep_good",
    "rrsba",
    "sep",
    "sev",
    "sev_es",
    "skinit",
    "sme",
    "smap",
    "smep",
    "smca",
    "spec_ctrl",
    "split_lock_detect",
    "ss",
    "ssbd",
    "stibp",
    "succor",
    "svm",
    "svm_lock",
    "tm",
    "tm2",
    "topoext",
    "tpr_shadow",
    "tsc_adjust",
    "tsc_deadline_timer",
    "tsc_known_freq",
    "tsc_reliable",
    "tsc_scale",
    "tsxldtrk",
    "umip",
    "v_spec_ctrl",
    "v_vmsave_vmload",
    "vaes_os",
    "vgif",
    "virt_ssbd",
    "vmcb_clean",
    "vme",
    "vmmcall",
    "vmx",
    "vnmi",
    "vpid",
    "wbnoinvd",
    "wdt",
    "x2apic",
    "xtopology",
    "xtpr",
];

/// What speaks against two nodes as a pair.
pub fn pair(source: &NodeFacts, destination: &NodeFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut same = |code, what: &str, a: &str, b: &str| {
        if a != b {
            let what = format!("they differ in {what}: `{a}` at the source, `{b}` at the destination");
            findings.push(Finding::new(code, Subject::Pair, what));
        }
    };
    same(Code::Architecture, "architecture", &source.arch, &destination.arch);
    same(Code::Kernel, "kernel", &source.kernel, &destination.kernel);
    same(Code::CgroupVersion, "cgroup version", &source.cgroup.to_string(), &destination.cgroup.to_string());
    same(Code::UserMap, "mapping of user numbers", &source.user_map, &destination.user_map);
    same(Code::CriuVersion, "version of CRIU", &source.criu, &destination.criu);
    same(Code::RuncVersion, "version of runc", &source.runc, &destination.runc);
    same(Code::SternaVersion, "version of sterna", &source.sterna, &destination.sterna);
    same(Code::SecurityProfile, "confinement", &source.security.join(", "), &destination.security.join(", "));
    let lacks = |feature: &&String| {
        !destination.cpu_features.contains(*feature) && !NOT_FOR_PROGRAMS.contains(&feature.as_str())
    };
    let missing: Vec<&str> = source.cpu_features.iter().filter(lacks).map(String::as_str).collect();
    if !missing.is_empty() {
        let what = format!("its processor lacks {}", missing.join(", "));
        findings.push(Finding::new(Code::CpuFeatures, Subject::Destination, what));
    }
    findings
}

/// What speaks against one node, whatever is to be moved.
pub fn node(end: Subject, facts: &NodeFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.storage != STORAGE {
        let what = format!("its engine's storage driver is `{}`", facts.storage);
        findings.push(Finding::new(Code::StorageDriver, end, what));
    }
    let broken = facts.criu_trouble.clone().or_else(|| known_bad(&facts.kernel, &facts.criu));
    findings.extend(broken.map(|what| Finding::new(Code::Criu, end, what)));
    findings
}

/// Kernels and versions of CRIU that are known not to go together.
fn known_bad(kernel: &str, criu: &str) -> Option<String> {
    let (kernel_is, criu_is) = (version(kernel)?, version(criu)?);
    let why = if criu_is < (3, 17) {
        "it can't restore programs of glibc 2.35 and later, nor dump what is frozen and leave it so"
    } else if kernel_is >= (6, 13) && criu_is < (4, 1) {
        "it can't start on kernels since 6.13 (criu commit 8ee2eba47)"
    } else if kernel_is >= (6, 18) && criu_is < (4, 2) {
        "it can't dump TCP sockets on kernels since 6.18"
    } else if kernel_is >= (7, 1) && criu_is < (4, 3) {
        "it can't dump on kernels since 7.1 (criu#3002)"
    } else {
        return None;
    };
    Some(format!("CRIU `{criu}` on kernel {kernel}: {why}"))
}

/// The first two numbers of a version, whatever stands around them.
fn version(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|character: char| !character.is_ascii_digit());
    let mut numbers = digits.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts::example()
    }

    #[test]
    fn unlike_nodes_are_refused_but_a_better_processor_is_not() {
        let with = |feature: &str| {
            let mut facts = facts();
            facts.cpu_features.push(feature.to_owned());
            facts
        };
        assert_eq!(pair(&facts(), &facts()), []);
        assert_eq!(pair(&facts(), &with("avx512f")), []);
        let lacking = Finding::new(Code::CpuFeatures, Subject::Destination, "its processor lacks avx512f");
        assert_eq!(pair(&with("avx512f"), &facts()), [lacking]);
        assert_eq!(pair(&with("vmx"), &facts()), [], "programs can't use virtual machines");
        for feature in ["xsavec", "avx2", "erms", "rdrand", "fsgsbase", "pku", "ospke"] {
            assert!(!NOT_FOR_PROGRAMS.contains(&feature), "{feature}");
        }
        let other = NodeFacts { kernel: "6.18".into(), cgroup: 1, ..facts() };
        let codes: Vec<Code> = pair(&facts(), &other).iter().map(|one| one.code).collect();
        assert_eq!(codes, [Code::Kernel, Code::CgroupVersion]);
    }

    #[test]
    fn a_node_whose_criu_or_engine_can_t_do_it_is_refused() {
        assert_eq!(node(Subject::Source, &facts()), []);
        let bad = NodeFacts { storage: "vfs".into(), criu_trouble: Some("no".into()), ..facts() };
        let found = node(Subject::Destination, &bad);
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::StorageDriver, Code::Criu]);
        assert!(found.iter().all(|one| one.subject == Subject::Destination));
    }

    #[test]
    fn kernels_and_criu_that_don_t_go_together_are_known() {
        for (kernel, criu, bad) in [
            ("6.18.5", "Version: 4.2.1", false),
            ("6.18.5-amd64", "Version: 4.1.1", true),
            ("6.13.0", "Version: 4.0", true),
            ("6.12.48+deb13", "Version: 4.1.1", false),
            ("6.1.0-39", "Version: 3.17.1", false),
            ("5.10.0", "Version: 3.16", true),
            ("7.1.0", "Version: 4.2.1", true),
            ("unknown", "", false),
        ] {
            assert_eq!(known_bad(kernel, criu).is_some(), bad, "{kernel} {criu}");
        }
    }
}
