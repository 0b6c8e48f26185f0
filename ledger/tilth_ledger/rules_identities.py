"""Rules about who acts: identities and what an organization says of itself (A1, D3).

Invariants:
- An admin adds and revokes identities of its own organization only.
- A key belongs to one organization for ever; a revoked one never comes back.
- A person is a pseudonymous key: names and mail stay off the ledger, as a card named by digest
  (D3; the operation has no field for them).
"""

from __future__ import annotations

from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.keys import PublicKey


def add(context: Context, op: Op) -> None:
    public = PublicKey.from_hex(op["public"])
    name = f"identity/{public.key_id}"
    if context.rows.get(name) is not None:
        refuse(
            "A2",
            "this key is registered already",
            found=public.key_id,
            expected="a key that was never registered",
            remedy="Make a new key; a key is never reused, revoked or not.",
        )
    row = {
        "organization": context.organization,
        "public": op["public"],
        "roles": sorted(op["roles"]),
        "status": "active",
        "index": context.index,  # of the entry that introduced it: a proof leans on it
    }
    row |= {field: op[field] for field in ("expires_ms", "card") if field in op}
    context.rows.put(name, row)


def revoke(context: Context, op: Op) -> None:
    row = context.need("identity", op["identity"])
    context.check_owner("identity", row["organization"], op["identity"])
    if op["identity"] == context.author:
        refuse(
            "A1",
            "an admin cannot revoke its own key",
            found=context.author,
            expected="the key of another identity",
            remedy="Let another admin of the organization do it, so that one always remains.",
        )
    context.rows.put(f"identity/{op['identity']}", {**row, "status": "revoked"})


def update_organization(context: Context, op: Op) -> None:
    row = context.need("organization", context.organization)
    changes = {field: value for field, value in op.items() if field != "op"}
    context.rows.put(f"organization/{context.organization}", row | changes)
