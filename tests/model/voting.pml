/* The rules of voting (V1 to V5), the change of an epoch, and a member that loses its memory.
 *
 * Safety only, and over all orders in which members may act. A certificate is visible to all as
 * soon as enough have voted: not to have received it yet is the same as not to have acted on it.
 * Liars need no state: their votes count for everything, at once, and a view that they lead offers
 * two blocks. Every honest move is one atomic step. What is asserted stands in `agree`.
 *
 * Set by -D: N, Q, LIARS (bit mask), V (views); EPOCHS 2 with MEMBERS2 and Q2 (the set after a
 * change); LEADERS_LIE; LOSS (how member 0 goes on after it lost its record of votes); WITHOUT_... leaves a rule
 * out. check.py runs them all and says which must hold.
 */
#ifndef N
#define N 3
#endif
#ifndef Q
#define Q 2
#endif
#ifndef LIARS
#define LIARS 0
#endif
#ifndef V
#define V 3
#endif
#ifndef EPOCHS
#define EPOCHS 1
#endif
#ifndef MEMBERS2
#define MEMBERS2 7
#endif
#ifndef Q2
#define Q2 Q
#endif
#ifndef LOSS
#define LOSS 0
#endif
#define REMEMBERS 0     /* a crash loses nothing: every vote was durable before it was sent */
#define VOTES_ON 1      /* votes again, as if nothing had been lost */
#define ASKS_QUORUM 2   /* votes again when none of q - 1 others shows it a vote of its own */
#define ROTATES 3       /* votes again only in the next epoch, with another key */

#define ABSENT 255
#define LEAVES 1
#define CONFIG 2
#define EMPTY 3

#define BLOCKS (1 + EPOCHS * V * 2)          /* block 0 is the genesis block */
#define VIEWS (EPOCHS * V)
#define AT(e, v) ((e) * V + (v) - 1)         /* a view's place */
#define BLOCK(e, v, x) (1 + AT(e, v) * 2 + (x))
#define EPOCH(b) (((b) - 1) / (2 * V))
#define VIEW(b) ((b) == 0 -> 0 : (((b) - 1) / 2) % V + 1)
#define VARIANT(b) (((b) - 1) % 2)
#define BIT(m) (1 << (m))
#define COUNT(s) (((s) & 1) + (((s) >> 1) & 1) + (((s) >> 2) & 1) + (((s) >> 3) & 1) + (((s) >> 4) & 1))
#define FIRST (BIT(FOUNDERS) - 1)
#ifndef FOUNDERS
#define FOUNDERS N                           /* members of epoch 0: the first of all N */
#endif
#define SET(e) ((e) == 0 -> FIRST : MEMBERS2)
#define QUORUM(e) ((e) == 0 -> Q : Q2)
#define ENOUGH(e, votes) (COUNT(((votes) | LIARS) & SET(e)) >= QUORUM(e))
#define HONEST(m) (((LIARS >> (m)) & 1) == 0)
/* A leader's proposal is no vote: with LEADERS_LIE all may offer what they like, and yet vote by the
 * rules. */
#ifdef LEADERS_LIE
#define FAITHFUL(m) 0
#else
#define FAITHFUL(m) HONEST(m)
#endif
#define IN(e, m) (((SET(e)) >> (m)) & 1)

#define NOTARIZED(b) ((b) == 0 || (parent[b] != ABSENT && ENOUGH(EPOCH(b), notarize[b])))
#define FINAL(b) ((b) == 0 || (parent[b] != ABSENT && ENOUGH(EPOCH(b), finalize[b])))
#define NULLIFIED(e, v) ENOUGH(e, nullify[AT(e, v)])

byte parent[BLOCKS];
byte kind[BLOCKS];
byte notarize[BLOCKS];                       /* who signed: what others hold */
byte finalize[BLOCKS];
byte nullify[VIEWS];
short own_notarize[N];                       /* what each remembers: one bit for each view */
short own_variant[N];
short own_nullify[N];
short own_finalize[N];
byte at_view[N];
byte at_epoch[N];
bool lost;                                   /* member 0 lost its memory */
bool silent;                                 /* ... and votes no more in this epoch */
byte shown;                                  /* who holds a vote that member 0 forgot */

hidden byte m, e, v, x, b, p, w, i, j;
hidden byte ok, fine, above;

/* ok = `old` is `young` or an ancestor of it */
inline ancestor(old, young) {
    w = young;
    do
    :: w == (old) -> break
    :: w != (old) && w != 0 && parent[w] != ABSENT -> w = parent[w]
    :: w != (old) && (w == 0 || parent[w] == ABSENT) -> break
    od;
    ok = (w == (old))
}

/* above = an ancestor of `young` in its own epoch changes the members */
inline follows_change(young) {
    above = false;
    w = young;
    do
    :: w != 0 && parent[w] != ABSENT && parent[w] != 0 && EPOCH(parent[w]) == EPOCH(young) ->
        w = parent[w];
        above = (above || kind[w] == CONFIG)
    :: else -> break
    od
}

/* ok = every view between the parent's and v is proven to be skipped */
inline skips(in_epoch, up_to, from) {
    ok = true;
    w = VIEW(from) + 1;
    do
    :: w < (up_to) -> ok = (ok && NULLIFIED(in_epoch, w)); w++
    :: else -> break
    od
}

/* Any two final blocks are of one chain. Blocks of the old epoch above the one that ended it are
 * void; they carry nothing, so that nothing is lost with them. */
inline agree() {
    i = 1;
    do
    :: i < BLOCKS ->
        if
        :: FINAL(i) ->
            follows_change(i);
            if
            :: above -> assert(kind[i] == EMPTY)
            :: else ->
                j = 1;
                do
                :: j < i ->
                    if
                    :: FINAL(j) ->
                        follows_change(j);
                        if
                        :: above
                        :: else ->
                            ancestor(j, i);
                            if
                            :: ok
                            :: else -> ancestor(i, j); assert(ok)
                            fi
                        fi
                    :: else
                    fi;
                    j++
                :: else -> break
                od
            fi
        :: else
        fi;
        i++
    :: else -> break
    od
}

inline pick_member() {
    m = 0;
    do
    :: m < N - 1 -> m++
    :: break
    od
}

inline pick_view() {
    v = 1;
    do
    :: v < V -> v++
    :: break
    od
}

inline pick_variant() {
    if
    :: x = 0
    :: x = 1
    fi
}

#define VOTES (IN(e, m) && HONEST(m) && !(m == 0 && silent))
#define OWN(record) (((record) >> AT(e, v)) & 1)
#define CURRENT (at_epoch[m] == e && at_view[m] == v)
#define LEADER(e, v) (((v) + (e)) % N)

/* fine = block b on parent p may stand in view v of epoch e: what its voters look at */
inline judge() {
    fine = (VIEW(p) < v && (p == 0 || parent[p] != ABSENT));
    fine = (fine && (p != 0 || e == 0));
    fine = (fine && (p == 0 || EPOCH(p) == e || (EPOCH(p) == 0 && kind[p] == CONFIG)));
#ifndef WITHOUT_PARENT_CERTIFICATE
    fine = (fine && (NOTARIZED(p) || FINAL(p)));
#endif
    if
    :: fine && e == 1 && EPOCH(p) == 0 -> ended(p); fine = ok
    :: else
    fi;
#ifndef WITHOUT_SKIP_PROOFS
    if
    :: fine -> skips(e, v, p); fine = ok
    :: else
    fi
#endif
}

/* ok = the old members made `change` final, in itself or under an empty block */
inline ended(change) {
    above = false;
    i = 1;
    do
    :: i <= 2 * V ->
        if
#ifdef WITHOUT_FINALITY_AT_EPOCH_END
        :: NOTARIZED(i) -> ancestor(change, i); above = (above || ok)
#else
        :: FINAL(i) -> ancestor(change, i); above = (above || ok)
#endif
        :: else
        fi;
        i++
    :: else -> break
    od;
    ok = above
}

/* Leaders that lie offer two blocks, on any parents, from the start: when they offer them makes no
 * difference to who may vote for them. (Liars and a change of epoch are not mixed here.) */
inline offer() {
    v = 1;
    do
    :: v <= V ->
        if
        :: !FAITHFUL(LEADER(0, v)) ->
            x = 0;
            do
            :: x < 2 ->
                b = BLOCK(0, v, x);
                p = 0;
                do
                :: p + 1 < BLOCK(0, v, 0) -> p++
                :: break
                od;
                if
                :: p == 0 || parent[p] != ABSENT -> parent[b] = p; kind[b] = LEAVES
                :: else
                fi;
                x++
            :: else -> break
            od
        :: else
        fi;
        v++
    :: else -> break
    od;
    v = 0;
    x = 0;
    b = 0;
    p = 0
}

/* An honest leader offers a block that its voters must take. One that lost its memory may offer a
 * second one in all honesty. */
inline propose() {
    pick_view();
    pick_variant();
    e = 0;
    if
    :: true
    :: EPOCHS == 2 -> e = 1
    fi;
    m = LEADER(e, v);
    b = BLOCK(e, v, x);
    p = 0;
    do
    :: p < BLOCKS - 1 -> p++
    :: break
    od;
    if
    :: IN(e, m) && FAITHFUL(m) && parent[b] == ABSENT ->
        fine = (CURRENT && VOTES && !OWN(own_notarize[m]) && (x == 0 || lost));
        if
        :: fine -> judge()
        :: else
        fi;
        if
        :: fine ->
            parent[b] = p;
            follows_change(b);
            if
            :: !above -> kind[b] = LEAVES
            :: !above && EPOCHS == 2 && e == 0 -> kind[b] = CONFIG
            :: above -> kind[b] = EMPTY
#ifdef WITHOUT_EMPTY_BLOCKS_ONLY
            :: above -> kind[b] = LEAVES
#endif
            fi
        :: else
        fi
    :: else
    fi
}

/* V1 */
inline vote_notarize() {
    pick_member();
    pick_variant();
    e = at_epoch[m];
    v = at_view[m];
    if
    :: v <= V ->
        b = BLOCK(e, v, x);
        fine = (VOTES && parent[b] != ABSENT && !((notarize[b] >> m) & 1));
#ifndef WITHOUT_ONE_NOTARIZE
        fine = (fine && !OWN(own_notarize[m]));
#endif
        if
        :: fine -> p = parent[b]; judge()
        :: else
        fi;
        if
        :: fine ->
            notarize[b] = notarize[b] | BIT(m);
            own_notarize[m] = own_notarize[m] | BIT(AT(e, v));
            own_variant[m] = own_variant[m] | (x << AT(e, v))
        :: else
        fi
    :: else
    fi
}

/* V2, the vote: also later, when the view is past */
inline vote_finalize() {
    pick_member();
    pick_view();
    pick_variant();
    e = at_epoch[m];
    b = BLOCK(e, v, x);
    ok = (VOTES && v < at_view[m] && NOTARIZED(b) && !OWN(own_finalize[m]));
#ifndef WITHOUT_NO_FINALIZE_AFTER_NULLIFY
    ok = (ok && !OWN(own_nullify[m]));
#endif
#ifndef WITHOUT_ONE_NOTARIZE
    ok = (ok && (!OWN(own_notarize[m]) || OWN(own_variant[m]) == x));
#endif
    if
    :: ok ->
        finalize[b] = finalize[b] | BIT(m);
        own_finalize[m] = own_finalize[m] | BIT(AT(e, v));
        agree()
    :: else
    fi
}

/* V3 */
inline vote_nullify() {
    pick_member();
    pick_view();
    e = at_epoch[m];
    ok = (VOTES && !OWN(own_nullify[m]));
#ifndef WITHOUT_NO_NULLIFY_AFTER_FINALIZE
    ok = (ok && v == at_view[m] && !OWN(own_finalize[m]));
#else
    ok = (ok && v <= at_view[m]);
#endif
    if
    :: ok ->
        nullify[AT(e, v)] = nullify[AT(e, v)] | BIT(m);
        own_nullify[m] = own_nullify[m] | BIT(AT(e, v))
    :: else
    fi
}

/* V2, V4, V6: a certificate of this view or a later one moves a member on */
inline advance() {
    pick_member();
    pick_view();
    e = at_epoch[m];
    if
    :: HONEST(m) && v >= at_view[m] &&
       (NOTARIZED(BLOCK(e, v, 0)) || NOTARIZED(BLOCK(e, v, 1)) || NULLIFIED(e, v)) ->
        at_view[m] = v + 1
    :: else
    fi
}

/* The old members made a change final, in itself or under an empty block: the next epoch begins
 * with that change as parent, in the view after it. */
inline change_epoch() {
    pick_member();
    b = 1;
    do
    :: b < 2 * V -> b++
    :: break
    od;
    if
    :: HONEST(m) && at_epoch[m] == 0 && parent[b] != ABSENT && kind[b] == CONFIG ->
        ended(b);
        if
        :: ok ->
            at_epoch[m] = 1;
            at_view[m] = VIEW(b) + 1;
            if
            :: m == 0 -> silent = false   /* it votes with another key */
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

/* Somebody comes to hold a vote of member 0; it may be asked for it later. */
inline deliver() {
    pick_member();
    if
    :: m != 0 && !lost && (own_notarize[0] != 0 || own_nullify[0] != 0) -> shown = shown | BIT(m)
    :: else
    fi
}

inline lose_memory() {
    if
    :: !lost && HONEST(0) && at_epoch[0] == 0 ->
        lost = true;
        own_notarize[0] = 0;
        own_variant[0] = 0;
        own_nullify[0] = 0;
        own_finalize[0] = 0;
        at_view[0] = 1;
        if
        :: LOSS == ROTATES -> silent = true
        :: LOSS == ASKS_QUORUM ->
            /* the answers that suit it least: those who hold nothing come first */
            silent = (COUNT((~shown) & FIRST & ~1 & ~(LIARS)) + COUNT(LIARS) < Q - 1)
        :: else
        fi
    :: else
    fi
}

init {
    d_step {
        b = 1;
        do
        :: b < BLOCKS -> parent[b] = ABSENT; b++
        :: else -> break
        od;
        m = 0;
        do
        :: m < N -> at_view[m] = 1; m++
        :: else -> break
        od
    };
    atomic { offer() };
    do
    :: atomic { propose() }
    :: atomic { vote_notarize() }
    :: atomic { vote_finalize() }
    :: atomic { vote_nullify() }
    :: atomic { advance() }
#if EPOCHS == 2
    :: atomic { change_epoch() }
#endif
#if LOSS != 0
    :: atomic { lose_memory() }
#if LOSS == 2
    :: atomic { deliver() }
#endif
#endif
    od
}
