//! Stands in for the software of an infusion pump in `cargo xtask demo`.
//!
//! It is built three times: plain, with another version stamp and the feature `alarm-relay`, and
//! with the feature `stuck-alarm`, a real bug that its self-test finds on the device.

use std::process::ExitCode;

/// Stamped in by the build.
const VERSION: &str = match option_env!("PUMP_VERSION") {
    Some(version) => version,
    None => "0.0.0",
};

/// Above this many millilitres an hour the pump must call for help.
const FLOW_MAX_ML_PER_H: u32 = 1_200;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("pump {VERSION} ({})", outputs().join(", "));
            ExitCode::SUCCESS
        }
        Some("--self-test") => self_test(),
        _ => {
            eprintln!("error: usage: pump --version | --self-test");
            ExitCode::from(2)
        }
    }
}

/// Where an alarm goes.
fn outputs() -> Vec<&'static str> {
    let mut outputs = vec!["buzzer"];
    if cfg!(feature = "alarm-relay") {
        outputs.push("nurse call relay");
    }
    outputs
}

/// Whether the pump calls for help at this flow.
fn alarms(flow_ml_per_h: u32) -> bool {
    !cfg!(feature = "stuck-alarm") && flow_ml_per_h > FLOW_MAX_ML_PER_H
}

fn self_test() -> ExitCode {
    let quiet_when_fine = !alarms(FLOW_MAX_ML_PER_H);
    let loud_when_not = alarms(FLOW_MAX_ML_PER_H + 1);
    if quiet_when_fine && loud_when_not {
        println!("pump {VERSION}: self-test passed");
        ExitCode::SUCCESS
    } else {
        eprintln!(
            "pump {VERSION}: the alarm does not sound at {} ml/h",
            FLOW_MAX_ML_PER_H + 1
        );
        ExitCode::FAILURE
    }
}
