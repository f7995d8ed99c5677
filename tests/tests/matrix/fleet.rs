//! Both repositories and a device, in memory.

use ampoule_protocol::client::Trusted;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::director::{self, Assignment};
use ampoule_protocol::downgrade::{Downgrade, Holder};
use ampoule_protocol::error::Coded;
use ampoule_protocol::json::{Map, Value};
use ampoule_protocol::metadata::{RoleType, TargetFile};
use ampoule_protocol::name::{DeviceId, HardwareId, TargetPath};
use ampoule_protocol::release::{Release, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use ampoule_tests::device::{Device, Fetched, Refused};
use ampoule_tests::sim::{DAWN, RepositorySimulator, TestKey, Tree};

pub(crate) const PRODUCT: &str = "infusion-pump";
pub(crate) const OWN: &str = "pump-0042";
const HARDWARE: &str = "pump-mk3";

/// What the image and the director repository serve.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) image: Tree,
    pub(crate) director: Tree,
}

/// The honest side, and a device that has seen it once.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) image: RepositorySimulator,
    pub(crate) director: RepositorySimulator,
    pub(crate) device: InFleet,
    pub(crate) now: UtcTime,
    /// What was served when the device looked for the first time.
    pub(crate) old: Served,
}

/// A device in a fleet.
#[derive(Clone)]
pub(crate) struct InFleet {
    id: DeviceId,
    pub(crate) image: Device,
    pub(crate) director: Device,
    pub(crate) floor: RollbackIndex,
}

impl Fleet {
    /// Root is held by three, two of whom must sign. Release 1 runs; release 2 is published and
    /// not offered to this device, release 3 is.
    pub(crate) fn new() -> Self {
        let mut image = RepositorySimulator::new();
        let shares = ["root a", "root b", "root c"].map(TestKey::ed25519);
        image.set_keys(RoleType::Root, &shares, 2);
        image.root.signers = shares.to_vec();
        image.add_product(PRODUCT);
        image.add_release(PRODUCT, "1.0.0", 5, b"release one");
        image.release_root();
        let mut director = RepositorySimulator::with_keys(|role| match role {
            "root" => TestKey::ed25519("director root"),
            _ => TestKey::ed25519("director online"),
        });
        address(&mut director, OWN);
        offer(&mut director, &image, "1.0.0", OWN);
        director.release();
        image.release();
        let roots = ["metadata/2.root.json", "metadata/1.root.json"];
        let mut fleet = Self {
            device: InFleet {
                id: DeviceId::parse(OWN).expect("an id"),
                image: Device::new(&image.tree[roots[0]]),
                director: Device::new(&director.tree[roots[1]]),
                floor: RollbackIndex(5),
            },
            now: UtcTime::parse(DAWN).expect("a time"),
            old: served(&image, &director),
            image,
            director,
        };
        fleet.device.director.lengths = director::LENGTHS;
        let served = fleet.served();
        let runs = fleet
            .device
            .update(&served, fleet.now)
            .expect("an honest start");
        assert_eq!(runs, Some(Digest::of(b"release one")));
        fleet.image.add_release(PRODUCT, "2.0.0", 6, b"release two");
        fleet.image.release();
        fleet
            .image
            .add_release(PRODUCT, "3.0.0", 7, b"release three");
        fleet.image.release();
        fleet.director.targets.targets.clear();
        offer(&mut fleet.director, &fleet.image, "3.0.0", OWN);
        fleet.director.release();
        fleet
    }

    pub(crate) fn served(&self) -> Served {
        served(&self.image, &self.director)
    }
}

fn served(image: &RepositorySimulator, director: &RepositorySimulator) -> Served {
    Served {
        image: image.tree.clone(),
        director: director.tree.clone(),
    }
}

/// Binds the director's targets to a device.
pub(crate) fn address(director: &mut RepositorySimulator, device: &str) {
    let extra = &mut director.targets.common.extra;
    extra.insert(director::DEVICE_MEMBER.into(), device.into());
}

/// Offers a release as the image repository describes it.
pub(crate) fn offer(
    director: &mut RepositorySimulator,
    image: &RepositorySimulator,
    version: &str,
    device: &str,
) {
    let path = TargetPath::parse(&format!("{PRODUCT}/release-{version}.toml")).expect("a path");
    let described = &image.delegated[PRODUCT].targets[&path];
    let terms = Map::from([
        ("format".into(), 1_u64.into()),
        ("device".into(), device.into()),
        ("hardware".into(), HARDWARE.into()),
    ]);
    let custom = Map::from([("ampoule".into(), Value::Object(terms))]);
    let file = TargetFile {
        custom: Some(Value::Object(custom)),
        ..described.clone()
    };
    director.targets.targets.insert(path, file);
}

impl InFleet {
    /// Another device of the same kind, which has seen the same.
    pub(crate) fn named(&self, id: &str) -> Self {
        Self {
            id: DeviceId::parse(id).expect("an id"),
            ..self.clone()
        }
    }

    /// One look: the digest of the image that it would install, none where nothing is offered.
    pub(crate) fn update(
        &mut self,
        served: &Served,
        now: UtcTime,
    ) -> Result<Option<Digest>, Refused> {
        let hardware = HardwareId::parse(HARDWARE).expect("an id");
        let refused = |error: &dyn Coded| Refused::by(error);
        let trusted = self.director.refresh(&served.director, now)?;
        let assignment =
            Assignment::read(&trusted, &self.id, &hardware).map_err(|e| refused(&e))?;
        let Some(offer) = assignment.offer() else {
            return Ok(None);
        };
        let mut trusted = self.image.refresh(&served.image, now)?;
        let target = self
            .image
            .find(&mut trusted, &served.image, offer.path().as_str())?;
        let agreed = offer.agree(target).map_err(|e| refused(&e))?;
        let release = agreed.release();
        if release.rollback_index < self.floor
            && !self.may_fall(&mut trusted, served, agreed.release(), now)
        {
            return Err(Refused {
                code: "rollback-index".into(),
                guilty: ampoule_protocol::error::Guilty::Repository,
                text: "below the floor".into(),
            });
        }
        let artifact = release.components[0].artifact.path.as_str();
        let bytes = self.image.download(&mut trusted, &served.image, artifact)?;
        Ok(Some(Digest::of(&bytes)))
    }

    /// Whether a record of the image repository lets this device, which runs 2.0.0 then, go to
    /// `release`.
    fn may_fall(
        &mut self,
        trusted: &mut Trusted,
        served: &Served,
        release: &Release,
        now: UtcTime,
    ) -> bool {
        let path = format!("{PRODUCT}/downgrade-1.json");
        let Ok(target) = self.image.find(trusted, &served.image, &path) else {
            return false;
        };
        let running = ReleaseVersion::parse("2.0.0").expect("a version");
        let holder = Holder {
            device: &self.id,
            used: 0,
            now,
        };
        let to = (&release.version, release.rollback_index);
        Downgrade::of_target(&target)
            .is_ok_and(|record| record.is_for(holder, &[&running], to).is_ok())
    }

    /// One look while nothing comes.
    pub(crate) fn update_in_silence(&mut self, now: UtcTime) -> Result<(), Refused> {
        let nothing = |_: &str, _: u64| Fetched::NotFound;
        self.director.refresh(nothing, now).map(drop)
    }
}
