"""What runs inside an isolation: algorithms, openers, and the runner that starts them.

    from tilth.algorithm import Algorithm, Parameter

    class Mine(Algorithm):
        parameters = [Parameter("rate", float, 0.5, low=0)]
        def start(self, task): ...                    # -> model
        def train(self, data, model, task): ...       # -> model
        def aggregate(self, models, task): ...        # -> model; the default is a weighted mean
        def predict(self, features, model, task): ... # -> one prediction per row

Invariants
- No gRPC and no network code is imported from here, and numpy and h5py only when they are used.
- The file contract (`/task`, task.json, the folders of each step) has the version of
  `tilth_ledger.steps.CONTRACT`; the runner refuses another.

The modules: algorithm, opener, data, task, parameters, selection (what users meet); weights (models
as HDF5); manifest, archive (packing); runner, scoring, serve, confine (inside the isolation).
"""

from tilth.algorithm.algorithm import Algorithm, mean
from tilth.algorithm.data import Batch, Data
from tilth.algorithm.opener import Opener
from tilth.algorithm.parameters import Parameter
from tilth.algorithm.task import Input, Task

__all__ = ["Algorithm", "Batch", "Data", "Input", "Opener", "Parameter", "Task", "mean"]
