//! Plain types of the OCI specifications: references, digests, platforms. No IO.
