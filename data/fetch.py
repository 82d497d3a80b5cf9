"""Shards of a dataset on the Hugging Face hub, brought here: resumable, with progress.

Which files a configuration means is what the dataset's card says (``configs``: ``data_files``), as the hub's own
loader reads it; a card without configurations leaves the folders. Files are read through ``huggingface_hub``'s file
system, block by block, into a hidden part file that a later call goes on with (its own downloader starts a broken file
anew since 1.x). A shard counts as here once its hash is the hub's and its footer can be read.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from data.catalogue import FileProblem
from data.files import ShardError, identify
from data.remote import PARQUET

_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BLOCK = 8 << 20  # bytes asked for at once
Progress = Callable[[str, float], None]


class FetchError(ShardError):
    """A dataset, or its shards, that cannot be brought: one line."""


@dataclass(frozen=True)
class RemoteShard:
    """A parquet file of a dataset: its name in the repository, size in bytes, and hash: SHA-256 of a file in large
    storage, else git's blob hash (SHA-1); "" where it is not known."""

    name: str
    size: int
    hash: str = ""


@dataclass
class Fetched:
    """What was brought. ``available``: shards that the configuration has; ``files``: those that are here, whole."""

    dataset: str
    revision: str
    config: str | None
    folder: Path
    available: int
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    errors: list[FileProblem] = field(default_factory=list)


def fetch(
    dataset: str,
    *,
    config: str | None = None,
    split: str | None = None,
    shards: int | None = None,
    revision: str | None = None,
    folder: Path | None = None,
    on_progress: Progress | None = None,
) -> Fetched:
    """Bring the first ``shards`` parquet files (by default all) of a dataset into ``folder`` (by default ./NAME).

    Args:
        dataset: "owner/name". config, split: as the dataset's card names them; a card's only split, else "train" of
            several, is taken by default.
        on_progress: what is done, and the fraction of all bytes.

    A shard that cannot be brought is named in ``errors``; the others go on. Raises FetchError where the dataset or the
    configuration does not exist, huggingface_hub is not installed, or the hub cannot be reached.
    """
    if not _DATASET.fullmatch(dataset) or ".." in dataset:
        raise FetchError(f"{dataset}: not a dataset's name; write it as owner/name, for example HuggingFaceFW/fineweb")
    if shards is not None and shards < 1:
        raise FetchError(f"--shards must be above 0, not {shards}")
    hub = _hub()
    api = hub.HfApi()
    with _asking(hub, dataset):
        about = api.dataset_info(dataset, revision=revision)
        commit = about.sha or revision or "main"
        entries = api.list_repo_tree(dataset, recursive=True, revision=commit, repo_type="dataset")
        found = [
            RemoteShard(entry.path, int(entry.size), entry.lfs.sha256 if entry.lfs else entry.blob_id or "")
            for entry in entries
            if getattr(entry, "size", None) is not None and entry.path.lower().endswith(PARQUET)
        ]
    if not found:
        raise FetchError(f"{dataset}: holds no parquet file; gptbench trains on parquet shards only")
    card = about.card_data.to_dict() if about.card_data is not None else {}
    config, wanted = select(dataset, sorted(found, key=lambda shard: _natural(shard.name)), card, config, split)
    folder = (folder or Path(dataset.rpartition("/")[2])).expanduser().absolute()
    result = Fetched(dataset, commit, config, folder, len(wanted))
    wanted = wanted[:shards]
    total, done = sum(shard.size for shard in wanted) or 1, 0
    for number, shard in enumerate(wanted, 1):
        label = f"{number} of {len(wanted)}: {PurePosixPath(shard.name).name}"

        def step(count: int, label: str = label, before: int = done) -> None:
            if on_progress is not None:
                on_progress(label, min(1.0, (before + count) / total))

        step(0)
        try:
            path = _download(hub, dataset, shard, commit, folder, step)
            result.files.append(path)
            result.bytes += Path(path).stat().st_size
        except ShardError as error:
            result.errors.append(FileProblem.of(shard.name, error))
        done += shard.size
    return result


def select(
    dataset: str, found: list[RemoteShard], card: dict[str, Any], config: str | None, split: str | None
) -> tuple[str | None, list[RemoteShard]]:
    """The configuration meant, and the shards of it and the split, in the order of their names. Raises FetchError,
    naming what there is."""
    configs = {str(c["config_name"]): c.get("data_files") for c in card.get("configs") or [] if "config_name" in c}
    if config is None:
        if len(configs) > 1:
            default = next((str(c["config_name"]) for c in card["configs"] if c.get("default")), None)
            config = default or ("default" if "default" in configs else None)
            if config is None:
                raise FetchError(f"{dataset}: has several configurations; name one with --config: {_list(configs)}")
        elif configs:
            config = next(iter(configs))
    if config is not None and configs.get(config):
        by_split = _splits(configs[config])
        split = split or (next(iter(by_split)) if len(by_split) == 1 else "train" if "train" in by_split else None)
        if split not in by_split:
            raise FetchError(f"{dataset}: name a split of {config} with --split: {_list(by_split)}")
        patterns = by_split[split]
        chosen = [shard for shard in found if any(_matches(shard.name, pattern) for pattern in patterns)]
    else:
        folders = sorted({part for shard in found for part in PurePosixPath(shard.name).parts[:-1]})
        chosen = found
        if config is not None:
            chosen = [s for s in found if config in PurePosixPath(s.name).parts[:-1]]
            if not chosen:
                known = [*configs, *folders]
                near = difflib.get_close_matches(config, known, 1, 0.4)
                hint = f"did you mean {near[0]}?" if near else f"there are: {_list(known)}"
                raise FetchError(f"{dataset}: no configuration {config!r}; {hint}")
        if split is not None:
            chosen = [s for s in chosen if split in re.split(r"[/._-]", s.name)]
    if not chosen:
        raise FetchError(f"{dataset}: no parquet file for configuration {config or 'default'}, split {split or 'any'}")
    return config, chosen


def _splits(data_files: Any) -> dict[str, list[str]]:
    """A card's ``data_files`` in any of the ways they are written → patterns by split."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, dict):
        return {str(k): [str(v)] if isinstance(v, str) else [str(e) for e in v] for k, v in data_files.items()}
    found: dict[str, list[str]] = {}
    for entry in data_files:
        if isinstance(entry, dict):
            paths = entry.get("path") or []
            found.setdefault(str(entry.get("split", "train")), []).extend([paths] if isinstance(paths, str) else paths)
        else:
            found.setdefault("train", []).append(str(entry))
    return found


def _matches(name: str, pattern: str) -> bool:
    """Whether a glob of a card means a file: ``*`` stays within a folder, ``**`` does not."""
    pattern = pattern.removeprefix("./")
    if "**" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**/", "*").replace("**", "*"))
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _download(
    hub: Any, dataset: str, shard: RemoteShard, revision: str, folder: Path, step: Callable[[int], None]
) -> str:
    """Bring one file, from where an earlier call stopped. Raises FetchError, and ShardError for what is no shard."""
    target = (folder / shard.name).absolute()
    if folder not in target.parents or ".." in Path(shard.name).parts:
        raise FetchError(f"{shard.name}: not a name within the dataset; it is left out")
    if target.is_file() and target.stat().st_size == shard.size and _is(shard, target):
        step(shard.size)
        return str(target)
    part = target.with_name(f".{target.name}.{(shard.hash or revision)[:12]}.part")
    with _asking(hub, f"{dataset}/{shard.name}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        place = f"datasets/{dataset}@{revision}/{shard.name}"
        with part.open("ab") as out, hub.HfFileSystem().open(place, "rb", cache_type="none") as source:
            at = out.tell()
            if at > shard.size:
                out.truncate(0)
                at = 0
            while at < shard.size:
                source.seek(at)
                block = source.read(min(_BLOCK, shard.size - at))
                if not block:
                    raise FetchError(f"{shard.name}: ends after {at:,} bytes of {shard.size:,}; fetch it again")
                out.write(block)
                at += len(block)
                step(at)
    if not _is(shard, part):
        part.unlink()
        raise FetchError(f"{shard.name}: what came is not what the hub states (its hash differs); fetch it again")
    try:
        identify(part)
    except ShardError as error:
        part.unlink()
        raise FetchError(f"{shard.name}: {str(error).removeprefix(f'{part}: ')}") from None
    part.replace(target)
    return str(target)


def _is(shard: RemoteShard, path: Path) -> bool:
    """Whether a file has the hash that the hub states."""
    if len(shard.hash) not in (40, 64):
        return path.stat().st_size == shard.size
    digest = hashlib.sha256() if len(shard.hash) == 64 else hashlib.sha1(b"blob %d\0" % shard.size)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == shard.hash


class _asking:
    """What the hub answers wrong, as one line."""

    def __init__(self, hub: Any, what: str) -> None:
        self.hub, self.what = hub, what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ShardError) or not isinstance(error, Exception):
            return
        errors = self.hub.errors
        if isinstance(error, errors.GatedRepoError):
            why = "is gated: accept its terms on the hub and log in (hf auth login)"
        elif isinstance(error, errors.RevisionNotFoundError):
            why = "has no such revision"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why = "no such dataset on the hub, or a private one; check the name, log in (hf auth login)"
        elif isinstance(error, errors.EntryNotFoundError):
            why = "is no longer there"
        elif isinstance(error, OSError) and error.filename:
            why = f"cannot be written to {error.filename}: {error.strerror}; free space or name another folder with -o"
        else:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            why = f"cannot be brought: {reason}; fetch it again, it resumes"
        raise FetchError(f"{self.what}: {why}") from None


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise FetchError(
            "data fetch needs the extra hub: pip install -c constraints.txt '.[hub]' in gptbench's checkout"
        ) from None
    return huggingface_hub


def _natural(name: str) -> list[Any]:
    """Order of names with numbers in them: part-2 before part-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _list(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
