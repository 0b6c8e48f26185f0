"""Seeds that failed once; CI runs them for ever. One line each: the seed, and what it found.

A seed names a run only together with `faults.of_seed` and `world`: after a change of those it is an
ordinary seed, and stays in the list as one. What came later (schemes) is drawn for seeds from
`faults.HOSTILE` on only, so that these are the runs that they were.
"""

KEPT_SEEDS = (
    20,  # retries never backed off: noting work forgot that the member was stuck
    46,  # a leaf that the others refuse kept its holder talking for ever after it nullified
    392,  # the same
    11,  # a damaged body below a good header stopped whoever was handed it
    249,  # a member took damage to its own stored block for a fork
    287,  # one that became a member late, and crashed then, was not expected to ask everybody
    1163,  # the simulated liar itself could not stand a damaged block
    116,  # a liar's barrier that half of the members heard of kept them talking for ever
    196,  # the same
    3079,  # a member whose disk forgot a vote may be accused of two: it is detected, not proven
    2290,  # the simulated liar's garbage could not even be encoded
    10818,  # a member with a damaged journal asks a liar, which says nothing, for ever
    12637,  # evidence whose record a failing sync took with it need not come to the ledger
    12836,  # the same
    34427,  # one admitted when no member of genesis was left found nobody to give it the ledger
    34827,  # the same
    36738,  # a compacted journal that lost its end held a finalize vote and not its proof
    37327,  # the same
    1349,  # a twin of a traitor may be ahead of every honest member
)
