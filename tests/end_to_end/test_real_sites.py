"""The README's consortium of real sites, typed line by line at three sites.

Each site has a folder of its own as its machine, with its own profiles. What a test must change is
what machines would have different: the address, and the port beside it. Files that people send each
other are copied, and the public key that one command prints is pasted into the next one.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from network import free_port

import tilth_node.demo

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
USER_CODE = Path(tilth_node.demo.__file__).parent / "user-code"
NAMES = ("hospital-a", "hospital-b", "hospital-c")
KEY = re.compile(r"^public key ([0-9a-f]{64})$", re.MULTILINE)


def steps():
    """(who, lines) of each paragraph of the README's block; `who` is its comment."""
    section = README.partition("## A consortium of real sites")[2]
    block = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL).group(1)
    return [
        (who.removeprefix("# "), lines)
        for who, *lines in (part.splitlines() for part in block.strip().split("\n\n"))
    ]


@dataclass
class Site:
    """One organization, on a machine of its own."""

    name: str
    place: Path
    port: int
    key: str = ""
    node: "subprocess.Popen[str] | None" = None
    said: list[str] = field(default_factory=list)

    def type(self, line):
        """One line of the README, typed here."""
        command, *words = [self._here(word) for word in shlex.split(line, comments=True)]
        assert command == "tilth"
        run = [sys.executable, "-m", "tilth.cli", *words]
        if words[:2] == ["node", "run"]:
            self._start(run)
            return
        done = subprocess.run(
            run, cwd=self.place, env=self._shell(), capture_output=True, text=True, check=False
        )
        # The doctor has its say about the machine that the test happens to run on.
        assert done.returncode == 0 or "doctor" in words, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said.append(done.stdout)
        if found := KEY.search(done.stdout):
            self.key = found.group(1)

    def _here(self, word):
        if word.endswith("member.json"):
            return word  # of all sites, where it is typed
        letter = self.name[-1]
        word = word.replace("tilth.hospital-a.example:7002", f"127.0.0.1:{self.port + 1}")
        word = word.replace("tilth.hospital-a.example", f"127.0.0.1:{self.port}")
        word = word.replace("hospital-a", self.name).replace("Hospital A", f"Hospital {letter}")
        return word.replace("PUBLIC_KEY", self.key)

    def _shell(self):
        environment = {k: v for k, v in os.environ.items() if k != "TILTH_PROFILE"}
        return environment | {"TILTH_HOME": str(self.place / "home")}

    def _start(self, run):
        with (self.place / "node.log").open("ab") as log:
            self.node = subprocess.Popen(
                run,
                cwd=self.place,
                env=self._shell(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert "ready" in self.node.stdout.readline(), (self.place / "node.log").read_text()

    def end(self):
        if self.node is not None:
            self.node.kill()
            self.node.wait()
            self.node.stdout.close()


def pair_of_ports():
    """A free port whose next one is free as well."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError):
            if port % 2 == 0:
                probe.bind(("127.0.0.1", port + 1))
                return port


def give_data(site):
    """A few of the demo's digits where the README has a site's samples, and their opener."""
    spec = importlib.util.spec_from_file_location("digits_of_sites", USER_CODE / "digits.py")
    digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(digits)
    digits.write(site.name, site.place / "all")
    for label in ("train", "test"):
        for sample in sorted((site.place / "all" / label).iterdir())[:3]:
            shutil.copytree(sample, site.place / site.name / "data" / label / sample.name)
    shutil.copytree(USER_CODE / "opener", site.place / "opener")


def send(sites, name, to):
    """A file that a site mails: each of `sites` sends its `name` to all of `to`."""
    for sender in sites:
        file = name.format(sender.name)
        for other in to:
            if other is not sender:
                (other.place / file).parent.mkdir(exist_ok=True)
                shutil.copy(sender.place / file, other.place / file)


@pytest.fixture
def sites(tmp_path):
    """Three machines."""
    made = [Site(name, tmp_path / f"machine-{name}", 0) for name in NAMES]
    for site in made:
        site.place.mkdir()
        site.port = pair_of_ports()
    try:
        yield made
    finally:
        for site in made:
            site.end()


def test_the_commands_of_the_readme_make_three_sites_a_consortium_with_data(sites):
    who = [title for title, _ in steps()]
    assert [title.partition(",")[0] for title in who] == [
        *("at every site", "at one site", "at every site", "at every site")
    ]
    (_, make), (_, found), (_, start), (_, use) = steps()

    def at_every_site(lines):
        with ThreadPoolExecutor(len(sites)) as pool:
            list(pool.map(lambda site: [site.type(line) for line in lines], sites))

    at_every_site(make)
    send(sites, "{}/member.json", sites[:1])
    for line in found:
        sites[0].type(line)
    send(sites[:1], "genesis.json", sites)
    at_every_site(start)
    for site in sites:
        give_data(site)
    at_every_site(use)

    for site in sites:
        assert "node: voting" in site.said[-1]
    seen = datasets(sites[1])
    assert {each["key"].partition("/")[0] for each in seen} == set(NAMES)
    assert all(each["name"] == "digits" and len(each["sets"]) == 2 for each in seen)


def datasets(site):
    """What `tilth data list` shows there, of all that was final anywhere before."""
    words = ["data", "list", "--profile", "me", "--json", "--read", "linearizable"]
    shown = subprocess.run(
        [sys.executable, "-m", "tilth.cli", *words],
        env=site._shell(),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(shown.stdout)
