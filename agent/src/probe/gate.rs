//! The gate `boot-probe`: no update before the boot loader was proven, where the device is told so.

use ampoule_protocol::name::ComponentName;

use super::Records;
use crate::gate::{Answer, Gate, Question};

/// Closed until a probe passed.
pub struct Proven {
    records: Records,
    /// Whose boot loaders must be proven.
    components: Vec<ComponentName>,
}

impl Proven {
    /// Over these records, for the components that have a boot loader.
    pub const fn new(records: Records, components: Vec<ComponentName>) -> Self {
        Self {
            records,
            components,
        }
    }
}

impl Gate for Proven {
    fn name(&self) -> &'static str {
        "boot-probe"
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        let found = match self.records.found() {
            Ok(found) => found,
            Err(error) => return Answer::unknown(error.to_string()),
        };
        for component in &self.components {
            match found.iter().find(|found| found.component == *component) {
                Some(found) if found.passed => {}
                Some(found) => return Answer::no(found.detail.clone()),
                None => {
                    return Answer::no(format!(
                        "nobody has run \"ampoule-agent probe-boot {component}\""
                    ));
                }
            }
        }
        Answer::Yes
    }
}
