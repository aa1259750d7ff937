//! Containers made from bundles (`rbox oci`): a state directory each, no supervisor, nothing of the engine's store.
