//! Boot control as a recovery image sees it: neither slot runs.
//!
//! The default is shown as the running slot, so that the rest of the agent repairs the other one:
//! a slot that might still boot is not written while another can be.

use ampoule_protocol::name::ComponentName;

use super::BootError;
use crate::install::VerifiedImage;
use crate::machine::{BootView, Slot};
use crate::ports::BootControl;

/// Boot control of a device that runs its recovery image.
pub struct RecoveryBoot<B>(pub B);

impl<B: BootControl> BootControl for RecoveryBoot<B> {
    fn view(&self, component: &ComponentName) -> Result<BootView, BootError> {
        let view = self.0.view(component)?;
        Ok(BootView {
            running: view.default,
            ..view
        })
    }

    fn arm(&mut self, image: &VerifiedImage, attempts: u32) -> Result<(), BootError> {
        self.0.arm(image, attempts)
    }

    fn arm_all(&mut self, images: &[VerifiedImage], attempts: u32) -> Result<(), BootError> {
        self.0.arm_all(images, attempts)
    }

    fn disarm(&mut self, component: &ComponentName) -> Result<(), BootError> {
        self.0.disarm(component)
    }

    fn disarm_all(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        self.0.disarm_all(components)
    }

    fn commit(&mut self, component: &ComponentName, slot: Slot) -> Result<(), BootError> {
        self.0.commit(component, slot)
    }

    fn commit_all(&mut self, slots: &[(ComponentName, Slot)]) -> Result<(), BootError> {
        self.0.commit_all(slots)
    }
}
