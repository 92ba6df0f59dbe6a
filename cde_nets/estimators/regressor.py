"""Regression by a controlled ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from cde_nets.estimators.base import ControlledODEEstimator
from cde_nets.estimators.network import SphereNetwork
from cde_nets.estimators.weights import distinct, standardizer

# Of the variance of y, added to what is left of it: exact fits have a logarithm, too.
FLOOR = 1e-4


class ControlledODERegressor(MultiOutputMixin, RegressorMixin, ControlledODEEstimator):
    """Numbers by a linear readout of a controlled ODE dX = sum_i u_i(t) V_i(X) dt on a sphere.

    Features are standardised and lifted to the sphere; the fields V_i are random polynomials tangent to it, frozen;
    trained are the controls u_i and a readout of the flow's end beside the standardised features. So a flow that does
    nothing leaves ridge regression, and what it adds is bounded whatever comes in.

    For given controls the readout is ridge regression's, in closed form; over the controls L-BFGS minimises

        1/2 sum_k log(q_k + 1e-4) + energy * int |u|^2 dt / n,    q_k = mean squared error + alpha |W_k|^2 / n,

    q_k of the standardised output k and n the sum of the weights: the likelihood of normal noise whose variance is
    estimated, too (variable projection; Golub and Pereyra 1973). So energy need not be told how noisy y is.

    Args:
        dim: m, of the space around the sphere; features + 2 where None, at most 16. Where the features do not fit into
            m - 1 numbers, their principal components flow, and the readout still sees all features.
        count: d, fields.
        intervals: M, on each of which the controls are constant, and one step of the classical Runge-Kutta method.
        degree: of the fields, 1 to 4; 1 only rotates the sphere.
        spread: root mean square distance of the lifted features from the pole, before they are put on the sphere.
        alpha: of the readout's penalty, as in ridge regression.
        energy: of the control's penalty: larger is smoother.
        max_iter: iterations of L-BFGS.
        tol: stop where an iteration lowers the objective by less than this share of it, or of 1 where it is smaller.
        warm_start: go on from the last fit, with its fields and its standardisation, where shapes agree.
        random_state: of the fields and the first control; the same numbers to the bit from the same integer.
        verbose: show a progress bar on standard error.

    Attributes:
        flow_: the trained `ControlledODE`.
        fields_: its fields as `SphericalFields`, for `theory.check_points`.
        network_: the module from features to standardised outputs.
        trained_numbers_: how many numbers were trained, the readout's included.
        loss_: the objective, in the end; loss_curve_ after every iteration.
        n_iter_: iterations.
        off_sphere_: how far the steps took the training samples off the sphere, relative to its radius.
        n_outputs_: outputs.
        n_features_in_: features.
        feature_names_in_: their names, of a data frame.

    Raises:
        ValueError: at `fit`, parameters out of range, fewer than two samples, numbers that are not finite.

    Examples:
        >>> from sklearn.datasets import make_friedman1
        >>> import cde_nets as cn
        >>> X, y = make_friedman1(400, random_state=0)
        >>> cn.ControlledODERegressor(random_state=0).fit(X, y).score(X, y) > 0.9
        True
    """

    def __init__(
        self,
        *,
        dim: int | None = None,
        count: int = 32,
        intervals: int = 4,
        degree: int = 2,
        spread: float = 0.35,
        alpha: float = 1.0,
        energy: float = 30.0,
        max_iter: int = 100,
        tol: float = 1e-7,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            dim=dim,
            count=count,
            intervals=intervals,
            degree=degree,
            spread=spread,
            alpha=alpha,
            energy=energy,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ControlledODERegressor:
        """Train the controls and the readout.

        Args:
            X: shape (samples, features).
            y: shape (samples,) or (samples, outputs).
            sample_weight: at least 0, shape (samples,); a weight of 2 is a sample given twice, 0 one left out.

        Raises:
            ValueError: as the class.
        """
        X, y = self._start(X, y, multi_output=True, y_numeric=True)
        X, y, weights = distinct(X, y, sample_weight)
        self._flat = y.ndim == 1
        columns = y.reshape(len(y), -1).astype(np.float64)
        self.n_outputs_ = columns.shape[1]
        # Of the network there is, where it goes on.
        if not (self.warm_start and self._fits(X, self.n_outputs_)):
            scaler = standardizer("y", columns, weights)
            self._y_mean, self._y_scale = scaler.mean_, scaler.scale_
        standard = torch.from_numpy((columns - self._y_mean) / self._y_scale)
        self._fit(X, standard, weights, self.n_outputs_)
        return self

    def _objective(
        self, network: SphereNetwork, start: Tensor, z: Tensor, y: Tensor, weights: Tensor
    ) -> Callable[[], Tensor]:
        decay = self.alpha / self._total
        weights = weights.double()

        def objective() -> Tensor:
            read = network.features(start, z).double()
            with torch.no_grad():
                weight, bias = ridge(read, y, weights, decay)
                network.weight.copy_(weight)
                network.bias.copy_(bias)
            # The readout is at its minimum, so that the controls' gradient is that of the readout held fixed.
            errors = (read @ weight.mT + bias - y).square()
            quality = weights @ errors + decay * weight.square().sum(1)
            return 0.5 * (quality + FLOOR).log().sum()

        return objective

    def _searched(self, network: SphereNetwork) -> list[torch.nn.Parameter]:
        return [network.flow.control.get_parameter("values")]

    def predict(self, X: Any) -> NDArray[Any]:
        """Predictions, shape (samples,) or (samples, outputs), as y was."""
        check_is_fitted(self)
        found: NDArray[Any] = self._outputs(X).double().numpy() * self._y_scale + self._y_mean
        return found[:, 0] if self._flat else found


def ridge(read: Tensor, y: Tensor, weights: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """W and b that minimise sum_n w_n |W f_n + b - y_n|^2 + decay |W|^2, with weights w that sum to 1.

    Args:
        read: f, shape (samples, numbers).
        y: shape (samples, outputs).
        weights: w, shape (samples,).
        decay: above 0.

    Returns:
        Shapes (outputs, numbers) and (outputs,).
    """
    middle, level = weights @ read, weights @ y
    centred = (read - middle) * weights[:, None]
    gram = centred.mT @ (read - middle) + decay * torch.eye(read.shape[1], dtype=read.dtype, device=read.device)
    weight = torch.linalg.solve(gram, centred.mT @ (y - level)).mT
    return weight, level - weight @ middle
