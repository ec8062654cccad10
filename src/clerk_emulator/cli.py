"""The `clerk-emulator` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clerk_emulator.control import data_generator
from clerk_emulator.control.seed_file import SeedFile
from clerk_emulator.serve.emulator import Emulator
from clerk_emulator.serve.server import PortInUseError, bind, create_server, server_url, stop_on_eof
from clerk_emulator.serve.supported_page import render_page
from clerk_emulator.state.settings import SETTING_CHOICES

EPILOG = "CLERK_SECRET_KEY and CLERK_PUBLISHABLE_KEY pin the keys if the options are not given."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (PortInUseError, ValueError, OSError) as error:
        print(f"clerk-emulator: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clerk-emulator", description="An emulator of Clerk for development and tests."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    supported = commands.add_parser("supported", help="print the supported operations as Markdown")
    supported.set_defaults(run=lambda options: print(render_page(), end=""))
    serve = commands.add_parser("serve", help="serve until stopped", epilog=EPILOG)
    serve.set_defaults(run=_serve)
    serve.add_argument("--port", type=int, default=8001, help="port; 0 selects a free one (default: %(default)s)")
    serve.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    serve.add_argument("--state", type=Path, metavar="FILE", help="store the state in this file")
    serve.add_argument("--seed", type=Path, metavar="FILE", help="load this JSON or YAML seed if there are no users")
    serve.add_argument(
        "--generate", type=_parse_counts, metavar="U,O,M", help="generate users, organizations, memberships"
    )
    serve.add_argument("--retry-scale", type=float, default=1.0, metavar="X", help="shorten webhook retries")
    serve.add_argument("--public-url", metavar="URL", help="address for clients (default: host and port)")
    serve.add_argument("--npm", type=Path, metavar="DIR", help="npm folder with Clerk's browser scripts, to serve them")
    serve.add_argument("--profile", choices=SETTING_CHOICES["profile"], help="minimal: return as little as Clerk may")
    serve.add_argument("--until-stdin-closes", action="store_true", help="stop when the parent process closes stdin")
    serve.add_argument("--secret-key", default=os.environ.get("CLERK_SECRET_KEY"), metavar="sk_test_...")
    serve.add_argument("--publishable-key", default=os.environ.get("CLERK_PUBLISHABLE_KEY"), metavar="pk_test_...")
    serve.add_argument(
        "--allow-redirect-host",
        action="append",
        default=[],
        metavar="HOST",
        help="allow redirects to this host besides this machine; * for all",
    )
    return parser


def _serve(options: argparse.Namespace) -> None:
    file = SeedFile(options.seed) if options.seed is not None else None
    pinned = file.keys if file else {}
    listener = bind(options.host, options.port)
    with listener:
        address = server_url(options.host, listener)
        emulator = Emulator(
            state_file=options.state,
            public_url=options.public_url or address,
            secret_key=options.secret_key or pinned.get("secret_key"),
            retry_scale=options.retry_scale,
            publishable_key=options.publishable_key or pinned.get("publishable_key"),
            private_key=pinned.get("private_key"),
            redirect_hosts=options.allow_redirect_host,
            npm=options.npm,
            profile=options.profile,
        )
        if not len(emulator.state.users):
            _seed_emulator(emulator, file, options.generate)
        emulator.save()
        print(_startup_message(emulator, address), flush=True)
        server = create_server(emulator)
        if options.until_stdin_closes:
            stop_on_eof(sys.stdin.buffer, server)
        server.run(sockets=[listener])


def _seed_emulator(emulator: Emulator, file: SeedFile | None, counts: dict[str, int] | None) -> None:
    if file is not None:
        try:
            emulator.seed(file.seed)
        except ValueError as error:
            raise file.explain(error) from error
    if counts is not None:
        data_generator.generate(emulator.state, counts)


def _parse_counts(text: str) -> dict[str, int]:
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) > len(data_generator.KINDS):
        raise ValueError(text)
    return dict(zip(data_generator.KINDS, numbers, strict=False))


def _startup_message(emulator: Emulator, address: str) -> str:
    title = f"Clerk emulator on {address} (for development; sends nothing to Clerk)"
    return "\n".join([title, *(f"  {name}={value}" for name, value in emulator.site.variables.items())])
