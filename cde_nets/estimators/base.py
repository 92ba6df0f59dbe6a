"""What the classifier and the regressor share: the parameters, the network, its training, its paths."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.estimators.network import SphereNetwork
from cde_nets.estimators.progress import Report
from cde_nets.estimators.search import lbfgs
from cde_nets.estimators.tangent import tangent_fields
from cde_nets.estimators.weights import standardizer
from cde_nets.fields import SphericalFields
from cde_nets.nn import ControlledODE
from cde_nets.solver import RungeKutta

if TYPE_CHECKING:
    from theory import Certificate

# Where dim is None: room beyond the features, and how far it goes before principal components are taken.
EXTRA, LARGEST = 2, 16
# Of the first control's values: near the identity, and off the saddle at zero.
FIRST = 0.1


class ControlledODEEstimator(BaseEstimator):
    """A frozen random flow with trained controls between a frozen lift and a linear readout; see the two estimators."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dim": [Interval(Integral, 2, None, closed="left"), None],
        "count": [Interval(Integral, 1, None, closed="left")],
        "intervals": [Interval(Integral, 1, None, closed="left")],
        "degree": [Interval(Integral, 1, 4, closed="both")],
        "spread": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "energy": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        dim: int | None,
        count: int,
        intervals: int,
        degree: int,
        spread: float,
        alpha: float,
        energy: float,
        max_iter: int,
        tol: float,
        warm_start: bool,
        random_state: int | np.random.RandomState | None,
        verbose: bool | int,
    ) -> None:
        self.dim = dim
        self.count = count
        self.intervals = intervals
        self.degree = degree
        self.spread = spread
        self.alpha = alpha
        self.energy = energy
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # What is fitted.

    @property
    def flow_(self) -> ControlledODE:
        """The trained flow, on the sphere of radius sqrt(m) in R^m."""
        check_is_fitted(self)
        flow: ControlledODE = self.network_.flow
        return flow

    @property
    def fields_(self) -> SphericalFields:
        """The frozen fields, said to be tangent to spheres, which they are: for `theory.check_points`."""
        return SphericalFields(self.flow_._fields[0])

    def transform_path(self, X: Any) -> NDArray[Any]:
        """The states through depth, at the times `flow_.times`.

        Args:
            X: shape (samples, features).

        Returns:
            Shape (times, samples, m); the first are the lifted samples.
        """
        x = self._tensor(X)
        with torch.no_grad():
            path: NDArray[Any] = self.flow_.trajectory(self.network_.lift(self.network_.standardized(x))).numpy()
        return path

    def certify(self, X: Any, **options: Any) -> Certificate:
        """Whether controls, refined as needed, can carry these samples to any others on the sphere, independently.

        `theory.check_points` of `fields_` at the lifted samples. A certificate is about controls that may be refined,
        not about the numbers at hand.

        Args:
            X: shape (samples, features).
            **options: of `theory.check_points`.
        """
        from theory import check_points

        starts = self.transform_path(X)[0]
        return check_points(self.fields_.exact(), starts.astype(np.float64), **options)

    # How it is fitted.

    @abstractmethod
    def _objective(
        self, network: SphereNetwork, start: Tensor, z: Tensor, y: Any, weights: Tensor
    ) -> Callable[[], Tensor]:
        """The mean loss and the readout's penalty; weights sum to 1."""

    @abstractmethod
    def _searched(self, network: SphereNetwork) -> list[torch.nn.Parameter]:
        """What L-BFGS changes."""

    def _start(self, X: Any, y: Any, **checks: Any) -> tuple[Any, Any]:
        """X in the dtype it is computed in and y, checked."""
        self._validate_params()
        _check_plain(X, y)
        return validate_data(  # type: ignore[no-any-return]
            self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2, **checks
        )

    def _fit(self, X: NDArray[Any], y: Any, weights: NDArray[np.float64], outputs: int) -> None:
        """Train on distinct rows with weights above 0."""
        # Estimators live on the CPU, whatever torch's default device is.
        with torch.device("cpu"):
            self._train(X, y, weights, outputs)

    def _train(self, X: NDArray[Any], y: Any, weights: NDArray[np.float64], outputs: int) -> None:
        total = float(weights.sum())
        self._total = total
        if not (self.warm_start and self._fits(X, outputs)):
            self.network_ = self._network(X, weights, outputs)
        network = self.network_
        share = torch.from_numpy(weights / total).to(network.mean.dtype)
        with torch.no_grad():
            z = network.standardized(torch.from_numpy(np.array(X)).to(network.mean.dtype))
            start = network.lift(z)
        loss = self._objective(network, start, z, y, share)
        values = network.flow.control.get_parameter("values")
        # The same of every row, and of each a smaller share where there are more.
        strength = self.energy / (total * self.intervals)
        with Report(type(self).__name__, self.max_iter, shown=bool(self.verbose)) as report:
            self.loss_curve_ = lbfgs(
                self._searched(network),
                lambda: loss() + strength * values.square().sum(),
                max_iter=self.max_iter,
                tol=self.tol,
                tell=report.iteration,
            )
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        self.off_sphere_ = network.off_sphere(start)
        self.trained_numbers_ = network.trained_numbers

    def _fits(self, X: NDArray[Any], outputs: int) -> bool:
        """Whether the last network can go on with such data."""
        network = getattr(self, "network_", None)
        if network is None:
            return False
        flow = network.flow
        return bool(
            len(network.mean) == X.shape[1]
            and len(network.bias) == outputs
            and self._dim(X.shape[1]) == flow.dim
            and (flow.control.steps, flow.count, flow._fields[0].degree) == (self.intervals, self.count, self.degree)
        )

    def _dim(self, features: int) -> int:
        return int(self.dim) if self.dim is not None else min(features + EXTRA, LARGEST)

    def _network(self, X: NDArray[Any], weights: NDArray[np.float64], outputs: int) -> SphereNetwork:
        """Before training: standardised, lifted, the readout zero, the control near zero."""
        dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        dim = self._dim(X.shape[1])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        fields = tangent_fields(dim, int(self.count), int(self.degree), seed=seed, dtype=dtype)
        control = PiecewiseConstantControl.random(
            int(self.intervals), int(self.count), scale=FIRST, seed=seed, dtype=dtype
        )
        flow = ControlledODE(fields, control, RungeKutta("rk4", steps=int(self.intervals)), throw=False)
        # Constant features are only shifted.
        scaler = standardizer("X", X.astype(np.float64), weights)
        z = (X - scaler.mean_) / scaler.scale_
        frozen = (scaler.mean_, scaler.scale_, self._axes(z, weights, dim))
        mean, scale, axes = (torch.from_numpy(np.array(values)).to(dtype) for values in frozen)
        return SphereNetwork(mean, scale, axes, flow, outputs)

    def _axes(self, z: NDArray[np.float64], weights: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
        """P, scaled so that the mean of |P z|^2 is spread^2."""
        share = weights / weights.sum()
        axes = np.eye(z.shape[1])
        if z.shape[1] > dim - 1:
            u, _, vt = np.linalg.svd(z * np.sqrt(share)[:, None], full_matrices=False)
            _, vt = svd_flip(u, vt, u_based_decision=False)
            axes = vt[: dim - 1].T
        size = math.sqrt(float(share @ np.square(z @ axes).sum(1)))
        return axes * (self.spread / size if size > 0 else self.spread)

    def _tensor(self, X: Any) -> Tensor:
        """New data as the network takes them."""
        check_is_fitted(self)
        _check_plain(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return torch.from_numpy(np.array(X)).to(self.network_.mean.dtype)

    def _outputs(self, X: Any) -> Tensor:
        """What the network says, shape (samples, outputs)."""
        x = self._tensor(X)
        with torch.no_grad():
            found: Tensor = self.network_(x)
        return found


def _check_plain(*given: Any) -> None:
    """Refuse tensors that NumPy does not read: scikit-learn would pass torch's own words on."""
    for value in given:
        if isinstance(value, Tensor) and (value.requires_grad or value.is_meta):
            raise ValueError(
                f"An estimator takes arrays; got a tensor on {value.device}, requires_grad={value.requires_grad}: "
                "x.detach().cpu()."
            )
