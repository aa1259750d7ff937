//! Flags of Podman and Docker that rbox has nowhere, each with the reason: who types one learns more than that
//! it is unknown.

const PODS: &str = "rbox has no pods";
const ADDRESSES: &str =
    "an address of a link holds on that link alone, and --ip6 gives one of the network";
const WINDOWS: &str = "it is for containers of Windows";

const ARTIFACTS: &str = "lists of rbox hold images, and no other files";
const SIGNED: &str = "rbox makes no signatures";

const REFUSED: [(&str, &str); 41] = [
    ("--artifact", ARTIFACTS),
    ("--artifact-config", ARTIFACTS),
    ("--artifact-config-type", ARTIFACTS),
    ("--artifact-exclude-titles", ARTIFACTS),
    ("--artifact-layer-type", ARTIFACTS),
    ("--artifact-subject", ARTIFACTS),
    ("--artifact-type", ARTIFACTS),
    ("--checkpoint", "rbox saves no processes"),
    ("--checkpoint-dir", "rbox saves no processes"),
    (
        "--compress",
        "--compression-format says in which form layers are sent",
    ),
    ("--cpu-count", WINDOWS),
    ("--cpu-percent", WINDOWS),
    ("--decryption-key", "rbox has no encrypted images"),
    ("--domainname", "--hostname takes a name with its domain"),
    (
        "--driver-opt",
        "settings of an interface are those of its network; --opt of `rbox network create` sets them",
    ),
    ("--encrypt-layer", "rbox has no encrypted images"),
    ("--encryption-key", "rbox has no encrypted images"),
    ("--external", "there are no containers but those of rbox"),
    (
        "--gw-priority",
        "the first of a container's networks that leads out is its way to the world",
    ),
    ("--init-ctr", PODS),
    ("--io-maxbandwidth", WINDOWS),
    ("--io-maxiops", WINDOWS),
    ("--isolation", WINDOWS),
    (
        "--link",
        "containers of one network find each other by name; --network NAME puts them on one",
    ),
    ("--link-local-ip", ADDRESSES),
    ("--pod", PODS),
    ("--pod-id-file", PODS),
    (
        "--requires",
        "a container is started alone; start those that it needs first",
    ),
    ("--runtime", "rbox is the runtime"),
    (
        "--seccomp-policy",
        "--security-opt seccomp=PROFILE chooses the filter",
    ),
    (
        "--secret",
        "rbox keeps no secrets; --mount shows the container a file",
    ),
    ("--sign-by", SIGNED),
    ("--sign-by-sigstore", SIGNED),
    ("--sign-by-sigstore-private-key", SIGNED),
    ("--sign-by-sq-fingerprint", SIGNED),
    ("--sign-passphrase-file", SIGNED),
    ("--storage-opt", "the store has no options"),
    (
        "--sync",
        "what rbox tells is never older than the processes",
    ),
    ("--use-api-socket", "rbox has no API socket"),
    (
        "--volume-driver",
        "volumes are directories of rbox; --mount takes the options of one",
    ),
    ("--wait", "`rbox wait` waits"),
];

/// Why there is no such flag, if that is known.
pub fn reason(flag: &str) -> Option<&'static str> {
    let found = REFUSED.iter().find(|(refused, _)| *refused == flag);
    found.map(|(_, reason)| *reason)
}
