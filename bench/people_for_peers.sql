-- The list work of the peers' run, in our tables: :members people and memberships with the ids that the peers load,
-- 1,000 organizations, half of all members in the first. Our own ids are made from the numbers. The index of search
-- is made at the end, for speed.
DROP INDEX IF EXISTS ix_instep_users_search, ix_instep_memberships_search;
ALTER TABLE instep_memberships DISABLE TRIGGER ALL;
INSERT INTO instep_users (id, clerk_id, email, is_email_verified, first_name, last_name, username, image_url,
       public_metadata, sort_name, search_text, joined_at, version, digest, changed_at)
SELECT 'usr_' || lpad(i::text, 9, '0'), 'user_' || lpad(i::text, 27, '0'), 'member' || i || '@example.com', true,
       'First' || i, 'Last' || i, 'member' || i, 'https://img.clerk.com/' || i, '{"plan":"team"}',
       'first' || i || ' last' || i, 'first' || i || ' last' || i || ' member' || i || '@example.com member' || i,
       1700000000000 + i * 1000, 1700000000000 + i * 1000, 'bench', 1700000000000
FROM generate_series(0::bigint, :members - 1) i;
INSERT INTO instep_organizations (id, clerk_id, name, slug, joined_at, version, digest, changed_at)
SELECT 'ogn_' || lpad(o::text, 9, '0'), 'org_' || lpad(o::text, 27, '0'), 'Acme ' || o, 'acme-' || o,
       1700000000000, 0, 'bench', 1700000000000
FROM generate_series(0, 999) o;
INSERT INTO instep_memberships (id, clerk_id, organization_id, user_id, role, status, sort_name, search_text,
       joined_at, version, digest, changed_at)
SELECT 'mbr_' || lpad(i::text, 9, '0'), 'orgmem_' || lpad(i::text, 27, '0'),
       'ogn_' || lpad((CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + (i / 2) % 999 END)::text, 9, '0'), u.id,
       'org:member', 'active', u.sort_name, u.search_text, 1700000000000 + i * 1000, 1700000000000 + i * 1000,
       'bench', 1700000000000
FROM generate_series(0::bigint, :members - 1) i
JOIN instep_users u ON u.clerk_id = 'user_' || lpad(((i * 7919) % :members)::text, 27, '0')
ORDER BY i;
INSERT INTO instep_member_counts (organization_id, status, role, members)
SELECT organization_id, status, role, count(*) FROM instep_memberships GROUP BY 1, 2, 3;
ALTER TABLE instep_memberships ENABLE TRIGGER ALL;
CREATE INDEX ix_instep_users_search ON instep_users USING gin ((search_text || '') gin_trgm_ops);
CREATE INDEX ix_instep_memberships_search ON instep_memberships
  USING gin ((search_text || '  ' || right(organization_id, 3)) gin_trgm_ops);
