"""What stands behind a model: the data it learnt from, and what its makers allow.

A source is a dataset together with the plan in whose context its owner's grants are read, because
the words `participants` and "aggregators of their plans" mean those of that plan.

Invariants:
- `raw` sources are in the model unmixed (right `updates` binds), `mixed` ones only in a mixture
  that rule P3 allowed (right `mixed` binds). A source in `raw` binds as raw, whatever else.
- The cap (what algos, imports and creators allow) only ever shrinks (P2).

Left to others: who may use a model now (`permissions.Rights`), which reads the current grants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tilth_ledger import grants
from tilth_ledger.grants import Grant
from tilth_ledger.rows import Row

Source = tuple[str, str]  # dataset key, plan key


@dataclass(frozen=True, slots=True)
class Lineage:
    raw: frozenset[Source] = frozenset()
    mixed: frozenset[Source] = frozenset()
    imports: frozenset[str] = frozenset()
    use: Grant = grants.PUBLIC
    download: Grant = grants.PUBLIC

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Lineage:
        """From a model's row or an outlook's."""
        return cls(
            raw=frozenset((d, p) for d, p in row["raw"]),
            mixed=frozenset((d, p) for d, p in row["mixed"]),
            imports=frozenset(row["imports"]),
            use=grants.read(row["cap"]["use"]),
            download=grants.read(row["cap"]["download"]),
        )

    def write(self) -> Row:
        return {
            "raw": [list(source) for source in sorted(self.raw)],
            "mixed": [list(source) for source in sorted(self.mixed)],
            "imports": sorted(self.imports),
            "cap": {"use": grants.write(self.use), "download": grants.write(self.download)},
        }

    @property
    def sources(self) -> frozenset[Source]:
        return self.raw | self.mixed

    def within(self, use: Grant, download: Grant) -> Lineage:
        """The same, capped further (P2)."""
        return replace(
            self,
            use=grants.meet(self.use, use),
            download=grants.meet(self.download, download),
        )

    def trained_on(self, source: Source) -> Lineage:
        """The model that training on a dataset makes of this one."""
        return replace(self, raw=self.raw | {source}, mixed=self.mixed - {source})

    def mixture(self) -> Lineage:
        """The same with everything mixed: what rule P3 makes of an aggregate."""
        return replace(self, raw=frozenset(), mixed=self.sources)


def union(parents: Iterable[Lineage]) -> Lineage:
    """Everything behind several models, within the caps of all (P2)."""
    result = Lineage()
    for parent in parents:
        result = Lineage(
            raw=result.raw | parent.raw,
            mixed=result.mixed | parent.mixed,
            imports=result.imports | parent.imports,
            use=grants.meet(result.use, parent.use),
            download=grants.meet(result.download, parent.download),
        )
    return replace(result, mixed=result.mixed - result.raw)
