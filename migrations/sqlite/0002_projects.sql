-- The oldest gateway that may work on these tables: one that knows at least the migration `version`. Migrations only
-- add, so that the version before goes on working beside the new one; one that takes away what an older gateway needs
-- raises this number.
create table schema_floor (
    version bigint not null
);

insert into schema_floor (version) values (1);

-- Projects: whom a key belongs to. The id is chosen by people, and is what the ledger names.
create table projects (
    id          text   not null primary key,
    name        text   not null,
    tags        text   not null,
    created_at  bigint not null,
    archived_at bigint
);

insert into projects (id, name, tags, created_at) values ('default', 'Default', '[]', 0);

alter table keys add column project_id text not null default 'default';
alter table keys add column tags text not null default '[]';

-- What administrators did, in the order of it: ids are ULIDs.
create table audit (
    id          text   not null primary key,
    at          bigint not null,
    actor       text   not null,
    action      text   not null,
    object_kind text   not null,
    object_id   text   not null,
    detail      text   not null
);

create index audit_by_object on audit (object_kind, object_id, id);

-- Hashes of secrets the gateway has made for itself, by what they are for.
create table secrets (
    name       text   not null primary key,
    hash       text   not null check (length(hash) = 64),
    created_at bigint not null
);
