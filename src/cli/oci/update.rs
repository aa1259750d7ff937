//! `rbox oci update`.

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use crate::bundle::update;
use crate::bundle::update::Change;
use crate::cli::oci::Context;
use crate::error;
use crate::oci::runtime as runtime_spec;
use crate::text::size;

/// Change the limits of a container
///
/// What is not named stays as it is. Memory is in bytes, or with k, m or g; -1 is no limit.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    id: String,

    /// Read a JSON object as linux.resources of config.json from here, `-` for standard input; other flags are ignored
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Relative weight of block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// How far unused processor time may be saved up (microseconds)
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,

    /// 1: run only when nothing else wants to
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,

    /// In which time the quota may be used up (microseconds)
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,

    /// Processor time in each period (microseconds)
    #[arg(long, value_name = "USEC")]
    cpu_quota: Option<i64>,

    /// Period of realtime processes; control groups v2 have none
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,

    /// Quota of realtime processes; control groups v2 have none
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<i64>,

    /// Relative weight of processor time, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,

    /// Processors to run on, as 0-3,5
    #[arg(long, value_name = "SET")]
    cpuset_cpus: Option<String>,

    /// Memory nodes to use, as 0-1
    #[arg(long, value_name = "SET")]
    cpuset_mems: Option<String>,

    /// Limit of kernel memory; control groups v2 have none
    #[arg(long, value_name = "SIZE", value_parser = bytes, hide = true)]
    kernel_memory: Option<i64>,

    /// Limit of kernel memory of TCP; control groups v2 have none
    #[arg(long, value_name = "SIZE", value_parser = bytes, hide = true)]
    kernel_memory_tcp: Option<i64>,

    /// Schema of the third level cache (resctrl)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,

    /// Schema of memory bandwidth (resctrl)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,

    /// Limit of memory
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<i64>,

    /// Memory that is taken from others first
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory_reservation: Option<i64>,

    /// Limit of memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory_swap: Option<i64>,

    /// Limit of processes
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
}

/// -1, or bytes.
fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = size::parse(text).map_err(|err| error::message(&err))?;
    i64::try_from(bytes).map_err(|_| format!("size {text:?}: expected at most {}", i64::MAX))
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    let resources = match &args.resources {
        Some(path) => runtime_spec::read_resources(path)?,
        None => resources(&args)?,
    };
    let change = Change {
        resources,
        cache: args.l3_cache_schema,
        bandwidth: args.mem_bw_schema,
    };
    update::update(&container, &change)?;
    Ok(0)
}

fn resources(args: &Args) -> anyhow::Result<LinuxResources> {
    let mut value = json!({
        "memory": {
            "limit": args.memory,
            "reservation": args.memory_reservation,
            "swap": args.memory_swap,
            "kernel": args.kernel_memory,
            "kernelTCP": args.kernel_memory_tcp,
        },
        "cpu": {
            "shares": args.cpu_share,
            "quota": args.cpu_quota,
            "period": args.cpu_period,
            "burst": args.cpu_burst,
            "idle": args.cpu_idle,
            "realtimePeriod": args.cpu_rt_period,
            "realtimeRuntime": args.cpu_rt_runtime,
            "cpus": args.cpuset_cpus,
            "mems": args.cpuset_mems,
        },
        "blockIO": {"weight": args.blkio_weight},
    });
    if let Some(limit) = args.pids_limit {
        value["pids"] = json!({ "limit": limit });
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_be_no_limit() {
        assert_eq!(bytes("-1"), Ok(-1));
        assert_eq!(bytes("5m"), Ok(5 << 20));
        assert!(bytes("-2").is_err());
        assert_eq!(
            bytes("9000p"),
            Err(format!("size \"9000p\": expected at most {}", i64::MAX))
        );
    }
}
