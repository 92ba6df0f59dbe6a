"""Classes under the decorator `options` of this package are dataclasses, documented with their parameters."""

from typing import Any

from griffe import Class, ExprAttribute, ExprName, Extension


class Options(Extension):
    """Reads `@options` as `@dataclass`."""

    def on_class_members(self, *, cls: Class, **kwargs: Any) -> None:
        """What griffe calls with every class it has read."""
        for decorator in cls.decorators:
            if str(decorator.value).partition("(")[0] == "options":
                module = ExprName("dataclasses")
                decorator.value = ExprAttribute([module, ExprName("dataclass", module)])
