"""python-tuf as a peer of our client and our signer.

    peer.py read WORK METADATA_URL TARGETS_URL ROOT TARGET...
        Downloads each TARGET with python-tuf's own client, starting from the file ROOT (the first
        time; later it goes on from WORK). Prints {"root": version, "targets": {path: sha256}}.

    peer.py check FOLDER
        Reads every metadata file below FOLDER, writes it back, and compares: same canonical bytes
        under the signatures, no member lost, key ids that are digests of their keys.

    peer.py write FOLDER KEYTYPE
        Makes a repository with keys of KEYTYPE (ed25519, ecdsa, rsa): two roots, the second with
        new keys for everything; a delegated role by path, one by hash prefix; a target in each.
        Prints {path: sha256} of the targets.
"""

import datetime
import hashlib
import json
import pathlib
import sys

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import Updater


def read(work, metadata_url, targets_url, root, *targets):
    work = pathlib.Path(work)
    (work / "metadata").mkdir(parents=True, exist_ok=True)
    (work / "targets").mkdir(exist_ok=True)
    first = not (work / "metadata" / "root.json").exists()
    updater = Updater(
        str(work / "metadata"),
        metadata_url,
        target_dir=str(work / "targets"),
        target_base_url=targets_url,
        bootstrap=pathlib.Path(root).read_bytes() if first else None,
    )
    updater.refresh()
    digests = {}
    for path in targets:
        info = updater.get_targetinfo(path)
        assert info is not None, f"python-tuf finds no target {path}"
        file = pathlib.Path(updater.download_target(info))
        digests[path] = hashlib.sha256(file.read_bytes()).hexdigest()
    root = Metadata.from_file(str(work / "metadata" / "root.json"))
    print(json.dumps({"root": root.signed.version, "targets": digests}))


def check(folder):
    files = sorted(pathlib.Path(folder).rglob("*.json"))
    for file in files:
        raw = file.read_bytes()
        metadata = Metadata.from_bytes(raw)
        plain = json.loads(raw)
        assert metadata.signed_bytes == encode_canonical(plain["signed"]).encode(), file
        assert metadata.to_dict() == plain, f"{file}: python-tuf loses a member"
        for keyid, key in keys_of(plain["signed"]):
            assert keyid == hashlib.sha256(encode_canonical(key).encode()).hexdigest(), file
    print(json.dumps({"files": len(files)}))


def keys_of(signed):
    yield from signed.get("keys", {}).items()
    yield from signed.get("delegations", {}).get("keys", {}).items()


MAKE = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsa": CryptoSigner.generate_rsa,
}
TOP = ["root", "timestamp", "snapshot", "targets"]


def write(folder, keytype):
    folder = pathlib.Path(folder)
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    make = MAKE[keytype]
    expires = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    expires += datetime.timedelta(days=30)
    contents = {
        "top.txt": b"by targets",
        "by-path/a.txt": b"by a role that is trusted for a path",
        "by-hash.txt": b"by a role that is trusted for hash prefixes",
    }
    described = {p: TargetFile.from_data(p, c, ["sha256", "sha512"]) for p, c in contents.items()}

    # Two keys for root, so that the threshold is more than one signature.
    old = {role: [make() for _ in range(2 if role == "root" else 1)] for role in TOP}
    new = {role: [make() for _ in range(2 if role == "root" else 1)] for role in TOP}
    save(folder, "1.root", root(old, 1, expires), old["root"])
    save(folder, "2.root", root(new, 2, expires), old["root"] + new["root"])

    path_key, hash_key = make(), make()
    prefix = hashlib.sha256(b"by-hash.txt").hexdigest()[:2]
    delegations = Delegations({}, {})
    delegations.roles["by-path"] = DelegatedRole("by-path", [], 1, False, ["by-path/*"])
    delegations.roles["by hash/é"] = DelegatedRole(
        "by hash/é", [], 1, True, path_hash_prefixes=[prefix]
    )
    targets = Targets(1, expires=expires, targets={"top.txt": described["top.txt"]})
    targets.delegations = delegations
    targets.add_key(path_key.public_key, "by-path")
    targets.add_key(hash_key.public_key, "by hash/é")
    by_path = Targets(1, expires=expires)
    by_path.targets["by-path/a.txt"] = described["by-path/a.txt"]
    by_hash = Targets(1, expires=expires)
    by_hash.targets["by-hash.txt"] = described["by-hash.txt"]

    snapshot = Snapshot(1, expires=expires)
    for role, payload, signers in (
        ("targets", targets, new["targets"]),
        ("by-path", by_path, [path_key]),
        ("by hash/é", by_hash, [hash_key]),
    ):
        name = "1." + role.replace(" ", "%20").replace("/", "%2F").replace("é", "%C3%A9")
        snapshot.meta[role + ".json"] = described_file(save(folder, name, payload, signers))
    timestamp = Timestamp(1, expires=expires)
    timestamp.snapshot_meta = described_file(save(folder, "1.snapshot", snapshot, new["snapshot"]))
    save(folder, "timestamp", timestamp, new["timestamp"])

    for path, content in contents.items():
        parent, _, name = path.rpartition("/")
        file = folder / "targets" / parent / f"{described[path].hashes['sha256']}.{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    print(json.dumps({p: hashlib.sha256(c).hexdigest() for p, c in contents.items()}))


def root(signers, version, expires):
    payload = Root(version, expires=expires, consistent_snapshot=True)
    for role in TOP:
        for signer in signers[role]:
            payload.add_key(signer.public_key, role)
        payload.roles[role].threshold = len(signers[role])
    return payload


def save(folder, name, payload, signers):
    metadata = Metadata(payload)
    for signer in signers:
        metadata.sign(signer, append=True)
    raw = metadata.to_bytes(JSONSerializer())
    (folder / "metadata" / f"{name}.json").write_bytes(raw)
    return raw


def described_file(raw):
    return MetaFile.from_data(1, raw, ["sha256"])


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"read": read, "check": check, "write": write}[command](*arguments)
