//! Seccomp profiles as Docker and Podman take them: those of the OCI, with rules that count only for some
//! capabilities, architectures or kernels. `Profile::resolve` leaves what holds for one container. No IO.

use std::collections::HashSet;

use anyhow::Result;
use anyhow::bail;
use oci_spec::runtime::Arch;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompFilterFlag;
use oci_spec::runtime::LinuxSyscall;
use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Profile {
    pub default_action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The errno's name (Podman's form).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub default_errno: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<Arch>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch_map: Option<Vec<Family>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<LinuxSeccompFilterFlag>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<Rule>>,
}

/// An architecture, and those whose programs its kernels run too. Names, since many are not known here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Family {
    pub architecture: String,
    pub sub_architectures: Option<Vec<String>>,
}

/// Unknown fields are refused: a misspelt condition would widen what is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Docker's old form of `names`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    pub action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub errno: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<LinuxSeccompArg>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub includes: Option<Circumstances>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Circumstances>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Circumstances {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<Capability>,
    /// Names of Go (amd64), or of libseccomp's tools (x86, x32).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arches: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_kernel: String,
}

/// What a profile is resolved for.
pub struct Surroundings<'a> {
    pub capabilities: &'a HashSet<Capability>,
    /// The first two numbers of the release.
    pub kernel: (u32, u32),
}

const NATIVE: &str = if cfg!(target_arch = "x86_64") {
    "SCMP_ARCH_X86_64"
} else {
    "SCMP_ARCH_AARCH64"
};
const NATIVE_OF_GO: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    "arm64"
};

impl Profile {
    /// Reads a profile, and checks all of it that does not depend on the container.
    pub fn parse(text: &str) -> Result<Profile> {
        let profile: Profile = serde_json::from_str(text)?;
        let given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        if !given.contains_key("defaultAction") {
            bail!("it has no defaultAction");
        }
        let everything = HashSet::new();
        profile.resolve(&Surroundings {
            capabilities: &everything,
            kernel: (u32::MAX, 0),
        })?;
        Ok(profile)
    }

    /// The profile of the OCI for one container.
    pub fn resolve(&self, surroundings: &Surroundings<'_>) -> Result<LinuxSeccomp> {
        let mut resolved = LinuxSeccomp::default();
        resolved.set_default_action(self.default_action);
        resolved.set_default_errno_ret(errno(self.default_errno_ret, &self.default_errno)?);
        resolved.set_architectures(self.architectures()?);
        resolved.set_flags(self.flags.clone());
        if !self.listener_path.is_empty() {
            resolved.set_listener_path(Some(self.listener_path.clone().into()));
        }
        if !self.listener_metadata.is_empty() {
            resolved.set_listener_metadata(Some(self.listener_metadata.clone()));
        }
        let mut calls = Vec::new();
        for rule in self.syscalls.iter().flatten() {
            let call = rule.resolve()?;
            if rule.counts(surroundings)? {
                calls.push(call);
            }
        }
        resolved.set_syscalls(Some(calls));
        Ok(resolved)
    }

    fn architectures(&self) -> Result<Option<Vec<Arch>>> {
        let listed = self.architectures.as_ref().filter(|all| !all.is_empty());
        let Some(families) = self.arch_map.as_ref().filter(|all| !all.is_empty()) else {
            return Ok(listed.cloned());
        };
        if listed.is_some() {
            bail!("it has both architectures and archMap");
        }
        let Some(family) = families.iter().find(|one| one.architecture == NATIVE) else {
            return Ok(None);
        };
        let names =
            std::iter::once(&family.architecture).chain(family.sub_architectures.iter().flatten());
        let known = |name: &String| {
            let name = serde_json::Value::String(name.clone());
            serde_json::from_value(name)
        };
        Ok(Some(names.map(known).collect::<Result<_, _>>()?))
    }
}

impl Rule {
    fn resolve(&self) -> Result<LinuxSyscall> {
        let names = match (self.name.as_str(), self.names.as_slice()) {
            ("", []) => bail!("a rule has no names"),
            ("", names) => names.to_vec(),
            (name, []) => vec![name.to_owned()],
            (name, _) => bail!("the rule for {name} has both name and names"),
        };
        let mut call = LinuxSyscall::default();
        call.set_names(names);
        call.set_action(self.action);
        call.set_errno_ret(errno(self.errno_ret, &self.errno)?);
        call.set_args(self.args.clone());
        Ok(call)
    }

    /// All capabilities of `includes` must be there, and none of `excludes`; of architectures one is enough.
    fn counts(&self, surroundings: &Surroundings<'_>) -> Result<bool> {
        let native = |arches: &[String]| arches.iter().any(|arch| arch == NATIVE_OF_GO);
        let has = |capability| surroundings.capabilities.contains(capability);
        if let Some(includes) = &self.includes
            && (!includes.kernel(surroundings)?.unwrap_or(true)
                || (!includes.arches.is_empty() && !native(&includes.arches))
                || !includes.caps.iter().all(has))
        {
            return Ok(false);
        }
        if let Some(excludes) = &self.excludes
            && (excludes.kernel(surroundings)?.unwrap_or(false)
                || native(&excludes.arches)
                || excludes.caps.iter().any(has))
        {
            return Ok(false);
        }
        Ok(true)
    }
}

impl Circumstances {
    /// Whether the kernel is as new as is asked for; `None` where nothing is.
    fn kernel(&self, surroundings: &Surroundings<'_>) -> Result<Option<bool>> {
        if self.min_kernel.is_empty() {
            return Ok(None);
        }
        let Some(asked) = kernel_version(&self.min_kernel) else {
            bail!(
                "minKernel \"{}\": expected a version such as 4.8",
                self.min_kernel
            );
        };
        Ok(Some(surroundings.kernel >= asked))
    }
}

/// The first two numbers of a kernel's release, such as 6.1 of `6.1.0-18-amd64`.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

/// The number, or that of the name, which counts where both are given.
fn errno(number: Option<u32>, name: &str) -> Result<Option<u32>> {
    if name.is_empty() {
        return Ok(number);
    }
    let known = (1..134)
        .map(syscalls::Errno::new)
        .find(|known| known.name() == Some(name));
    match known {
        Some(known) => Ok(Some(known.into_raw().cast_unsigned())),
        None => bail!("unknown errno \"{name}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, capabilities: &[Capability], kernel: (u32, u32)) -> LinuxSeccomp {
        let capabilities = capabilities.iter().copied().collect();
        let surroundings = Surroundings {
            capabilities: &capabilities,
            kernel,
        };
        Profile::parse(text)
            .unwrap()
            .resolve(&surroundings)
            .unwrap()
    }

    fn names(profile: &LinuxSeccomp) -> String {
        let rules = profile.syscalls().iter().flatten();
        let names: Vec<_> = rules.flat_map(|rule| rule.names().clone()).collect();
        names.join(" ")
    }

    #[test]
    fn rules_count_in_their_circumstances() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL", "CAP_BPF"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL", "CAP_BPF"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.10"}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.10"}},
            {"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}},
            {"names": ["g"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["h"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}},
            {"name": "i", "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}, "args": null}]}"#;
        let both = [Capability::Kill, Capability::Bpf];
        for (capabilities, kernel, want) in [
            (&both[..0], (4, 9), "a c e f h i"),
            (&both[..1], (4, 10), "a d f h i"),
            (&both[..], (5, 0), "a b d f h i"),
        ] {
            assert_eq!(names(&resolved(text, capabilities, kernel)), want);
        }
    }

    #[test]
    fn names_of_errnos_and_families_of_architectures() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "defaultErrno": "ENOSYS",
            "archMap": [{"architecture": "SCMP_ARCH_S390X", "subArchitectures": null},
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_OF_TOMORROW", "subArchitectures": []}],
            "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EINVAL"}]}"#;
        let profile = resolved(text, &[], (6, 0));
        assert_eq!(profile.default_errno_ret(), Some(38));
        let rules = profile.syscalls().clone().unwrap();
        assert_eq!(rules[0].errno_ret(), Some(22));
        assert_eq!(profile.architectures().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, want) in [
            ("{}", "it has no defaultAction"),
            (
                r#"{"defaultAction": "SCMP_ACT_PERHAPS"}"#,
                "unknown variant `SCMP_ACT_PERHAPS`",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "exclude": {}}]}"#,
                "unknown field `exclude`",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"action": "SCMP_ACT_LOG"}]}"#,
                "a rule has no names",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]}"#,
                "the rule for a has both name and names",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrno": "EWHAT"}"#,
                "unknown errno \"EWHAT\"",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "a"}]}"#,
                "it has both architectures and archMap",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}]}"#,
                "minKernel \"new\": expected a version such as 4.8",
            ),
        ] {
            let got = format!("{:#}", Profile::parse(text).unwrap_err());
            assert!(got.starts_with(want), "{got}");
        }
    }

    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.12"), Some((5, 12)));
        assert_eq!(kernel_version("6.18-rc1"), Some((6, 18)));
        assert_eq!(kernel_version("6"), None);
    }
}
