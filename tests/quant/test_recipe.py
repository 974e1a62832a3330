from __future__ import annotations

import math

import pytest

from aipc.errors import RecipeError
from aipc.graph import Weight
from aipc.graph.inventory import Role, WeightUse
from aipc.quant import Scheme
from aipc.quant.recipe import Recipe


def use(name: str, shape: tuple[int, ...], *roles: Role) -> WeightUse:
    return WeightUse(Weight(name, shape), frozenset(roles))


USES = [
    use("embed", (512, 128), Role.EMBEDDING),
    use("norm", (128,), Role.NORM),
    use("qkv", (384, 128), Role.LINEAR),
    use("o", (128, 128), Role.LINEAR),
    use("down", (128, 512), Role.LINEAR),
    use("head", (512, 128), Role.HEAD),
]


def labels(recipe: Recipe, errors: dict[str, float] | None = None) -> dict[str, str]:
    def measured(use: WeightUse, scheme: Scheme) -> float:
        assert errors is not None, "no error should be asked for"
        return errors[use.name]

    return {name: scheme.label for name, scheme in recipe.assign(USES, measured).items()}


def test_int4_keeps_embedding_and_head_at_int8_and_norms_at_fp32() -> None:
    assert labels(Recipe("int4")) == {
        "embed": "int8-asym",
        "norm": "fp32",
        "qkv": "int4-g128-sym",
        "o": "int4-g128-sym",
        "down": "int4-g128-sym",
        "head": "int8-asym",
    }


def test_all_layers_takes_embedding_and_head_to_int4() -> None:
    assert set(labels(Recipe("int4", all_layers=True)).values()) == {"int4-g128-sym", "fp32"}


def test_int8_is_asymmetric_and_int4_symmetric_unless_told() -> None:
    assert labels(Recipe("int8"))["qkv"] == "int8-asym"
    assert labels(Recipe("int8", symmetric=True))["qkv"] == "int8-sym"
    assert labels(Recipe("int4", group_size=32, symmetric=False))["qkv"] == "int4-g32-asym"
    assert labels(Recipe("fp16"))["head"] == "fp16"


def test_ratio_gives_int4_to_the_weights_with_the_least_measured_error_within_the_share() -> None:
    errors = {"qkv": 0.3, "o": 0.1, "down": 0.2}
    chosen = labels(Recipe("int4", ratio=0.65), errors)
    assert {name for name, label in chosen.items() if label.startswith("int4")} == {"o", "down"}
    linear = {item.name: math.prod(item.shape) for item in USES if item.is_linear}
    assert (linear["o"] + linear["down"]) / sum(linear.values()) <= 0.65
    assert chosen["qkv"] == "int8-asym"


def test_ratio_zero_is_int8_everywhere_without_measuring() -> None:
    assert "int4-g128-sym" not in labels(Recipe("int4", ratio=0.0)).values()


def test_a_group_size_that_does_not_divide_names_the_weight_and_one_that_does() -> None:
    uses = [use("model.layers.0.mlp.down_proj.weight", (128, 96), Role.LINEAR)]
    with pytest.raises(RecipeError, match=r"down_proj.*96 columns\ntry: --group-size 32"):
        Recipe("int4", group_size=64).assign(uses, lambda use, scheme: 0.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"weights": "int3"}, "--weights"),
        ({"weights": "int4", "group_size": 48}, "--group-size"),
        ({"weights": "int4", "group_size": 0}, "--group-size"),
        ({"weights": "int4", "ratio": 1.5}, "--ratio"),
        ({"weights": "int4", "ratio": float("nan")}, "--ratio"),
        ({"weights": "int8", "group_size": 48}, "--group-size"),
        ({"weights": "fp16", "group_size": 128}, "--group-size"),
        ({"weights": "fp32", "symmetric": True}, "--sym"),
        ({"weights": "int8", "ratio": 0.5}, "--ratio"),
        ({"weights": "fp16", "symmetric": True}, "--sym"),
        ({"weights": "fp16", "all_layers": True}, "--all-layers"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused_naming_the_flag(arguments: dict, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        Recipe(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"ratio": "x"}, {"ratio": None}, {"group_size": "x"}, {"symmetric": "x"}, {"all_layers": "x"}, {"weights": None}],
)
def test_a_value_of_another_type_is_refused_with_what_was_expected(arguments: dict) -> None:
    with pytest.raises(RecipeError, match=r"expected .*found "):
        Recipe(**arguments)
