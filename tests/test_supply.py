"""The lock files list what pyproject.toml asks for, each package with digests, and nothing that pip would not check."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

_SPEC = importlib.util.spec_from_file_location("lock", ROOT / "requirements" / "lock.py")
lock = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(lock)


def requirements(file):
    """Name, version and digests of every requirement, as pip reads the file."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        head, *digests = re.split(r"\s--hash=", line)
        yield Requirement(head), [digest.strip() for digest in digests]


LISTED = {file: list(requirements(file)) for file in lock.HEADS}


@pytest.mark.parametrize("file", lock.HEADS, ids=lambda file: file.name)
def test_every_package_has_one_version_and_digests(file):
    assert LISTED[file]
    for requirement, digests in LISTED[file]:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert digests, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests), requirement
        assert lock.file_of(requirement.name) == file


def asked(extra, seen=()):
    """What the project asks for with this extra, those inside it included."""
    for text in PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name != "cde-nets":
            yield requirement
        else:
            for inner in requirement.extras - set(seen):
                yield from asked(inner, (*seen, extra))


def test_what_the_project_asks_for_is_listed():
    listed: dict[str, list[str]] = {}
    for rows in LISTED.values():
        for requirement, _ in rows:
            version = str(requirement.specifier).removeprefix("==")
            listed.setdefault(canonicalize_name(requirement.name), []).append(version)
    wanted = [*asked(None), *asked("dev")]
    assert {"torch", "pytest", "scikit-learn", "ruff"} <= {r.name for r in wanted}
    for requirement in wanted:
        versions = listed.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not listed: make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: make lock"


def test_torchs_cpu_builds_are_among_its_digests():
    ((torch, digests),) = LISTED[lock.TORCH]
    version = str(torch.specifier).removeprefix("==")
    builds = lock.cpu_builds(lock.BUILDS.read_text(), version)
    assert {f"sha256:{digest}" for digest in builds} < set(digests)


def test_a_torch_without_known_cpu_builds_is_refused():
    with pytest.raises(SystemExit, match=r"no CPU build of torch 9\.9\.9"):
        lock.cpu_builds(lock.BUILDS.read_text(), "9.9.9")


def test_versions_for_some_environments_stay_together():
    first = "a==1 ; python_version < '3.15' \\\n    --hash=x\n"
    second = "a==2 ; python_version >= '3.15' \\\n    --hash=y\n    # via b\n"
    text = f"# head\n{first}{second}b==3\n"
    found = lock.entries(text)
    assert list(found) == ["a", "b"]
    assert found["a"].count("--hash") == 2
    assert "".join(found.values()) == text.removeprefix("# head\n")
