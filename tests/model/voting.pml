/* The rules of voting (V1 to V5), the change of an epoch, and a member that loses its memory.
 *
 * Safety only, and over all orders in which members may act. A certificate is visible to all as
 * soon as enough have voted: not to have received it yet is the same as not to have acted on it.
 * Liars need no state: their votes count for everything, at once, and a view that they lead offers
 * two blocks. Every honest move is one atomic step. What is asserted stands in `agree`.
 *
 * What makes the search small, and why nothing is lost by it:
 * - A member's view, and its epoch, are not kept: it moves on when it next votes. Certificates stay,
 *   so that to move on later is possible whenever to move on earlier was.
 * - A block is offered by the first vote for it: what made it valid earlier makes it valid then.
 * - A member that lost its memory and votes again only in the next epoch, with another key, is one
 *   that stops in this one; anybody may stop at any time. So LOSS == ROTATES adds nothing to a search
 *   without it. One setting is searched both ways.
 * - Which honest member leads a view is not asked: a valid block may be offered in any view, by
 *   whoever leads. That allows more than the rules do.
 * - So members of one kind differ in nothing but what they signed, and one order of them stands for
 *   all (`sort`).
 *
 * Set by -D: N, Q, LIARS (bit mask), V (views); EPOCHS 2 with MEMBERS2 and Q2 (the set after a
 * change); LEADERS_LIE; LOSS (how member 0 goes on after it lost its record of votes); WITHOUT_...
 * leaves a rule out. check.py runs them all and says which must hold.
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
#ifndef FOUNDERS
#define FOUNDERS N      /* members of epoch 0: the first of all N */
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
#define AT(e, v) ((e) * V + (v) - 1)         /* a view's place */
#define BLOCK(e, v, x) (1 + AT(e, v) * 2 + (x))
#define EPOCH(b) (((b) - 1) / (2 * V))
#define VIEW(b) ((b) == 0 -> 0 : (((b) - 1) / 2) % V + 1)
#define VARIANT(b) (((b) - 1) % 2)
#define BIT(m) (1 << (m))
#define HONEST(m) (((LIARS >> (m)) & 1) == 0)
#define SET(e) ((e) == 0 -> BIT(FOUNDERS) - 1 : MEMBERS2)
#define IN(e, m) ((SET(e) >> (m)) & 1)
#define QUORUM(e) ((e) == 0 -> Q : Q2)
#ifndef SHIFT
#define SHIFT 0
#endif
#define LEADER(e, v) (((v) - 1 + (e) + SHIFT) % N)
/* A leader's proposal is no vote: with LEADERS_LIE all may offer what they like, and yet vote by the
 * rules. */
#ifdef LEADERS_LIE
#define FAITHFUL(m) 0
#else
#define FAITHFUL(m) HONEST(m)
#endif

/* What a member signed: five bits for each view; above them, that it holds a vote of member 0. */
#define NOTARIZE 0                           /* + variant */
#define NULLIFY 2
#define FINALIZE 3                           /* + variant */
#define PLACE(e, v, what) (5 * AT(e, v) + (what))
#define SAID(record, e, v, what) (((record) >> PLACE(e, v, what)) & 1)
#define FIRST_EPOCH (BIT(5 * V) - 1)
#define SHOWN 30

#define ONE(i, e, place) (IN(e, i) && (!HONEST(i) || ((said[i] >> (place)) & 1)))
#if N == 3
#define COUNT(e, p) (ONE(0, e, p) + ONE(1, e, p) + ONE(2, e, p))
#elif N == 4
#define COUNT(e, p) (ONE(0, e, p) + ONE(1, e, p) + ONE(2, e, p) + ONE(3, e, p))
#else
#define COUNT(e, p) (ONE(0, e, p) + ONE(1, e, p) + ONE(2, e, p) + ONE(3, e, p) + ONE(4, e, p))
#endif
#define ENOUGH(e, v, what) (COUNT(e, PLACE(e, v, what)) >= QUORUM(e))
#define NOTARIZED(b) ((b) == 0 || (parent[b] != ABSENT && ENOUGH(EPOCH(b), VIEW(b), NOTARIZE + VARIANT(b))))
#define FINAL(b) ((b) == 0 || (parent[b] != ABSENT && ENOUGH(EPOCH(b), VIEW(b), FINALIZE + VARIANT(b))))
#define NULLIFIED(e, v) ENOUGH(e, v, NULLIFY)
#define PASSED(e, v) (NULLIFIED(e, v) || NOTARIZED(BLOCK(e, v, 0)) || NOTARIZED(BLOCK(e, v, 1)))

byte parent[BLOCKS];
byte kind[BLOCKS];
int said[N];                                 /* what others can hold */
#if LOSS == 0
#define OWN(m) said[m]                     /* what a member remembers */
#define SILENT(m) false
#define LOST false
#else
int own;                                     /* what member 0 remembers */
bool lost;                                   /* member 0 lost its memory */
bool silent;                                 /* ... and votes no more in epoch 0 */
#define OWN(m) ((m) == 0 -> own : said[m])
#define SILENT(m) ((m) == 0 && silent)
#define LOST lost
#endif

hidden byte m, e, v, x, b, p, w, i, j;
hidden byte ok, fine, above;
hidden int r;
hidden byte moved;                           /* somebody signed: members may stand in another order */

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

/* fine = member m, who votes in epoch e, is in view v, or a certificate moves it there (V2, V4, V6);
 * in a new epoch the view after the change is the first. */
inline stands_in() {
    fine = (IN(e, m) && HONEST(m) && !(e == 0 && SILENT(m)));
    r = OWN(m);
    fine = (fine && (e == 1 || (r & ~FIRST_EPOCH & (BIT(SHOWN) - 1)) == 0));
    j = 0;                                   /* the view of its last vote; one more after a finalize */
    w = 1;
    do
    :: w <= V ->
        if
        :: SAID(r, e, w, FINALIZE) || SAID(r, e, w, FINALIZE + 1) -> j = w + 1
        :: else ->
            if
            :: j <= w && (SAID(r, e, w, NOTARIZE) || SAID(r, e, w, NOTARIZE + 1) || SAID(r, e, w, NULLIFY)) -> j = w
            :: else
            fi
        fi;
        w++
    :: else -> break
    od;
    if
    :: !fine || v < j -> fine = false
    :: else ->
        if
        :: v == j || (e == 0 && v == 1) || (v > 1 && PASSED(e, v - 1))
        :: else ->
            fine = false;
            if
            :: e == 1 && j == 0 ->
                p = 1;
                do
                :: p <= 2 * V ->
                    if
                    :: parent[p] != ABSENT && kind[p] == CONFIG && VIEW(p) + 1 == v ->
                        ended(p);
                        fine = (fine || ok)
                    :: else
                    fi;
                    p++
                :: else -> break
                od
            :: else
            fi
        fi
    fi;
}

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

/* Members of one kind stand in the order of what they signed. */
#define ALIKE(i) (HONEST(i) && HONEST(i + 1) && IN(0, i) == IN(0, i + 1) && \
                  (EPOCHS == 1 || IN(1, i) == IN(1, i + 1)) && !(LOSS != 0 && (i) == 0))
inline sort() {
    i = (moved -> 1 : N);
    moved = false;
    do
    :: i < N ->
        j = 0;
        do
        :: j < N - 1 ->
            if
            :: ALIKE(j) && said[j] < said[j + 1] ->
                r = said[j];
                said[j] = said[j + 1];
                said[j + 1] = r
            :: else
            fi;
            j++
        :: else -> break
        od;
        i++
    :: else -> break
    od;
    r = 0
}

inline sign(what) {
    moved = true;
    said[m] = said[m] | BIT(PLACE(e, v, what));
#if LOSS != 0
    if
    :: m == 0 -> own = own | BIT(PLACE(e, v, what))
    :: else
    fi
#endif
}

inline pick_member() {
    if
    :: m = 0
    :: m = 1
    :: m = 2
#if N > 3
    :: m = 3
#endif
#if N > 4
    :: m = 4
#endif
    fi
}

inline pick_view() {
    if
    :: v = 1
    :: v = 2
#if V > 2
    :: v = 3
#endif
#if V > 3
    :: v = 4
#endif
    fi;
    if
    :: e = 0
#if EPOCHS == 2
    :: e = 1
#endif
    fi
}

inline pick_variant() {
    if
    :: x = 0
    :: x = 1
    fi
}

/* Leaders that lie offer two blocks of any kind, on any parents, from the start: when they offer them
 * makes no difference to who may vote for them. Voters look at the kind: only one that is empty may
 * stand above a change, and only epoch 0 may end. */
inline offer() {
    e = 0;
    do
    :: e < EPOCHS ->
        v = 1;
        do
        :: v <= V ->
            if
            :: !FAITHFUL(LEADER(e, v)) -> offer_two()
            :: else
            fi;
            v++
        :: else -> break
        od;
        e++
    :: else -> break
    od
}

inline offer_two() {
    x = 0;
    do
    :: x < 2 ->
        b = BLOCK(e, v, x);
        p = 0;
        do
        :: p + 1 < BLOCK(e, v, 0) -> p++
        :: break
        od;
        if
        :: p == 0 || parent[p] != ABSENT ->
            parent[b] = p;
            follows_change(b);
            if
            :: !above -> kind[b] = LEAVES
            :: !above && EPOCHS == 2 && e == 0 -> kind[b] = CONFIG
            :: above -> kind[b] = EMPTY
            fi
        :: else
        fi;
        x++
    :: else -> break
    od
}

/* V1. The first vote for a block of a faithful leader offers it: a block that its voters must take.
 * A leader that lost its memory may offer a second one in all honesty. */
inline vote_notarize() {
    pick_member();
    pick_view();
    stands_in();
#ifndef WITHOUT_ONE_NOTARIZE
    r = OWN(m);
    fine = (fine && !SAID(r, e, v, NOTARIZE) && !SAID(r, e, v, NOTARIZE + 1));
#endif
    if
    :: fine ->
        pick_variant();
        b = BLOCK(e, v, x);
        if
        :: parent[b] != ABSENT ->
            p = parent[b];
            judge();
            fine = (fine && !SAID(OWN(m), e, v, NOTARIZE + x));
            if
            :: fine -> sign(NOTARIZE + x)
            :: else
            fi
        :: parent[b] == ABSENT && FAITHFUL(LEADER(e, v)) && (x == 0 || (LOST && LEADER(e, v) == 0)) ->
            p = 0;
            do
            :: p + 1 < BLOCK(e, v, 0) -> p++
            :: break
            od;
            judge();
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
                fi;
                sign(NOTARIZE + x)
            :: else
            fi
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
    b = BLOCK(e, v, x);
    r = OWN(m);
    ok = (IN(e, m) && HONEST(m) && !(e == 0 && SILENT(m)) && NOTARIZED(b));
    ok = (ok && (e == 1 || (r & ~FIRST_EPOCH & (BIT(SHOWN) - 1)) == 0));
    ok = (ok && !SAID(r, e, v, FINALIZE) && !SAID(r, e, v, FINALIZE + 1));
#ifndef WITHOUT_NO_FINALIZE_AFTER_NULLIFY
    ok = (ok && !SAID(r, e, v, NULLIFY));
#endif
#ifndef WITHOUT_ONE_NOTARIZE
    ok = (ok && !SAID(r, e, v, NOTARIZE + 1 - x));
#endif
    if
    :: ok -> sign(FINALIZE + x); agree()
    :: else
    fi
}

/* V3 */
inline vote_nullify() {
    pick_member();
    pick_view();
#ifdef WITHOUT_NO_NULLIFY_AFTER_FINALIZE
    r = OWN(m);
    fine = (SAID(r, e, v, FINALIZE) || SAID(r, e, v, FINALIZE + 1));
    if
    :: fine
    :: else -> stands_in()
    fi;
#else
    stands_in();
#endif
    if
    :: fine && !SAID(OWN(m), e, v, NULLIFY) -> sign(NULLIFY)
    :: else
    fi
}

#if LOSS != 0
/* Somebody comes to hold a vote of member 0; it may be asked for it later. */
inline deliver() {
    pick_member();
    if
    :: m != 0 && !lost && own != 0 -> said[m] = said[m] | BIT(SHOWN); moved = true
    :: else
    fi
}

#define EMPTY_HANDED(m) (IN(0, m) && (!HONEST(m) || ((said[m] >> SHOWN) & 1) == 0))
inline lose_memory() {
    if
    :: !lost && (own & ~FIRST_EPOCH) == 0 ->
        lost = true;
        own = 0;
        if
        :: LOSS == ROTATES -> silent = true
        :: LOSS == ASKS_QUORUM ->
            /* the answers that suit it least: those who hold nothing come first */
            m = 1;
            x = 0;
            do
            :: m < N -> x = x + EMPTY_HANDED(m); m++
            :: else -> break
            od;
            silent = (x < Q - 1)
        :: else
        fi
    :: else
    fi
}
#endif

init {
    d_step {
        b = 1;
        do
        :: b < BLOCKS -> parent[b] = ABSENT; b++
        :: else -> break
        od
    };
    atomic { offer() };
    do
    :: atomic { vote_notarize(); sort() }
    :: atomic { vote_finalize(); sort() }
    :: atomic { vote_nullify(); sort() }
#if LOSS != 0
    :: atomic { lose_memory() }
#if LOSS == 2
    :: atomic { deliver(); sort() }
#endif
#endif
    od
}
