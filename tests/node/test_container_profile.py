"""What surrounds a step in a container, and how its end is read: no engine needed."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tilth_ledger.errors import InvalidInput
from tilth_ledger.steps import Reason, StepLimits
from tilth_node.runtimes import NodeFault, parcels, seccomp, verdict
from tilth_node.runtimes.building import BuildSettings, context
from tilth_node.runtimes.docker import same_engine
from tilth_node.runtimes.engine import Engine, EngineFault, NoEngine, trouble
from tilth_node.runtimes.enginefacts import Product, product, weaknesses
from tilth_node.runtimes.hardening import Volume, host_config, seccomp_profile

ENGINE = {"Version": "20.10.24", "ApiVersion": "1.41"}
HOLDS = {
    "OSType": "linux",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
}
DOCKER = Product("Docker", "20.10.24", "1.41")
PODMAN = Product("Podman Engine", "4.3.1", "1.41")


def profile(engine=DOCKER):
    """The whole host configuration, as it goes to an engine."""
    from docker.api.container import ContainerApiMixin

    class Api(ContainerApiMixin):
        _version = "1.41"

    labels = {"org.tilth.kind": "step"}
    volumes = [Volume("a-volume", "/task/data")]
    return host_config(Api(), StepLimits(), volumes, 1.5, labels, engine)


def test_a_step_gets_no_network_no_rights_and_no_path_of_the_host():
    config = profile()
    assert config["NetworkMode"] == "none"
    assert config["ReadonlyRootfs"] is True
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"][0] == "no-new-privileges:true"
    assert "Binds" not in config
    assert {mount["Type"] for mount in config["Mounts"]} == {"volume"}
    assert all(mount["ReadOnly"] for mount in config["Mounts"])


def test_every_limit_of_a_step_is_in_its_profile():
    config, limits = profile(), StepLimits()
    assert config["Memory"] == config["MemorySwap"] == limits.memory_bytes + limits.scratch_bytes
    assert config["NanoCpus"] == 1_500_000_000
    assert config["PidsLimit"] == limits.processes + 2
    assert config["ShmSize"] == limits.scratch_bytes
    assert f"size={limits.scratch_bytes}," in config["Tmpfs"]["/task"]
    bounds = {each["Name"]: each["Hard"] for each in config["Ulimits"]}
    assert bounds == {"nofile": limits.open_files, "fsize": limits.scratch_bytes, "core": 0}


def test_the_filter_refuses_what_the_sandbox_refuses_io_uring_too():
    syscalls = seccomp_profile()["syscalls"]
    refused = set(syscalls[0]["names"])
    assert refused == set(seccomp.DENIED)
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= refused
    assert json.loads(json.dumps(seccomp_profile())) == seccomp_profile()


# -- how it ended


def test_out_of_memory_needs_both_signs():
    assert verdict.reason_of({"status": -9}, oom=True, cpu_limit_ms=1) is Reason.OUT_OF_MEMORY
    assert verdict.reason_of({"status": -9}, oom=False, cpu_limit_ms=1) is Reason.EXIT
    assert verdict.reason_of({"status": 0}, oom=True, cpu_limit_ms=1) is None


@pytest.mark.parametrize(
    ("status", "reason"), [(81, "out_of_memory"), (83, "environment"), (1, "exit"), (-24, "time")]
)
def test_the_runner_s_codes_are_reasons(status, reason):
    assert verdict.reason_of({"status": status}, oom=False, cpu_limit_ms=1) == reason


def test_a_container_that_somebody_killed_is_this_machine_s_trouble():
    with pytest.raises(NodeFault, match="without an answer"):
        verdict.without_end({"ExitCode": 137, "OOMKilled": False}, "")
    assert verdict.without_end({"ExitCode": 137, "OOMKilled": True}, "") is Reason.OUT_OF_MEMORY


# -- what an engine admits


def test_an_engine_that_holds_everything_has_no_weakness():
    assert [check.name for check in weaknesses(ENGINE, HOLDS) if not check.holds] == []


@pytest.mark.parametrize(
    ("lacks", "grade"),
    [
        ({"MemoryLimit": False}, "C"),
        ({"PidsLimit": False}, "C"),
        ({"SwapLimit": False}, "B"),
        ({"SecurityOptions": ["name=rootless"]}, "C"),
        ({"OSType": "windows"}, "D"),
    ],
)
def test_what_an_engine_lacks_is_named_and_lowers_the_grade(lacks, grade):
    (missing,) = [c for c in weaknesses(ENGINE, HOLDS | lacks) if not c.holds]
    assert missing.grade == grade
    assert missing.detail


def test_podman_and_rootless_engines_are_told_apart():
    podman = {**ENGINE, "Components": [{"Name": "Podman Engine"}]}
    assert product(podman, HOLDS).podman
    assert not product(ENGINE, HOLDS).podman
    assert product(ENGINE, {"SecurityOptions": ["name=rootless"]}).rootless
    assert product(podman, {"Rootless": True}).rootless
    assert str(product(ENGINE, HOLDS)) == "Docker 20.10.24, API 1.41, run by root, cgroup v1"


def test_another_kind_of_engine_behind_the_same_socket_waits_for_a_new_proof():
    assert same_engine(None, DOCKER) == DOCKER
    upgraded = Product("Docker", "26.1.5", "1.45")
    assert same_engine(DOCKER, upgraded) == DOCKER
    for other in (PODMAN, Product("Docker", "20.10.24", "1.41", rootless=True)):
        with pytest.raises(EngineFault, match=r"another engine.*restart the node"):
            same_engine(DOCKER, other)


def test_podman_gets_no_filter_by_value_and_no_owner_of_a_disk():
    config, usual = profile(PODMAN), profile()
    assert config["SecurityOpt"] == ["no-new-privileges:true"]
    assert "mode=1777" in config["Tmpfs"]["/task"]
    assert "uid=" not in config["Tmpfs"]["/task"]
    for same in ("NetworkMode", "ReadonlyRootfs", "CapDrop", "Memory", "MemorySwap", "PidsLimit"):
        assert config[same] == usual[same]


def test_an_engine_that_is_not_there_is_said_with_its_address(tmp_path):
    address = f"unix://{tmp_path}/none.sock"
    fault = trouble(address, "any")
    assert fault is not None
    assert not isinstance(fault, NoEngine)  # somebody named it, so it should be there
    engine = Engine(address)
    with pytest.raises(EngineFault, match=r"no container engine answers.*none\.sock"):
        engine.now(lambda api: api.version())
    engine.close()


# -- parcels


def tar_of(*members, content=b""):
    """A tar stream as an engine gives it, of hand-made members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return [packed.getvalue()]


def taken(stream, max_bytes=100, max_files=10):
    found = {}
    parcels.incoming(
        stream, max_bytes, max_files, lambda path, size, x, content: found.update({path: size})
    )
    return found


def member(name, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_what_is_sent_comes_back_the_same(tmp_path: Path):
    (tmp_path / "big").write_bytes(b"x" * 300_000)
    long = "/".join(["a-folder-with-a-long-name"] * 8) + "/file"
    sent = []
    stream = list(parcels.outgoing({long: b"1", "y/z": tmp_path / "big"}, ["empty"], sent))
    assert parcels.digest_of(tar_below("tree", stream)) == parcels.digest_sent(sent)


def tar_below(name, stream):
    """The same files below one folder, as an engine sends a folder back."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as source,
        tarfile.open(fileobj=packed, mode="w") as target,
    ):
        for info in source:
            content = source.extractfile(info)
            info.name, info.pax_headers = f"{name}/{info.name}", {}
            target.addfile(info, content)
    return [packed.getvalue()]


@pytest.mark.parametrize(
    "bad",
    [
        member("out/link", tarfile.SYMTYPE),
        member("out/hard", tarfile.LNKTYPE),
        member("out/device", tarfile.CHRTYPE),
        member("out/pipe", tarfile.FIFOTYPE),
        member("out/../../etc/cron"),
        member("out//absolute"),
    ],
)
def test_nothing_but_plain_files_comes_back(bad):
    with pytest.raises(InvalidInput):
        taken(tar_of(bad))


def test_more_than_allowed_is_refused():
    assert taken(tar_of(member("out/a"), content=b"x" * 100)) == {"a": 100}
    with pytest.raises(InvalidInput, match="more came back"):
        taken(tar_of(member("out/a"), content=b"x" * 101))
    with pytest.raises(InvalidInput, match="more came back"):
        taken(tar_of(*(member(f"out/{n}") for n in range(11))))


# -- environments


def test_a_build_has_no_network_and_no_index_unless_the_operator_says_so():
    from tilth_node.runtimes import Environment

    def lines(network):
        settings = BuildSettings(network=network)
        packed = context(Environment("a" * 64, ("numpy",)), "tilth-task", settings)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            return archive.extractfile("Dockerfile").read().decode()

    assert "--no-index" in lines("none")
    assert "--no-index" not in lines("default")
    assert lines("none").splitlines()[-1] == "USER 65534:65534"
