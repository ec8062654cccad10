"""A stand-in for Clerk that knows its instance, and three pending invitations in every organization."""

import asyncio
import json
import sys
import time

INVITATIONS = 3
INSTANCE = "ins_000000000000000000000000001"


class Answers(asyncio.Protocol):
    """Answers every GET with the invitations; keeps connections open."""

    body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            self.waiting = self.waiting[end + 4 :]
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(self.body)}\r\n\r\n"
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(head.encode() + self.body)


def _invitation(number: int) -> dict[str, object]:
    at = int(time.time() * 1000)
    return {
        "id": f"orginv_{number:027d}",
        "object": "organization_invitation",
        "email_address": f"invited{number}@example.com",
        "role": "org:member",
        "role_name": "Member",
        "organization_id": "org_000000000000000000000000000",
        "status": "pending",
        "public_metadata": {},
        "private_metadata": {},
        "created_at": at - number,
        "updated_at": at - number,
        "expires_at": at + 30 * 86_400_000,
    }


async def serve(port: int) -> None:
    found = [_invitation(number) for number in range(INVITATIONS)]
    Answers.body = json.dumps({"id": INSTANCE, "data": found, "total_count": len(found)}).encode()
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
