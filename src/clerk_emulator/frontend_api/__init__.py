"""Frontend API for Clerk's browser scripts, the hosted pages, the handshake and public keys.

A new route of the Frontend API is a function that takes a `FrontendCall` and returns JSON, in a module with a tuple
`ROUTES` of `FrontendRoute(method, path, operationId, handler)`; the module goes into `route_table.ROUTE_MODULES`. The
path is the one of the specification without `/v1`; `call.params` has its values, `call.query` and `call.fields` the
parameters, `call.files` the uploads. `call.session` and `call.user` are those of the browser, or 401;
`call.find_client()` is the client, or None; `call.membership(organization_id)` is the user's membership, or an error.
The result becomes `response` in the envelope, beside the `client`; an `UnwrappedResponse` is sent as it is. Errors
are raised (`state.errors`); changes are made by the functions of `state`, which publish the events.
"""
