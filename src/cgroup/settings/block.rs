//! `blockIO` of a config.json.

use anyhow::Result;
use oci_spec::runtime::LinuxBlockIo;
use oci_spec::runtime::LinuxThrottleDevice;

use super::Setting;
use super::absent;
use super::wrong;

pub(super) fn add(list: &mut Vec<Setting>, block: &LinuxBlockIo) -> Result<()> {
    if given(block.leaf_weight()).is_some() {
        return Err(absent("blockIO.leafWeight"));
    }
    if let Some(weight) = given(block.weight()) {
        list.push(weighed("", weight)?);
    }
    for device in block.weight_device().iter().flatten() {
        if given(device.leaf_weight()).is_some() {
            return Err(absent("leafWeight of blockIO.weightDevice"));
        }
        if let Some(weight) = given(device.weight()) {
            list.push(weighed(&node(device.major(), device.minor())?, weight)?);
        }
    }
    for (key, devices) in [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            list.push(throttled(key, device)?);
        }
    }
    Ok(())
}

fn given(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}

/// `MAJOR:MINOR ` of a device.
fn node(major: i64, minor: i64) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor} ")),
        _ => Err(wrong(format!(
            "blockIO: {major}:{minor} is not the number of a device"
        ))),
    }
}

/// A weight: as it is for the scheduler BFQ, where the kernel has that; else on the scale of `io.weight`, 1 to 10000.
fn weighed(node: &str, weight: u16) -> Result<Setting> {
    if !(10..=1000).contains(&weight) {
        return Err(wrong(format!(
            "blockIO: weight {weight}: expected 10 to 1000"
        )));
    }
    let scaled = 1 + (u64::from(weight) - 10) * 9999 / 990;
    Ok(Setting {
        instead: Some(("io.weight".into(), format!("{node}{scaled}"))),
        ..Setting::new("io.bfq.weight", format!("{node}{weight}"))
    })
}

/// A rate; 0 is no limit, as it was in version 1.
fn throttled(key: &str, device: &LinuxThrottleDevice) -> Result<Setting> {
    let node = node(device.major(), device.minor())?;
    Ok(match device.rate() {
        0 => Setting::new("io.max", format!("{node}{key}=max")).optional(true),
        rate => Setting::new("io.max", format!("{node}{key}={rate}")),
    })
}
