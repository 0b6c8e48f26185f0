"""Three algorithms of the demo; they run at the hospitals, inside an isolation."""

import numpy as np

from tilth.algorithm import Algorithm, Parameter


class Softmax(Algorithm):
    """Softmax regression: ten linear scores, one per digit."""

    parameters = [Parameter("rate", float, 0.5, low=0, high=10), Parameter("steps", int, 20, low=1)]

    def start(self, task):
        return {"W": np.zeros((64, 10)), "b": np.zeros(10)}

    def scores(self, X, model):
        Z = np.exp(X @ model["W"] + model["b"])
        return Z / Z.sum(axis=1, keepdims=True)

    def train(self, data, model, task):
        X, Y = data.X / 16, np.eye(10)[data.y]
        for _ in range(task.parameters["steps"]):
            error = self.scores(X, model) - Y
            model["W"] -= task.parameters["rate"] * X.T @ error / len(X)
            model["b"] -= task.parameters["rate"] * error.mean(axis=0)
            task.report(error=float(np.abs(error).mean()))
        return model

    def predict(self, features, model, task):
        return self.scores(features.X / 16, model).argmax(axis=1)


class HiddenLayer(Algorithm):
    """One hidden layer of 48 tanh units, trained by small steps over shuffled batches."""

    parameters = [
        Parameter("rate", float, 0.1, low=0, high=10),
        Parameter("passes", int, 8, low=1),
    ]

    def start(self, task):
        random = np.random.default_rng(task.seed)
        return {
            "W1": random.normal(0, 64**-0.5, (64, 48)),
            "b1": np.zeros(48),
            "W2": random.normal(0, 48**-0.5, (48, 10)),
            "b2": np.zeros(10),
        }

    def forward(self, X, model):
        hidden = np.tanh(X @ model["W1"] + model["b1"])
        Z = hidden @ model["W2"] + model["b2"]
        Z = np.exp(Z - Z.max(axis=1, keepdims=True))
        return hidden, Z / Z.sum(axis=1, keepdims=True)

    def train(self, data, model, task):
        X, Y = data.X / 16, np.eye(10)[data.y]
        random = np.random.default_rng(task.seed)
        for _ in range(task.parameters["passes"]):
            order = random.permutation(len(X))
            losses = [self.step(X[part], Y[part], model, task) for part in self.batches(order)]
            task.report(loss=float(np.mean(losses)))
        return model

    def batches(self, order):
        return [order[first : first + 32] for first in range(0, len(order), 32)]

    def step(self, X, Y, model, task):
        hidden, P = self.forward(X, model)
        out = (P - Y) / len(X)
        back = (out @ model["W2"].T) * (1 - hidden**2)
        rate = task.parameters["rate"]
        model["W2"] -= rate * hidden.T @ out
        model["b2"] -= rate * out.sum(axis=0)
        model["W1"] -= rate * X.T @ back
        model["b1"] -= rate * back.sum(axis=0)
        return -np.log(P[Y == 1] + 1e-12).mean()

    def predict(self, features, model, task):
        return self.forward(features.X / 16, model)[1].argmax(axis=1)


class Majority(Algorithm):
    """The baseline to beat: always the digit that occurs most often, found federatedly."""

    def start(self, task):
        return {"shares": np.zeros(10)}

    def train(self, data, model, task):
        return {"shares": np.bincount(data.y, minlength=10) / len(data.y)}

    def predict(self, features, model, task):
        return np.full(len(features.X), model["shares"].argmax())
