#!/usr/bin/env python3
"""Restores backups and WAL from a walrs repository without walrs. Written from docs/format.md, version 1, not from the
Rust code; "section" means a section there. What it reads is verified before it is relied on."""

import argparse
import base64
import contextlib
import functools
import hmac
import importlib
import json
import os
import pathlib
import re
import shlex
import struct
import sys

NOT_ARCHIVED, USAGE, FAILED, DAMAGED = 1, 2, 3, 5  # exit statuses
MIB, BLOCK, SKIPPABLE = 1024 * 1024, 8192, 0x184D2A57
PRELUDE, END = struct.Struct("<8sBBBB4s16sQ32s32sH2s16s"), struct.Struct("<IIB3s16s64s")
RECORD = struct.Struct("<IIBBHIQII16s")  # header of a chunk or an index record
WAL_SEGMENT, TIMELINE_HISTORY, PACK, FILE_LIST_PART, MANIFEST = 1, 4, 5, 6, 7
PG_CONTROL = [b"global", b"pg_control"]
BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-[a-z2-7]{6}")

HELP = """\
REPOSITORY is a local directory: of a bucket, copy everything below the prefix first (for example with rclone).
BACKUP is a backup's id, or LATEST: the newest finished backup that is not deleted. DEST must be empty or absent.

  Restore the newest backup:   walrs_reader.py --key-file walrs.key /backup/main LATEST /restore/main
  Fetch one WAL file:          walrs_reader.py --key-file walrs.key /backup/main --wal 00000001000000000000002A out
  See what there is:           ls /backup/main/backups /backup/main/wal/*/*

Tablespaces become real directories below DEST/pg_tblspc unless --tablespace moves them. Recovery is not configured:
after a restore the program prints what is left to do, with a restore_command that uses this program.

Exit status: 0 done and verified; 1 the WAL file is not archived; 2 wrong usage or wrong key; 3 anything else (disk
full, a Python module is missing); 5 the repository is damaged. After any but 0, do not use what is in DEST, unless the
message says that it is whole: then only data that other backups need is damaged."""


class Refused(Exception):
    """Raised with the exit status and one line that says what is wrong."""


def damaged(name, why):
    return Refused(DAMAGED, f"`{name}` is damaged: {why}")


def module(name):
    """A module that is not in the standard library, loaded only when the repository needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise Refused(FAILED, f"cannot load a Python module ({missing}): pip install -r requirements.txt") from None


def blake3(data=b"", **keywords):
    return module("blake3").blake3(data, **keywords)


def lp(*fields):
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def hkdf(key, salt, info):
    """The first and the second 32 bytes that HKDF-SHA-256 derives."""
    extracted = hmac.digest(salt, key, "sha256")
    first = hmac.digest(extracted, info + b"\1", "sha256")
    return first, hmac.digest(extracted, first + info + b"\2", "sha256")


def aes_gcm_open(key, nonce, sealed, associated):
    """The plain text, or None when the tag at the end of `sealed` does not match."""
    try:
        return module("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key).decrypt(nonce, sealed, associated)
    except module("cryptography.exceptions").InvalidTag:
        return None


def decompress(codec, frame, length):
    """The content of exactly one frame; less than `length` bytes when it is anything else."""
    if codec == 2:
        decoder = module("lz4.frame").LZ4FrameDecompressor()
        with contextlib.suppress(RuntimeError):
            content = decoder.decompress(frame, max_length=length + 1)
            return content if decoder.eof and not decoder.unused_data else b""
    else:
        zstd = module("zstandard")
        with contextlib.suppress(zstd.ZstdError):
            if zstd.get_frame_parameters(frame).content_size in (length, zstd.CONTENTSIZE_UNKNOWN):
                return zstd.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    return b""


class Container:
    """One object of section 3. Opening it verifies its prelude, key commitment, head and end record."""

    def __init__(self, repository, name, kind, system=None):
        self.name, self.suite, self.file = name, repository.suite, repository.open(name)
        self.size = os.fstat(self.file.fileno()).st_size
        self.read_prelude(repository, name, kind, system)
        self.read_end()

    def expect(self, condition, why):
        if not condition:
            raise damaged(self.name, why)

    def read(self, position, length):
        self.file.seek(position)
        data = self.file.read(length)
        self.expect(len(data) == length, "it ends too early")
        return data

    def read_prelude(self, repository, name, kind, system):
        magic, length = struct.unpack("<II", self.read(0, 8))
        self.expect(magic == SKIPPABLE and 124 <= length <= 4096 - 8, "it does not begin with a prelude")
        frame = self.read(0, 8 + length)
        (magic, version, suite, self.codec, found, reserved, key_id, self.system, salt, commitment, head_length,
         reserved_too, tag) = PRELUDE.unpack_from(frame, 8)
        expected = (magic, reserved, reserved_too, head_length) == (b"WALRSOBJ", bytes(4), bytes(2), length - 124)
        self.expect(expected, "it does not begin with a prelude")
        self.expect(version == 1, f"container version {version} is not known to this program")
        self.expect((suite, key_id) == (self.suite, repository.key_id), "it is not sealed like the repository")
        self.expect(found == kind and self.codec <= 2, f"kind {found}, codec {self.codec} do not belong here")
        self.expect(system in (None, self.system), f"it belongs to another cluster, {self.system}")
        self.prelude_digest, self.body = blake3(frame).digest(), len(frame)
        if suite == 1:
            place = repository.id, struct.pack("<Q", self.system), bytes([kind]), name.encode()
            self.key, expected = hkdf(repository.key, salt, lp(b"walrs/v1/object", b"\1", *place))
            # This cannot be a wrong key any more: a slot has proved that the key is the repository's.
            self.expect(hmac.compare_digest(commitment, expected), "its salt, key commitment or name are wrong")
        self.expect(suite == 1 or not any(salt + commitment), "it is plain but has a salt or a key commitment")
        self.head = json.loads(self.unseal("head", (1, 0, 0), frame[:116], tag, frame[132:]))
        self.expect(self.head["name"] == name, f"it is a copy of `{self.head['name']}`")

    def read_end(self):
        frame = self.read(max(self.body, self.size - END.size), END.size)
        magic, length, kind, reserved, tag, sealed = END.unpack(frame)
        self.expect((magic, length, kind, reserved) == (SKIPPABLE, 84, 4, bytes(3)), "it has no end record at its end")
        totals = self.unseal("end record", (4, 0, 0), self.prelude_digest + frame[:12], tag, sealed)
        self.chunk_count, self.length, self.digest, self.index_at, self.index_count = struct.unpack("<QQ32sQQ", totals)
        found = {"raw_length": self.length, "digest": self.digest.hex(), "body_length": self.size - self.body}
        self.expect({**found, **self.head}.items() >= found.items(), "its head and its end record disagree")

    def unseal(self, what, role_last_index, associated, tag, sealed):
        if self.suite == 0:
            content = sealed if blake3(associated + sealed).digest(16) == tag else None
        else:
            content = aes_gcm_open(self.key, struct.pack("<BxxBQ", *role_last_index), sealed + tag, associated)
        self.expect(content is not None, f"the tag of its {what} does not match")
        return content

    def record(self, kind, number, count, position):
        """The content of a chunk (kind 2) or index record (3) at a position, and the position after it."""
        what = f"{'chunk' if kind == 2 else 'index record'} {number} (at byte {position})"
        header = self.read(position, RECORD.size)
        magic, payload, found, flags, reserved, raw, index, stored, reserved_too, tag = RECORD.unpack(header)
        expected = (magic, found, index, reserved, reserved_too) == (SKIPPABLE, kind, number, 0, 0)
        self.expect(expected and payload == (40 if kind == 2 else 40 + stored), f"there is no {what}")
        self.expect(1 <= raw <= MIB and stored <= raw + 65536, f"its {what} has an impossible length")
        self.expect(flags == int(number == count - 1), f"its {what} is wrong about being the last one")
        sealed = self.read(position + RECORD.size, stored)
        frame = self.unseal(what, (kind, flags, index), self.prelude_digest + header[:32], tag, sealed)
        content = decompress(self.codec, frame, raw)
        self.expect(len(content) == raw, f"its {what} is not one frame of {raw} bytes")
        return content, position + RECORD.size + stored

    def records(self, kind, count, position, end):
        for number in range(count):
            content, after = self.record(kind, number, count, position)
            yield position, content
            position = after
        self.expect(position == end, f"nobody knows what is at byte {position}")

    def chunks(self):
        """Every chunk and its position. After the last one, length and digest of them all are compared."""
        length, digest = 0, blake3()
        for position, content in self.records(2, self.chunk_count, self.body, self.index_at or self.size - END.size):
            length += len(content)
            digest.update(content)
            yield position, content
        self.expect((length, digest.digest()) == (self.length, self.digest), "its content has another length or digest")

    def content(self):
        self.expect(self.index_at == self.index_count == 0, "it has index records, which only packs have")
        return b"".join(content for _, content in self.chunks())

    def chunk_positions(self):
        """Where the chunks of a pack lie, from the pack index (section 5)."""
        self.expect(self.index_at and self.index_count, "it has no pack index")
        records = self.records(3, self.index_count, self.index_at, self.size - END.size)
        index = b"".join(content for _, content in records)
        version, chunks, extents, reserved = struct.unpack_from("<IIII", index)
        self.expect((version, chunks, reserved) == (1, self.chunk_count, 0), "its index is of another pack or version")
        at = 16
        for _ in ("first path", "last path"):
            at += 4 + struct.unpack_from("<I", index, at)[0]
        positions = [struct.unpack_from("<QII", index, at + 16 * number)[0] for number in range(chunks)]
        at += 16 * chunks
        for _ in range(extents):
            at += 4 + struct.unpack_from("<I", index, at)[0]
            at += 24 + 16 * -(-struct.unpack_from("<QQII", index, at)[1] // BLOCK)
        self.expect(at == len(index), "its index has another length than it should")
        return positions


class Repository:
    def __init__(self, root, key_file=None, passphrase_file=None):
        self.root = pathlib.Path(root).absolute()
        if not self.exists("repository.json"):
            raise Refused(USAGE, f"there is no walrs repository in `{self.root}`: it has no `repository.json`")
        about = self.control("repository.json")
        self.id, self.suite, self.key_id = bytes.fromhex(about["repository_id"]), about["suite"], bytes(16)
        self.key = self.id
        if about["format"] != 1 or self.suite not in (0, 1):
            raise Refused(USAGE, f"format {about['format']}, suite {self.suite} is not known to this program")
        if self.suite == 0 and (key_file or passphrase_file):
            raise Refused(USAGE, "the repository says it is not encrypted: leave the key away if you expect that")
        if self.suite == 1:
            self.key_id = bytes.fromhex(about["key_id"])
            self.key = self.unlock("key-file" if key_file else "passphrase", key_file or passphrase_file)
        self.block_key, _ = hkdf(self.key, b"", lp(b"walrs/v1/block"))

    def exists(self, name):
        return (self.root / name).exists()

    def below(self, folder, pattern="*"):
        return sorted(path.name for path in (self.root / folder).glob(pattern))

    def open(self, name):
        try:
            return (self.root / name).open("rb")
        except FileNotFoundError:
            raise Refused(DAMAGED, f"`{name}` is missing in the repository") from None

    def control(self, name):
        with self.open(name) as file:
            document = file.read(64 * 1024 + 1)
        body, _, digest = document.rpartition(b',"digest":"')
        if len(document) > 64 * 1024 or digest != blake3(body + b"}").hexdigest().encode() + b'"}':
            raise damaged(name, "its digest does not match")
        return json.loads(document)

    def unlock(self, kdf, secret_file):
        """The repository key, from the first slot that the secret opens (section 4.3)."""
        if not secret_file or not os.path.exists(secret_file):
            raise Refused(USAGE, "the repository is encrypted: --key-file or --passphrase-file must name a file")
        secret = pathlib.Path(secret_file).read_bytes()
        if kdf == "key-file":
            if not re.fullmatch(rb"\s*[A-Za-z0-9+/]{43}=\s*", secret):
                raise Refused(USAGE, f"`{secret_file}` is not a key file: those hold 32 bytes in base64")
            secret = base64.b64decode(secret)
        folder = f"keys/{self.key_id.hex()}"
        refused = Refused(USAGE, f"wrong key: `{secret_file}` opens no key slot in {folder}")
        for slot in self.below(folder, "*.json") or ["*.json"]:
            try:
                if key := self.open_slot(f"{folder}/{slot}", kdf, secret):
                    return key
            except Refused as broken:  # another slot may open
                refused = broken
        raise refused

    def open_slot(self, name, kdf, secret):
        slot = self.control(name)
        salt, key_id, slot_id = (bytes.fromhex(slot[member]) for member in ("salt", "key_id", "slot_id"))
        if slot["format"] != 1 or name != f"keys/{key_id.hex()}/{slot_id.hex()}.json":
            raise damaged(name, "it is a copy of another slot, or of another version")
        if slot["kdf"] != kdf:
            return None
        if kdf == "passphrase":
            memory, iterations, lanes = slot["memory_kib"], slot["iterations"], slot["parallelism"]
            if memory > 1024 * 1024 or iterations > 16 or lanes > 16:
                raise damaged(name, "its Argon2id parameters are beyond the limits")
            argon2id = module("cryptography.hazmat.primitives.kdf.argon2").Argon2id
            derive = argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory).derive
            secret = derive(secret.removesuffix(b"\n"))
        key, _ = hkdf(secret, salt, lp(b"walrs/v1/slot", kdf.encode()))
        associated = lp(b"walrs/v1/slot", self.id, key_id, slot_id)
        return aes_gcm_open(key, bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), associated)

    def find_backup(self, wanted):
        """The manifest of a backup; LATEST is the one that stopped last."""
        known = [backup for backup in self.below("backups")
                 if BACKUP_ID.fullmatch(backup) and self.exists(f"backups/{backup}/manifest")]
        kept = [backup for backup in known if not self.exists(f"tombstones/{backup}.json")]
        found, unreadable = [], {}
        for backup in kept if wanted == "LATEST" else {wanted}.intersection(known):
            try:
                found += self.read_manifest(backup)
            except Refused as refused:
                unreadable[backup] = refused
        latest = max(found, key=lambda manifest: manifest["stop_time"].rstrip("Z"), default=None)
        # LATEST never skips a damaged one: an older backup is for a human to choose.
        for backup, refused in unreadable.items():
            if latest is None or backup > latest["backup_id"]:
                raise refused
        if latest is None:
            raise Refused(USAGE, f"there is no finished backup `{wanted}`; manifests: {', '.join(kept) or 'none'}")
        if latest["backup_id"] not in kept:
            print(f"warning: backup `{latest['backup_id']}` was deleted, parts of it may be gone", file=sys.stderr)
        return latest

    def read_manifest(self, backup):
        """The manifest in a list, which is empty when it is void."""
        container = Container(self, f"backups/{backup}/manifest", MANIFEST)
        manifest = json.loads(container.content())
        container.expect((manifest["format"], manifest["backup_id"]) == (1, backup), "it is of another backup")
        container.expect(manifest["kind"] in ("backup", "void"), f"its kind is {manifest['kind']!r}")
        if manifest["kind"] == "void":
            return []
        container.expect(manifest["system_identifier"] == str(container.system), "it is of another cluster")
        return [manifest]

    def wal_name(self, cluster, file):
        history = file.endswith(".history")
        return f"histories/{cluster}/{file}" if history else f"wal/{cluster}/{file[:8]}/{file[8:16]}/{file}"

    def wal(self, file, system=None):
        """The content of a WAL file. When several clusters have a file of that name, `system` says which one."""
        if not re.fullmatch(r"[0-9A-F]{24}|[0-9A-F]{8}\.history", file):
            raise Refused(USAGE, f"`{file}` is not the name of a WAL segment or timeline history")
        kind, top = (TIMELINE_HISTORY, "histories") if file.endswith(".history") else (WAL_SEGMENT, "wal")
        clusters = self.below(top) if system is None else [f"{system:016x}"]
        clusters = [cluster for cluster in clusters if self.exists(self.wal_name(cluster, file))]
        if not clusters:
            raise Refused(NOT_ARCHIVED, f"`{file}` is not archived")
        if len(clusters) > 1:
            choice = ", ".join(str(int(cluster, 16)) for cluster in clusters)
            raise Refused(USAGE, f"several clusters have `{file}`, choose by --system-identifier: {choice}")
        return Container(self, self.wal_name(clusters[0], file), kind, int(clusters[0], 16)).content()


def path_components(encoded):
    """A path of the file list, decoded. Refuses what could lead out of the destination."""
    if not re.fullmatch(r"(?:[!#$&-\[\]-~]|%[0-9A-F]{2})+", encoded):
        raise damaged("file list", f"the path {encoded!r} is not encoded as it should be")
    path = re.sub(rb"%(..)", lambda digits: bytes.fromhex(digits[1].decode()), encoded.encode())
    components = [] if path == b"." else path.split(b"/")
    if any(component in (b"", b".", b"..") or b"\0" in component for component in components):
        raise damaged("file list", f"the path `{encoded}` could lead out of the destination")
    return components


class Restore:
    """Restores one backup into an empty directory and verifies every file of it."""

    def __init__(self, repository, manifest, destination, moved):
        self.repository, self.manifest, self.moved = repository, manifest, moved
        self.destination, self.system = os.fsencode(destination), int(manifest["system_identifier"])
        self.modes, self.links, self.tablespaces, self.suspects = [], {}, {}, []
        self.pack = functools.lru_cache(64)(self.open_pack)
        self.chunk = functools.lru_cache(320)(self.read_chunk)  # more than one pack, at most 320 MiB

    def run(self):
        self.survey()
        for directory in (self.destination, *map(os.fsencode, self.moved.values())):
            os.makedirs(directory, exist_ok=True)
            if os.listdir(directory):
                raise Refused(USAGE, f"`{os.fsdecode(directory)}` is not empty, and nothing is ever overwritten")
        for entry, components in self.entries():
            if components != PG_CONTROL:
                self.restore_entry(entry, components)
        self.write_recovery_files()
        self.restore_entry(*self.control_file)  # last: PostgreSQL cannot start on half a restore
        for path, mode in reversed(self.modes):
            os.chmod(path, mode)

    def survey(self):
        """Reads the whole file list before anything is written, so that what is wrong with it is known early."""
        self.control_file, sizes = None, []
        for entry, components in self.entries():
            if entry["type"] == "file":
                sizes.append(entry["size"])
                self.control_file = (entry, components) if components == PG_CONTROL else self.control_file
            elif entry["type"] == "tablespace":
                self.tablespaces[re.fullmatch(r"pg_tblspc/([1-9][0-9]*)", entry["path"])[1]] = entry["target"]
            elif entry["type"] != "directory":
                raise damaged("file list", f"`{entry['path']}` is of the unknown type {entry['type']!r}")
        if (len(sizes), sum(sizes)) != (self.manifest["files"], self.manifest["bytes"]) or not self.control_file:
            raise damaged("file list", "it lacks `global/pg_control`, or files that the manifest counts")
        if unknown := set(self.moved).difference(self.tablespaces):
            raise Refused(USAGE, f"the backup has no tablespace {', '.join(unknown)}; it has: {self.tablespaces}")

    def entries(self):
        """The lines of the file list, each with the decoded components of its path (section 6)."""
        before = None
        for part in self.manifest["parts"]:
            name = f"backups/{self.manifest['backup_id']}/files/{part['number']:08}"
            container = Container(self.repository, name, FILE_LIST_PART, self.system)
            content = container.content()
            found = (container.size, container.digest.hex())
            container.expect(found == (part["size"], part["digest"]), "it is not the one that the manifest names")
            lines = [json.loads(line) for line in content.split(b"\n")[:-1]]
            complete = content.endswith(b"\n") and lines[0]["path"] == part["first_path"]
            container.expect(complete, "it does not begin or end where it should")
            for entry in lines:
                components = path_components(entry["path"])
                in_order = components == [] if before is None else components > before
                container.expect(in_order, f"`{entry['path']}` is not in order")
                before = components
                yield entry, components

    def restore_entry(self, entry, components):
        path, mode = os.path.join(self.destination, *components), entry["mode"]
        if components[:1] == [b"pg_tblspc"] and len(components) > 2 and components[1] in self.links:
            path = os.path.join(self.links[components[1]], *components[2:])  # straight there, not through the link
        if not 0 <= mode <= 0o7777:
            raise damaged("file list", f"`{entry['path']}` has the impossible mode {mode}")
        if entry["type"] == "file":
            return self.restore_file(entry, path)
        if entry["type"] == "tablespace" and (target := self.moved.get(components[1].decode())):
            os.symlink(target, path)
            path = self.links[components[1]] = os.fsencode(target)
        elif components:
            os.mkdir(path)
        self.modes.append((path, mode))

    def restore_file(self, entry, path):
        size, offset, hashes = entry["size"], 0, blake3()
        with open(path, "xb") as file:
            for start, length, *origin in entry["extents"]:
                if start != offset or length <= 0 or (length % BLOCK and start + length != size):
                    raise damaged("file list", f"the extents of `{entry['path']}` do not follow each other")
                for data in self.pieces(length, *origin):
                    file.seek(len(data), os.SEEK_CUR) if origin[0] is None else file.write(data)
                    offset += len(data)
                    for block in range(0, len(data), BLOCK):
                        block_hash = blake3(data[block:block + BLOCK], key=self.repository.block_key)
                        hashes.update(block_hash.digest(16))
            file.truncate(size)
            os.fchmod(file.fileno(), entry["mode"])
        hashes.update(struct.pack("<Q", size))
        if (offset, hashes.hexdigest()) != (size, entry["digest"]):
            raise damaged(entry["path"], "the digest of the restored file does not match")

    def pieces(self, left, pack, chunk, within):
        """The bytes of one extent, chunk by chunk; zeros when it lies in no pack."""
        while left:
            content = self.chunk(pack, chunk)[within:within + left] if pack is not None else bytes(min(left, MIB))
            if not content:
                raise damaged("file list", f"chunk {chunk} of pack {pack} has no byte {within}")
            yield content
            left, chunk, within = left - len(content), chunk + 1, 0

    def read_chunk(self, pack, number):
        container, positions = self.pack(pack)
        container.expect(0 <= number < len(positions), f"it has no chunk {number}")
        return container.record(2, number, len(positions), positions[number])[0]

    def open_pack(self, number):
        """A pack and where its chunks lie. Damage in them is only noted: this backup may not need the damaged one."""
        place = self.manifest["packs"][number]
        if not BACKUP_ID.fullmatch(place["backup"]):
            raise damaged("manifest", f"{place['backup']!r} is not the id of a backup")
        name = f"backups/{place['backup']}/packs/{place['number']:08}"
        container = Container(self.repository, name, PACK, self.system)
        expected = (container.size, container.index_at) == (place["size"], place["index"])
        container.expect(expected, "its size or its index are not where the manifest says")
        positions = container.chunk_positions()
        try:
            container.expect([position for position, _ in container.chunks()] == positions, "its index is wrong")
        except Refused as refused:
            self.suspects.append(refused.args[1])
        return container, positions

    def write_recovery_files(self):
        """`backup_label`, and a `tablespace_map` of the moved tablespaces only: recovery makes a link of each line."""
        links = [os.fsencode(f"{oid} ") + re.sub(rb"([\\\r\n])", rb"\\\1", os.fsencode(target)) + b"\n"
                 for oid, target in self.moved.items()]
        label = base64.b64decode(self.manifest["backup_label"], validate=True)
        for name, content in ((b"backup_label", label), (b"tablespace_map", b"".join(links))):
            if content:
                with open(os.path.join(self.destination, name), "xb") as file:
                    file.write(content)


def print_next_steps(restore, arguments):
    manifest, root, where = restore.manifest, restore.repository.root, os.fsdecode(restore.destination)
    ends, cluster = (manifest["first_segment"], manifest["last_segment"]), f"{restore.system:016x}"
    missing = [file for file in ends if not restore.repository.exists(restore.repository.wal_name(cluster, file))]
    program = [sys.executable, os.path.abspath(__file__), "--system-identifier", str(restore.system)]
    for option, file in (("--key-file", arguments.key_file), ("--passphrase-file", arguments.passphrase_file)):
        program += [option, os.path.abspath(file)] if file else []
    # Status 1 means to PostgreSQL that the archive ends here, above 125 that recovery must stop.
    command = ' %f "%p"; s=$?; [ $s -le 1 ] || exit 126; exit $s'
    command = shlex.join([*program, str(root), "--wal"]).replace("%", "%%") + command
    quoted = command.replace("\\", "\\\\").replace("'", "''")
    in_place = ", ".join(sorted(set(restore.tablespaces) - set(restore.moved)))
    print(f"restored backup {manifest['backup_id']} of PostgreSQL {manifest['postgres_version'] // 10000} to {where}:",
          f"{manifest['files']} files, {manifest['bytes']} bytes, all verified")
    if manifest["bad_pages"]:
        print(f"warning: {manifest['bad_pages']} pages had failed PostgreSQL's checksums before they were backed up")
    if missing:
        print(f"warning: the backup CANNOT become consistent without WAL that is not archived: {', '.join(missing)}")
    print(f"""
What is left to do (and never delete backup_label):
1. Give the files to the server's user:  chown -R postgres: {shlex.join([where, *restore.moved.values()])}
2. The backup needs the WAL from {ends[0]} to {ends[1]}, which belongs in
   {root}/wal. Let the server's user read the repository, this program and the key, and
   add to {where}/postgresql.auto.conf:
     restore_command = '{quoted}'
     recovery_target_action = 'promote'  # add a recovery_target_time = '...' to stop before the end of the WAL
     archive_mode = off                  # until you have decided where the new timeline is archived""")
    if in_place:
        print(f"     allow_in_place_tablespaces = on     # needed: {in_place} became directories below pg_tblspc")
    print(f"""3. postgresql.conf, pg_hba.conf and pg_ident.conf are here only if they lay in the data directory.
4. touch {shlex.quote(where)}/recovery.signal, start the server, and read its log.""")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Restores a backup, or fetches a WAL file, from a walrs repository without walrs.",
        usage="%(prog)s [options] REPOSITORY BACKUP DEST\n       %(prog)s [options] REPOSITORY --wal FILE OUT",
        epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    for name, count in (("repository", None), ("backup", "?"), ("dest", "?")):
        parser.add_argument(name, nargs=count, help=argparse.SUPPRESS)
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--key-file", metavar="FILE", help="key file of an encrypted repository")
    secret.add_argument("--passphrase-file", metavar="FILE", help="file with the passphrase of an encrypted repository")
    parser.add_argument("--tablespace", metavar="OID=DIR", action="append", default=[],
                        help="restore this tablespace to DIR (empty or absent) and link to it; may be repeated")
    parser.add_argument("--wal", metavar=("FILE", "OUT"), nargs=2,
                        help="fetch a WAL segment or timeline history to OUT, which must not exist (- prints it)")
    parser.add_argument("--system-identifier", metavar="NUMBER", type=int, help="the cluster whose WAL is meant")
    arguments = parser.parse_intermixed_args()
    if bool(arguments.wal) == bool(arguments.dest) or (arguments.wal and arguments.backup):
        parser.error("give either REPOSITORY BACKUP DEST or REPOSITORY --wal FILE OUT (see --help)")
    pairs = [each.partition("=") for each in arguments.tablespace]
    arguments.moved = {oid: os.path.abspath(directory) for oid, _, directory in pairs if directory}
    if not len(pairs) == len(arguments.moved) == len(set(arguments.moved.values())):
        parser.error("every --tablespace is OID=DIR, with an OID and a directory of its own")
    return arguments


def run(arguments):
    repository = Repository(arguments.repository, arguments.key_file, arguments.passphrase_file)
    if not arguments.wal:
        manifest = repository.find_backup(arguments.backup)
        restore = Restore(repository, manifest, os.path.abspath(arguments.dest), arguments.moved)
        restore.run()
        print_next_steps(restore, arguments)
        if restore.suspects:
            suspects = "; ".join(restore.suspects)
            raise Refused(DAMAGED, f"DEST is whole and verified, but other backups may not be: {suspects}")
        return
    content = repository.wal(arguments.wal[0], arguments.system_identifier)
    with sys.stdout.buffer if arguments.wal[1] == "-" else open(arguments.wal[1], "xb") as file:
        file.write(content)


def main():
    """Lets no exception out: Python would exit with 1, which tells PostgreSQL that the archive ends here."""
    os.umask(0o077)
    try:
        run(parse_arguments())
        return 0
    except Refused as refused:
        status, message = refused.args
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        status, message = DAMAGED, f"the repository is damaged, or not as docs/format.md says: {error!r}"
    except (Exception, KeyboardInterrupt) as error:
        status, message = FAILED, str(error) or repr(error)
    print(f"walrs_reader: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
