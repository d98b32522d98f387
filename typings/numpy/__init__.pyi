# NumPy is not a dependency, but Polars' annotations name it. Without this stub every Polars
# signature is "partially unknown" to a strict type checker.
from typing import Any, Generic, TypeVar

_Shape = TypeVar("_Shape")
_DType = TypeVar("_DType")

class dtype(Generic[_DType]): ...
class ndarray(Generic[_Shape, _DType]): ...

def __getattr__(name: str) -> Any: ...
