//! `cargo xtask fleet-sim`: a whole fleet and its server in one process, or over real sockets.

use crate::shell::{self, Outcome};
use crate::workspace;

const HELP: &str = "\
cargo xtask fleet-sim [--devices N] [--seed S] [--poll SECS] [--look SECS] [--calm]
cargo xtask fleet-sim --load [--devices N] [--poll SECS] [--seconds SECS] [--threads N]

Simulates N devices (300) with the agent's own code, and the real server, over time that goes as
fast as it can: loss, power cuts, clocks that are off, hostile proxies, a server that dies. Says what
became of the devices and of four rollouts, two of which must halt. The same options give the same
run. 100,000 devices: --devices 100000 --poll 14400 --look 600

--load: N devices with identities of their own poll the real server over mutual TLS, in an open loop
(16 threads, each device once in 10 s, for 30 s); latencies, errors, CPU, and what the store has.";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|word| word == "--help" || word == "-h")
    {
        println!("{HELP}");
        return Ok(());
    }
    shell::heading("build the simulator");
    let mut build = workspace::cargo();
    build.args(["build", "--profile", "sim", "--locked", "--quiet"]);
    build.args(["--package", "ampoule-tests", "--bin", "fleet-sim"]);
    build.args(["--bin", "server-under-test"]);
    shell::run(&mut build)?;
    shell::heading("simulate");
    let program = workspace::target().join("sim/fleet-sim");
    shell::run(std::process::Command::new(program).args(arguments))
}
