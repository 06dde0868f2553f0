"""Inside a process that `tools/portable.py` starts: gradients that differ by rounding, and asserts that are recorded.

In a chapter's kernel the harness calls `watch`. In the tests, this module is a plugin of pytest, `-p tools.watch`.
"""

from __future__ import annotations

import ast
import math
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

SIZE = 1e-6  # of the jitter, relative to each entry
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
NOT_IN_A_LAMBDA = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)


def check(cell: int, line: int, what: str, problem: str | None = None) -> dict:
    """What one run found at one place: a problem or None, and, of an assert, its comparisons as [left, sign, right].

    Line 0 is the whole cell, cell -1 the whole run, or a test.
    """
    return {"cell": cell, "line": line, "what": what, "problem": problem, "sides": []}


def install_jitter(seed: int) -> Callable[[], None]:
    """From now on, shake each float32 gradient before an optimizer's step and after `Variable.backward`; seed 0 does nothing.

    The noise depends on the seed and the gradient alone, so that two runs which must agree in every bit still do. It is not
    the same at each step, since Adam divides by what an entry is always multiplied by. Returns the function that takes it away.
    """
    if not seed:
        return lambda: None
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from tutorlib.autograd import Variable

    @cache
    def factors(shape):
        return 1 + SIZE * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def shaken(gradient):
        noise = factors(gradient.shape).to(gradient.device)
        turn = int(gradient.contiguous().view(torch.int32).sum()) % 10_007  # a prime: another place at each step
        return gradient * noise.flatten().roll(turn).view(gradient.shape)

    def before_step(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for gradient in gradients:
            if gradient.dtype == torch.float32 and not gradient.is_sparse:
                gradient.data.copy_(shaken(gradient.data))

    def backward(variable, *arguments, **options):
        plain(variable, *arguments, **options)
        for leaf in variable._from_last_to_first():
            if not leaf.parents and leaf.grad.dtype == torch.float32 and leaf.grad.dim() > 1:  # a curve of slopes is exact
                leaf.grad = shaken(leaf.grad)

    plain, Variable.backward = Variable.backward, backward
    handle = register_optimizer_step_pre_hook(before_step)

    def remove() -> None:
        Variable.backward = plain
        handle.remove()

    return remove


def jitter_of_the_condition() -> None:
    install_jitter(int(os.environ.get("PORTABLE_JITTER", "0")))


def pytest_configure() -> None:
    """As a plugin of pytest, this module brings the jitter."""
    jitter_of_the_condition()


def watch(shell, cells: list[tuple[int, bool]]) -> None:
    """From the next cell on, record every assert. `cells` are those that follow: (number, whether it may raise)."""
    jitter_of_the_condition()
    shell.user_ns["__asserts__"] = asserts = Asserts(shell, cells)
    shell.ast_transformers.append(asserts)


class Asserts(ast.NodeTransformer):
    """Rewrites `assert a < b, why` to `with __asserts__.checked(...): assert __asserts__.compare(["<"], a, lambda: b), why`.

    Both sides are evaluated once, in their order, and `and`, `or`, `all` and `any` stop where they would. An assert that fails
    is recorded and passed over, except where its exception may be meant: in a function, a `try`, or a cell that may raise.
    """

    def __init__(self, shell, cells: list[tuple[int, bool]]):
        self.shell, self.cells, self.within = shell, cells, 0
        self.before = shell.execution_count + 1
        self.checks, self.open = [], []

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        number, may_raise = self.cells[self.shell.execution_count - self.before]
        what, go_on = ast.unparse(node.test), not (self.within or may_raise)
        if not any(isinstance(part, NOT_IN_A_LAMBDA) for part in ast.walk(node.test)):
            node.test = apart(node.test)
        wrapper = ast.parse(f"with __asserts__.checked({number}, {node.lineno}, {what!r}, {go_on}): pass").body[0]
        ast.increment_lineno(wrapper, node.lineno - 1)
        wrapper.body = [node]
        return ast.fix_missing_locations(wrapper)

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:
        self.within += 1
        self.generic_visit(node)
        self.within -= 1
        return node

    visit_AsyncFunctionDef = visit_Try = visit_TryStar = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node  # a lambda does not see the names of a class's body

    @contextmanager
    def checked(self, cell: int, line: int, what: str, go_on: bool) -> Iterator[None]:
        """Around one assert."""
        found = check(cell, line, what)
        self.open.append(found)
        try:
            yield
        except Exception as error:
            if not go_on:
                raise
            found["problem"] = f"{type(error).__name__}: {error}".removesuffix(": ")
        finally:
            self.checks.append(self.open.pop())

    def compare(self, signs: list[str], left, *later: Callable):
        """left sign right sign ..., as Python evaluates it."""
        for place, (sign, right) in enumerate(zip(signs, later), 1):
            right = right()
            verdict = COMPARE[sign](left, right)
            if sign != "!=" and (sides := decisive(left, sign, right)):
                self.open[-1]["sides"].append(sides)
            if place == len(signs) or not verdict:
                break
            left = right
        return verdict


def apart(test: ast.expr) -> ast.expr:
    """The test with its comparisons handed to `__asserts__`; those inside an argument or an index stay as they are."""
    match test:
        case ast.BoolOp():
            test.values = [apart(value) for value in test.values]
        case ast.UnaryOp(op=ast.Not()):
            test.operand = apart(test.operand)
        case ast.GeneratorExp() | ast.ListComp():
            test.elt = apart(test.elt)
        case ast.IfExp():
            test.body, test.orelse = apart(test.body), apart(test.orelse)
        case ast.Call(func=ast.Name(id="all" | "any") | ast.Attribute(value=ast.Name(), attr="all")):  # also torch.all(...)
            test.args = [apart(argument) for argument in test.args]
        case ast.Call(func=ast.Attribute(value=ast.Compare(), attr="all")):  # (a < b).all()
            test.func.value = apart(test.func.value)
        case ast.Compare() if all(type(sign) in SIGNS for sign in test.ops):
            call = ast.parse(f"__asserts__.compare({[SIGNS[type(sign)] for sign in test.ops]})", mode="eval").body
            nothing = ast.arguments([], [], None, [], [], None, [])
            call.args += [test.left, *(ast.Lambda(nothing, side) for side in test.comparators)]
            return call
    return test


def decisive(left, sign: str, right) -> list | None:
    """[left, sign, right] as numbers; of tensors, the entries that are closest to breaking the comparison, or break it most."""
    import numpy

    def array(side):
        if isinstance(side, (str, bytes, list, tuple)):  # these are not ordered entry by entry
            raise TypeError
        return side.detach().cpu().double().numpy() if hasattr(side, "detach") else numpy.asarray(side, dtype=float)

    try:
        with numpy.errstate(all="ignore"):  # a warning would be an output of the cell
            left, right = (side.ravel() for side in numpy.broadcast_arrays(array(left), array(right)))
            excess = {"=": abs, "<": numpy.positive, ">": numpy.negative}[sign[0]](left - right)
            sides = [float(left[excess.argmax()]), sign, float(right[excess.argmax()])]
    except Exception:  # not numbers, or none at all; whatever it is, the assert itself must not notice
        return None
    return sides if math.isfinite(sides[0] - sides[2]) else None
