"""Models on a leaderboard: a contest between plans over the world of the rules."""

from rules_world import Digits

from tilth_ledger import leaderboard

A, B, C = "hospital-a", "hospital-b", "hospital-c"


class Contest:
    """Models on a board: one plan each unless said otherwise, all tested at both sites."""

    def __init__(self, world, **objective):
        self.world = world
        self.digits = Digits(world, (A, B), A)
        self.digits.grant_all()
        for site in (A, B):
            self.world.grant(self.digits.datasets[site], "updates", "public")
        sets = list(self.digits.test_sets.values())
        self.objective = world.objective(A, sets, **objective)

    def enter(self, scores, final=True, owner_plan=None, seed=0):
        """Train a model at hospital-a and test it; `scores`: site -> score. The plan's key."""
        train = self.digits.train(A, seed=seed)
        tests = [self.test(site, train) for site in scores]
        fields = {"final": [train["key"]]} if final else {}
        plan = owner_plan or self.world.plan(A, [train, *tests], **fields)
        if owner_plan:
            number = self.world.row(f"plan/{plan}")["received"]
            part = {"op": "plan.tasks", "plan": plan, "part": number, "tasks": [train, *tests]}
            self.world.submit(A, part | fields)
        self.world.run(train)
        for test, score in zip(tests, scores.values(), strict=True):
            self.world.doing(test)
            self.world.done(test, score=score)
        return plan

    def test(self, site, model):
        return self.digits.test(site, model, objective=self.objective)

    def board(self, **how):
        return leaderboard.board(self.world.rows, self.objective, **how)


def score(value, count=10, **more):
    return {"value": value, "count": count, **more}


def both(value):
    return {A: score(value), B: score(value)}
