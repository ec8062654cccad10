"""Refusals as JSON."""

from typing import Any

from clerk_emulator.state.refusals import Problem

Json = dict[str, Any]


def errors(problems: tuple[Problem, ...], trace_id: str) -> Json:
    """Return the body of an answer that says no."""
    return {"errors": [_error(problem) for problem in problems], "clerk_trace_id": trace_id}


def bare_errors(problems: tuple[Problem, ...]) -> Json:
    """Return such a body as the part of Clerk makes it that knows keys and tokens of machines."""
    return {"errors": [_without_meta(problem) for problem in problems]}


def _error(problem: Problem) -> Json:
    shape: Json = {
        "message": problem.message,
        "long_message": problem.long_message or problem.message,
        "code": problem.code,
    }
    if problem.meta:
        shape["meta"] = dict(problem.meta)
    return shape


def _without_meta(problem: Problem) -> Json:
    return {name: value for name, value in _error(problem).items() if name != "meta"}
