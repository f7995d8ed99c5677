//! Who is counted together: the devices with the same value of a tag that a cap counts.
//!
//! A device that asks for a lock is answered from its own ward, not from the whole fleet: a hospital
//! restarts at night, all wards of it in the same hour.

use std::collections::{BTreeSet, HashMap};

use super::facts::{DeviceFacts, Tags};
use super::permits::Cap;

/// See the module's head. It is told of each device whose tags change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    caps: Vec<Cap>,
    /// For each cap, by the value of its tag.
    members: Vec<HashMap<String, BTreeSet<u32>>>,
}

impl Neighbours {
    /// Of a fleet in which nobody has a tag yet.
    pub fn new(caps: Vec<Cap>) -> Self {
        let members = caps.iter().map(|_| HashMap::new()).collect();
        Self { caps, members }
    }

    /// Of these devices.
    pub fn of(caps: Vec<Cap>, devices: &[DeviceFacts]) -> Self {
        let mut this = Self::new(caps);
        for device in devices {
            this.moved(device.number, &Tags::new(), &device.tags);
        }
        this
    }

    /// The caps by which is counted.
    pub fn caps(&self) -> &[Cap] {
        &self.caps
    }

    /// A device had these tags and has those now.
    pub fn moved(&mut self, device: u32, from: &Tags, to: &Tags) {
        for (cap, members) in self.caps.iter().zip(&mut self.members) {
            let (from, to) = (from.get(&cap.tag), to.get(&cap.tag));
            if from == to {
                continue;
            }
            if let Some(value) = from
                && let Some(group) = members.get_mut(value)
            {
                group.remove(&device);
                if group.is_empty() {
                    members.remove(value);
                }
            }
            if let Some(value) = to {
                members.entry(value.clone()).or_default().insert(device);
            }
        }
    }

    /// Whoever a cap counts together with this device, itself among them; whom several count comes
    /// several times.
    pub fn beside(&self, device: &DeviceFacts) -> impl Iterator<Item = u32> {
        let counted = self.caps.iter().zip(&self.members);
        let groups = counted.filter_map(|(cap, members)| members.get(device.tag(&cap.tag)?));
        groups.flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ampoule_protocol::name::DeviceId;
    use proptest::prelude::*;

    use super::*;

    fn device(number: u32) -> DeviceFacts {
        DeviceFacts {
            number,
            device: DeviceId::parse(&format!("pump-{number}")).unwrap(),
            enrolled: true,
            enrolled_at: 0,
            seen_at: None,
            profile: None,
            tags: Arc::default(),
        }
    }

    fn caps() -> Vec<Cap> {
        let cap = |tag: &str| Cap {
            tag: tag.into(),
            max: 1,
        };
        vec![cap("ward"), cap("patient")]
    }

    proptest! {
        /// However devices were moved, it is as if they had always been where they are, and each has
        /// beside it whom a look at all of them finds there.
        #[test]
        fn it_follows_devices_wherever_they_go(
            moves in prop::collection::vec(
                (0_u32..6, prop::collection::btree_map("ward|patient|site", "[ab]", 0..3)),
                0..40,
            )
        ) {
            let mut devices: Vec<_> = (0..6).map(device).collect();
            let mut neighbours = Neighbours::new(caps());
            for (number, tags) in moves {
                let device = &mut devices[number as usize];
                neighbours.moved(number, &device.tags, &tags);
                device.tags = Arc::new(tags);
            }
            prop_assert_eq!(&neighbours, &Neighbours::of(caps(), &devices));
            for device in &devices {
                let mut wanted = Vec::new();
                for cap in caps() {
                    let value = device.tag(&cap.tag);
                    let same = devices.iter().filter(|other| other.tag(&cap.tag) == value);
                    wanted.extend(value.into_iter().flat_map(|_| same.clone()).map(|other| other.number));
                }
                prop_assert_eq!(neighbours.beside(device).collect::<Vec<_>>(), wanted);
            }
        }
    }
}
