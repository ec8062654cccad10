"""What browsers meet: the Frontend API for Clerk's own scripts, hosted pages, the handshake, and the public keys.

A new route of the Frontend API: a function that takes a `visit.Visit` and returns JSON, in a module with a tuple
`ROUTES` of `visit.Route(method, path, operationId, handler)`; the module goes into `table.MODULES`. The path is the one
of the specification without `/v1`; `visit.params` has its values, `visit.query` and `visit.fields` what was sent,
`visit.files` what was uploaded. `visit.session` and `visit.user` are whom the browser asks for, or 401;
`visit.find_client()` is the browser itself, or None; `visit.membership(id)` is the user's in an organization, or a
refusal. What is returned becomes `response` in the envelope, beside the `client`; `visit.Bare(...)` is answered as it
is. A refusal is raised (`state.refusals`); changes are made by the laws of `state`, which tell of them.
"""
