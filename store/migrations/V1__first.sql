-- The first schema. Whatever may hold a secret is sealed by the server (AES-256-GCM) before it comes
-- here; the database never sees a key. Times are the server's.

-- Which cluster this is, and which life of its versions.
create table cluster (
    one boolean primary key default true check (one),
    id text not null,
    incarnation text not null,
    -- Sealed with the master key that everything else is sealed with.
    key_check bytea not null
);

-- Who may write. A batch locks this row FOR SHARE; taking office updates it.
create table leader (
    one boolean primary key default true check (one),
    epoch bigint not null,
    holder text not null,
    since timestamptz not null default now()
);
insert into leader (epoch, holder) values (0, '');

-- How far the batches have come. It tells after a lost connection whether a batch was committed.
create table progress (
    one boolean primary key default true check (one),
    batch bigint not null,
    version bigint not null
);
insert into progress (batch, version) values (0, 0);

-- Contents of objects and of manifests, each once. The id is a keyed hash, so that it tells nobody
-- who lacks the key what a secret is.
create table bodies (
    id bytea primary key,
    sealed bytea not null
);

-- The wide half of an object: what changes seldom. The id is the version at which it was created.
create table objects (
    id bigint primary key,
    kind text not null,
    namespace text not null,
    name text not null,
    uid text not null,
    meta bytea not null,
    body bytea not null,
    unique (kind, namespace, name)
);
create index objects_body on objects (body);

-- The narrow half: what changes often.
create table states (
    id bigint primary key,
    version bigint not null,
    node text,
    status text
) with (fillfactor = 70);

-- The change log holds what each change undid: the state after a change is that before the next
-- change of the same object, or the object as it is. So a change costs only what it touched.
create table changes (
    version bigint primary key,
    at timestamptz not null,
    object bigint not null,
    -- 1 metadata, 2 body, 4 node, 8 status, 16 the object was created, 32 it was removed.
    touched smallint not null,
    kind text,
    old_version bigint,
    old_meta bytea,
    old_body bytea,
    old_node text,
    old_status text
);
create index changes_old_body on changes (old_body) where old_body is not null;

-- What git declared, as of one commit.
create table revisions (
    number bigint primary key,
    commit text not null,
    author text not null,
    subject text not null,
    at timestamptz not null,
    units text not null,
    problems text not null,
    confirm_trailer text,
    source_error text,
    changed integer not null,
    dropped integer not null
);

-- One declared object, valid from one revision until before another.
create table desired (
    unit text not null,
    kind text not null,
    namespace text not null,
    name text not null,
    content bytea not null,
    file text not null,
    line integer not null,
    commit text not null,
    from_revision bigint not null,
    to_revision bigint,
    primary key (kind, namespace, name, from_revision)
);
create unique index desired_now on desired (kind, namespace, name) where to_revision is null;
create index desired_content on desired (content);
create index desired_past on desired (to_revision) where to_revision is not null;

-- Objects that have once been healthy with a content.
create table healthy (
    kind text not null,
    namespace text not null,
    name text not null,
    content bytea not null,
    sealed bytea not null,
    primary key (kind, namespace, name, content)
);

-- Deletions that a person confirmed.
create table confirmations (
    id bigint generated always as identity primary key,
    commit text not null,
    keys text not null,
    who text not null,
    at timestamptz not null,
    unique (commit, who, at)
);

-- Webhook deliveries that were seen.
create table deliveries (
    source text not null,
    id text not null,
    at timestamptz not null,
    primary key (source, id)
);

-- The certificate authority, signing keys and the like.
create table secrets (
    name text primary key,
    sealed bytea not null
);

-- What parts of the server remember.
create table documents (
    name text primary key,
    sealed bytea not null
);

-- Who did what.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    username text not null,
    verb text not null,
    resource text not null,
    code integer not null,
    detail text not null
);
create index audit_at on audit (at);

-- Fails unless this epoch is the newest, and keeps it so until the transaction ends.
create function fence(ours bigint) returns void language plpgsql as $$
declare
    newest bigint;
begin
    select epoch into newest from leader for share;
    if newest is distinct from ours then
        raise exception 'another server leads' using errcode = 'TL001', detail = newest::text;
    end if;
end
$$;

-- Begins a batch: the epoch is ours, and the batch follows on the last one.
create function advance(ours bigint, this_batch bigint, this_version bigint) returns void language plpgsql as $$
begin
    perform fence(ours);
    update progress set batch = this_batch, version = this_version where batch = this_batch - 1;
    if not found then
        raise exception 'batch % does not follow on', this_batch using errcode = 'TL002';
    end if;
end
$$;
