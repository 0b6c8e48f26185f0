"""The world of the rules, with newcomers and changes of who votes."""

from rules_world import PEM, World, named_key

from tilth_ledger import recent_heads
from tilth_ledger.epochs import newest, state_copy
from tilth_ledger.genesis import KEY_NAMES, member_file


def keys_of(name, **others):
    """An organization's signing keys; `others` names new labels for some purposes."""
    return {purpose: named_key(others.get(purpose, f"{name} {purpose}")) for purpose in KEY_NAMES}


def file_of(name, pem=PEM, mldsa=None, **others):
    """The text of a member file."""
    return member_file(name, name.title(), keys_of(name, **others), pem, mldsa=mldsa).decode()


class MembersWorld(World):
    """Three hospitals vote with q = 2, k = 3; `clinic-d` is nobody yet."""

    @property
    def epoch(self):
        """(number, names of the members, q, k)"""
        number, row = newest(self.rows)
        return number, [m["organization"] for m in row["members"]], row["q"], row["k"]

    def head(self):
        """The newest head in the rows: (size, root)."""
        rows = (row for _, row in self.rows.scan("head/"))
        newest_row = recent_heads.newest(rows, self.state.size)
        return newest_row["size"], bytes.fromhex(newest_row["root"])

    def copy_of(self, signer="clinic-d vote", size=None, root=None):
        """What a newcomer states: the newest head, unless told otherwise."""
        held, there = self.head()
        net = self.genesis.net_bytes
        return state_copy(net, held if size is None else size, root or there, named_key(signer))

    def propose(self, change, q=2, k=3, by="hospital-a"):
        key = self.key(by)
        self.submit(
            by, {"op": "member.propose", "key": key, "change": change, "q": q, "k": k}, role="admin"
        )
        return key

    def approve(self, key, by="hospital-b"):
        return self.submit(by, {"op": "member.approve", "proposal": key}, role="admin")

    def change(self, change, q=2, k=3, by=("hospital-a", "hospital-b")):
        """Propose and approve by these: the last one's block."""
        key = self.propose(change, q, k, by[0])
        for each in by[1:]:
            built = self.approve(key, each)
        return built

    def admit(self, votes=False, q=2, k=3, name="clinic-d"):
        copy = {"copy": self.copy_of(f"{name} vote")} if votes else {}
        change = {"kind": "admit", "member": file_of(name), "votes": votes, **copy}
        return self.change(change, q, k)
