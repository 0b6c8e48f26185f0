"""Rules about environments, images, algos and models that are registered or whose grants change
(A1, A3, A4, P1, P2, P3, R5's schema).

Invariants:
- A grant names existing organizations, and its owner is in it (P1).
- A model's grant is narrowed by its plan's owner alone, and widened only to those to whom every
  data owner behind it has consented in an entry of its own (P2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth_ledger import grants, parameters
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.lineage import Lineage
from tilth_ledger.rows import Row
from tilth_ledger.rules_data import withdraw


def add_environment(context: Context, op: Op) -> None:
    actual = sha256_hex(dumps(op["spec"]))
    if op["digest"] != actual:
        refuse(
            "A3",
            "an environment is named by the digest of its specification",
            found=op["digest"],
            expected=actual,
            remedy="State the SHA-256 of the specification's canonical JSON.",
        )
    context.add("environment", op["key"], _stated(context, op))
    for field in ("lock", "dockerfile"):
        if field in op["spec"]:
            context.rows.put(f"blob/{op['spec'][field]}/environment/{op['key']}", {})


def add_image(context: Context, op: Op) -> None:
    """Who believes it is for each node's operator to say; the ledger holds who stated it."""
    environment = context.need("environment", op["environment"])
    row = _stated(context, op) | {"digest": environment["digest"]}
    context.add("image", op["key"], row | {"grants": _grants(context, op.get("grants", {}))})
    context.rows.put(f"image-of/{environment['digest']}/{op['key']}", {})
    context.rows.put(f"blob/{op['file']['digest']}/image/{op['key']}", {})


def withdraw_image(context: Context, op: Op) -> None:
    withdraw(context, "image", op["key"])


def add_algo(context: Context, op: Op) -> None:
    context.usable("environment", op["environment"])
    parameters.check_schema(op["manifest"]["parameters"])
    row = _stated(context, op)
    row["grants"] = _grants(context, op.get("grants", {}))
    context.add("algo", op["key"], row)
    context.rows.put(f"blob/{op['archive']}/archive/{op['key']}", {})


def withdraw_algo(context: Context, op: Op) -> None:
    withdraw(context, "algo", op["key"])


def accept_algo(context: Context, op: Op) -> None:
    """Rule P3: the dataset's owner lets this aggregation mix models trained on it."""
    context.own("dataset", op["dataset"])
    context.usable("dataset", op["dataset"])
    context.rows.put(f"accepts/{op['dataset']}/{op['algo']}", {})


def import_model(context: Context, op: Op) -> None:
    stated = _grants(context, {"use": "public", "download": []} | op.get("grants", {}))
    use, download = grants.read(stated["use"]), grants.read(stated["download"])
    imports = frozenset((op["key"],))
    lineage = Lineage(imports=imports, use=use, download=grants.meet(download, use))
    row = _stated(context, op) | {"grants": stated} | lineage.write()
    context.add("model", op["key"], row)
    context.rows.put(f"blob/{op['digest']}/model/{op['key']}", {})


def narrow_model(context: Context, op: Op) -> None:
    name, row = _model(context, op)
    if row["owner"] != context.organization:
        refuse(
            "P2",
            "only the owner of the plan that made a model narrows its grant",
            found=context.organization,
            expected=row["owner"],
            remedy="A data owner narrows the grants of the dataset behind it:"
            " `tilth data grant NAME --mixed ORG`.",
        )
    grant = grants.read(context.stated_grant(op["grant"], "the grant"))
    lineage = Lineage.read(row)
    if op["right"] == "use":
        lineage = lineage.within(grant, grant)
    else:
        lineage = lineage.within(grants.PUBLIC, grant)
    context.rows.put(name, row | lineage.write())


def widen_model(context: Context, op: Op) -> None:
    name, row = _model(context, op)
    behind = sorted({d.partition("/")[0] for d, _ in Lineage.read(row).sources})
    if context.organization not in behind:
        refuse(
            "P2",
            "only owners of data behind a model widen its grant",
            found=context.organization,
            expected=" and ".join(behind) or "nobody: no data are behind it",
            remedy="Ask each of them for an entry model.widen.",
        )
    context.check_organizations(list(op["organizations"]), "the consent")
    consents = row.setdefault("consents", {}).setdefault(op["right"], {})
    for organization in op["organizations"]:
        given = {*consents.get(organization, ()), context.organization}
        consents[organization] = sorted(given)
    context.rows.put(name, row)


def _model(context: Context, op: Op) -> tuple[str, Row]:
    key = f"{op['task']}/{op['output']}"
    return f"model/{key}", context.need("model", key)


def _stated(context: Context, op: Op) -> Row:
    row = {field: value for field, value in op.items() if field != "op"}
    return row | {"owner": context.organization, "status": "active"}


def _grants(context: Context, stated: Mapping[str, Any]) -> Row:
    return {
        right: context.stated_grant(grant, f"the right {right}") for right, grant in stated.items()
    }
