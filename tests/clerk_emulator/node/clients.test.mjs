// Clerk's own SDK for Node on the emulator: everything a server does with it.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { before, mock, test } from "node:test";
import { createClerkClient } from "@clerk/backend";
import { verifyWebhook } from "@clerk/backend/webhooks";

const url = process.env.CLERK_API_URL;
const keys = { secretKey: process.env.CLERK_SECRET_KEY, publishableKey: process.env.CLERK_PUBLISHABLE_KEY };
const clerk = createClerkClient({ ...keys, apiUrl: url });

const desk = async (path, body, method = "POST") => {
  const answer = await fetch(`${url}/_emulator${path}`, { method, body: body && JSON.stringify(body) });
  assert.equal(answer.status, 200, path);
  return answer.json();
};
const person = (name = "ada") => clerk.users.createUser({ emailAddress: [`${name}@example.com`], firstName: name });
const firm = async () => {
  const ada = await person();
  return [await clerk.organizations.createOrganization({ name: "Northwind Law", createdBy: ada.id }), ada];
};

before(() => desk("/reset"));

test("users are made, listed, counted, changed, banned and deleted", async () => {
  await desk("/reset");
  const ada = await person();
  await person("bo");
  const { data, totalCount } = await clerk.users.getUserList({ limit: 1, orderBy: "+created_at" });
  assert.deepEqual([data[0].id, totalCount], [ada.id, 2]);
  assert.equal((await clerk.users.updateUser(ada.id, { lastName: "North" })).lastName, "North");
  assert.deepEqual((await clerk.users.updateUserMetadata(ada.id, { publicMetadata: { a: 1 } })).publicMetadata, { a: 1 });
  assert.equal((await clerk.users.banUser(ada.id)).banned, true);
  assert.equal((await clerk.users.unbanUser(ada.id)).banned, false);
  assert.equal((await clerk.users.deleteUser(ada.id)).deleted, true);
  await assert.rejects(clerk.users.getUser(ada.id), (error) => error.status === 404 && Boolean(error.clerkTraceId));
});

test("a picture is uploaded", async () => {
  await desk("/reset");
  const ada = await person();
  const file = new Blob([new Uint8Array([137, 80, 78, 71])], { type: "image/png" });
  const changed = await clerk.users.updateUserProfileImage(ada.id, { file });
  assert.equal(changed.hasImage, true);
  assert.equal((await fetch(changed.imageUrl)).headers.get("content-type"), "image/png");
});

test("organizations, members, roles and invitations", async () => {
  await desk("/reset");
  const [made, ada] = await firm();
  const bo = await person("bo");
  const place = { organizationId: made.id };
  await clerk.organizations.createOrganizationMembership({ ...place, userId: bo.id, role: "org:member" });
  const members = await clerk.organizations.getOrganizationMembershipList(place);
  assert.equal(members.totalCount, 2);
  const invited = await clerk.organizations.createOrganizationInvitation({
    ...place, emailAddress: "cy@example.com", role: "org:member", inviterUserId: ada.id,
  });
  const pending = await clerk.organizations.getOrganizationInvitationList({ ...place, status: ["pending"] });
  assert.equal(pending.data[0].id, invited.id);
  const revoked = await clerk.organizations.revokeOrganizationInvitation({ ...place, invitationId: invited.id });
  assert.equal(revoked.status, "revoked");
  const left = await clerk.organizations.deleteOrganizationMembership({ ...place, userId: bo.id });
  assert.equal(left.publicUserData.userId, bo.id);
});

test("addresses, numbers, lists, tokens and machines", async () => {
  await desk("/reset");
  const ada = await person();
  const mail = await clerk.emailAddresses.createEmailAddress({ userId: ada.id, emailAddress: "a2@example.com", verified: true });
  assert.equal((await clerk.emailAddresses.updateEmailAddress(mail.id, { primary: true })).id, mail.id);
  const phone = await clerk.phoneNumbers.createPhoneNumber({ userId: ada.id, phoneNumber: "+15555550100", verified: true });
  assert.equal((await clerk.phoneNumbers.getPhoneNumber(phone.id)).phoneNumber, "+15555550100");
  await clerk.allowlistIdentifiers.createAllowlistIdentifier({ identifier: "bo@example.com", notify: false });
  assert.equal((await clerk.allowlistIdentifiers.getAllowlistIdentifierList()).totalCount, 1);
  const made = await clerk.invitations.createInvitation({ emailAddress: "bo@example.com" });
  assert.equal((await clerk.invitations.getInvitationList()).data[0].id, made.id);
  const token = await clerk.signInTokens.createSignInToken({ userId: ada.id, expiresInSeconds: 60 });
  assert.equal((await clerk.signInTokens.revokeSignInToken(token.id)).status, "revoked");
  assert.ok((await clerk.testingTokens.createTestingToken()).token);
  await clerk.jwtTemplates.create({ name: "backend", claims: { mail: "{{user.primary_email_address}}" } });
  const session = await clerk.sessions.createSession({ userId: ada.id });
  assert.ok((await clerk.sessions.getToken(session.id, "backend")).jwt);
  const machine = await clerk.machines.create({ name: "Mailer" });
  const issued = await clerk.m2m.createToken({ machineSecretKey: machine.secretKey });
  assert.equal((await clerk.m2m.verify({ token: issued.token })).subject, machine.id);
});

test("a webhook is verified, and a forged one is not", async () => {
  await desk("/reset");
  const got = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, headers } = request;
    got.push(new Request("http://app.test/webhooks", { method, headers, body: Buffer.concat(chunks) }));
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const endpoint = await desk("/endpoints", { url: `http://127.0.0.1:${server.address().port}/` });
  const ada = await person();
  await desk("/deliveries/drain");
  server.close();
  const forged = got[0].clone();
  const event = await verifyWebhook(got[0], { signingSecret: endpoint.secret });
  assert.deepEqual([event.type, event.data.id], ["user.created", ada.id]);
  await assert.rejects(verifyWebhook(forged, { signingSecret: `whsec_${Buffer.from("another secret").toString("base64")}` }));
  await desk(`/endpoints/${endpoint.id}`, undefined, "DELETE");
});

test("a request is authenticated by its header", async () => {
  await desk("/reset");
  const [made, ada] = await firm();
  const session = await clerk.sessions.createSession({ userId: ada.id });
  const { jwt } = await clerk.sessions.getToken(session.id);
  const request = new Request("http://127.0.0.1:3000/", { headers: { authorization: `Bearer ${jwt}` } });
  const auth = (await clerk.authenticateRequest(request, keys)).toAuth();
  assert.deepEqual([auth.userId, auth.orgId, auth.orgRole], [ada.id, made.id, "org:admin"]);
});

test("a browser is authenticated by its cookies, after the handshake", async () => {
  await desk("/reset");
  const ada = await person();
  const signIn = await fetch(`${url}/sign-in`, {
    method: "POST", body: new URLSearchParams({ user_id: ada.id }), redirect: "manual",
  });
  const client = signIn.headers.getSetCookie().find((cookie) => cookie.startsWith("__client=")).split(";")[0];
  const page = (address, cookie) =>
    new Request(address, { headers: { cookie, accept: "text/html", "sec-fetch-dest": "document" } });
  const options = { ...keys, proxyUrl: `${url}/__clerk` };
  const uat = `__client_uat=${Math.floor(Date.now() / 1000)}`;
  const first = await clerk.authenticateRequest(page("http://127.0.0.1:3000/home", uat), options);
  assert.equal(first.status, "handshake");
  const there = first.headers.get("location");
  const back = await fetch(there, { headers: { cookie: client }, redirect: "manual" });
  assert.equal(back.status, 307);
  const second = await clerk.authenticateRequest(page(back.headers.get("location"), uat), options);
  const cookies = second.headers.getSetCookie().map((cookie) => cookie.split(";")[0]).filter((one) => !one.endsWith("="));
  const third = await clerk.authenticateRequest(page("http://127.0.0.1:3000/home", cookies.join("; ")), options);
  assert.equal(third.status, "signed-in", third.reason);
  assert.equal(third.toAuth().userId, ada.id);
  // The same cookies later, with a token that ran out: the server gets a new one, and sends nobody away.
  const { jwt } = await clerk.sessions.getToken(third.toAuth().sessionId, undefined, 30);
  const stale = cookies.map((cookie) => (cookie.startsWith("__session") ? `${cookie.split("=")[0]}=${jwt}` : cookie));
  mock.timers.enable({ apis: ["Date"], now: Date.now() + 50_000 });
  const later = await clerk.authenticateRequest(page("http://127.0.0.1:3000/home", stale.join("; ")), options);
  mock.timers.reset();
  assert.deepEqual([later.status, later.toAuth()?.userId], ["signed-in", ada.id], later.reason);
  assert.ok(later.headers.getSetCookie().some((cookie) => cookie.startsWith("__session_")));
});
