"""Classification by a controlled ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional

from cde_nets.estimators.base import ControlledODEEstimator
from cde_nets.estimators.network import SphereNetwork
from cde_nets.estimators.weights import balance, distinct


class ControlledODEClassifier(ClassifierMixin, ControlledODEEstimator):
    """Classes by a linear readout of a controlled ODE dX = sum_i u_i(t) V_i(X) dt on a sphere.

    Features are standardised and lifted to the sphere; the fields V_i are random polynomials tangent to it, frozen;
    trained are the controls u_i and a readout of the flow's end beside the standardised features. So a flow that does
    nothing leaves logistic regression, and what it adds is bounded whatever comes in.

    The mean cross-entropy is minimised by L-BFGS, with penalties alpha |W|^2 / (2 n) on the readout and
    energy * int |u|^2 dt / n on the control, n the sum of the weights.

    Args:
        dim: m, of the space around the sphere; features + 2 where None, at most 16. Where the features do not fit into
            m - 1 numbers, their principal components flow, and the readout still sees all features.
        count: d, fields.
        intervals: M, on each of which the controls are constant, and one step of the classical Runge-Kutta method.
        degree: of the fields, 1 to 4; 1 only rotates the sphere.
        spread: root mean square distance of the lifted features from the pole, before they are put on the sphere.
        alpha: of the readout's penalty.
        energy: of the control's penalty: larger is smoother.
        max_iter: iterations of L-BFGS.
        tol: stop where an iteration lowers the objective by less than this share of it, or of 1 where it is smaller.
        class_weight: "balanced", or a weight for each class; multiplies sample weights.
        warm_start: go on from the last fit, with its fields and its standardisation, where shapes agree.
        random_state: of the fields and the first control; the same numbers to the bit from the same integer.
        verbose: show a progress bar on standard error.

    Attributes:
        classes_: labels, shape (classes,).
        flow_: the trained `ControlledODE`.
        fields_: its fields as `SphericalFields`, for `theory.check_points`.
        network_: the module from features to logits.
        trained_numbers_: how many numbers were trained, the readout's included.
        loss_: the objective, in the end; loss_curve_ after every iteration.
        n_iter_: iterations.
        off_sphere_: how far the steps took the training samples off the sphere, relative to its radius.
        n_features_in_: features.
        feature_names_in_: their names, of a data frame.

    Raises:
        ValueError: at `fit`, parameters out of range, fewer than two samples or classes, numbers that are not finite.

    Examples:
        >>> from sklearn.datasets import make_circles
        >>> import cde_nets as cn
        >>> X, y = make_circles(200, noise=0.05, factor=0.5, random_state=0)
        >>> cn.ControlledODEClassifier(random_state=0).fit(X, y).score(X, y)
        1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ControlledODEEstimator._parameter_constraints,
        "class_weight": [dict, str, None],
    }

    def __init__(
        self,
        *,
        dim: int | None = None,
        count: int = 16,
        intervals: int = 4,
        degree: int = 2,
        spread: float = 0.5,
        alpha: float = 1.0,
        energy: float = 5.0,
        max_iter: int = 100,
        tol: float = 1e-7,
        class_weight: str | dict[Any, float] | None = None,
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
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ControlledODEClassifier:
        """Train the controls and the readout.

        Args:
            X: shape (samples, features).
            y: labels, shape (samples,).
            sample_weight: at least 0, shape (samples,); a weight of 2 is a sample given twice, 0 one left out.

        Raises:
            ValueError: as the class.
        """
        X, y = self._start(X, y)
        check_classification_targets(y)
        before = getattr(self, "classes_", None)
        classes, labels = np.unique(y, return_inverse=True)
        X, labels, weights = distinct(X, labels, sample_weight)
        # Labels that only samples of weight 0 have are none.
        present, labels = np.unique(labels, return_inverse=True)
        classes = classes[present]
        if len(classes) < 2:
            raise ValueError(
                "ControlledODEClassifier needs samples of at least 2 classes, of positive weight; got 1 class: "
                f"{classes[0]!r}."
            )
        if self.warm_start and before is not None and not np.array_equal(before, classes):
            raise ValueError(
                f"warm_start=True goes on with the classes {before.tolist()}; y has {classes.tolist()}. Set "
                "warm_start=False to begin anew."
            )
        weights = balance(labels, weights, classes, self.class_weight)
        self.classes_ = classes
        self._fit(X, torch.from_numpy(labels), weights, 1 if len(classes) == 2 else len(classes))
        return self

    def _objective(
        self, network: SphereNetwork, start: Tensor, z: Tensor, y: Tensor, weights: Tensor
    ) -> Callable[[], Tensor]:
        decay = self.alpha / (2 * self._total)

        def objective() -> Tensor:
            logits = functional.linear(network.features(start, z), network.weight, network.bias)
            losses = functional.cross_entropy(_both(logits), y, reduction="none")
            return weights @ losses + decay * network.weight.square().sum()

        return objective

    def _searched(self, network: SphereNetwork) -> list[torch.nn.Parameter]:
        return list(network.parameters())

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Logits, shape (samples, classes); of two classes the second's over the first's, shape (samples,)."""
        check_is_fitted(self)
        logits: NDArray[Any] = self._outputs(X).numpy()
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities in the order of `classes_`, shape (samples, classes)."""
        check_is_fitted(self)
        found: NDArray[Any] = _both(self._outputs(X)).softmax(1).numpy()
        return found

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of probabilities, finite where those underflow; shape (samples, classes)."""
        check_is_fitted(self)
        found: NDArray[Any] = _both(self._outputs(X)).log_softmax(1).numpy()
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest labels, shape (samples,)."""
        check_is_fitted(self)
        labels: NDArray[Any] = self.classes_[_both(self._outputs(X)).argmax(1).numpy()]
        return labels


def _both(logits: Tensor) -> Tensor:
    """A logit a class: of two classes the first's is 0."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
